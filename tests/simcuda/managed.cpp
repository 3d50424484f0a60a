// Managed memory: it is always where it is needed, so advice and prefetching are only remembered.
#include "tests/simcuda/memory.hpp"
#include "tests/simcuda/stream.hpp"

namespace flexlom::sim {
namespace {

// memory_lock held. The range must lie in one managed allocation.
Allocation& managed_range(CUdeviceptr address, size_t bytes) {
  Allocation* a = allocation_at(address);
  require(bytes && a && a->kind == Kind::managed && bytes <= a->address + a->bytes - address);
  return *a;
}

CUdevice device_of(const CUmemLocation& location) {
  switch (location.type) {
    case CU_MEM_LOCATION_TYPE_DEVICE:
      return device_at(location.id).ordinal;
    case CU_MEM_LOCATION_TYPE_HOST:
    case CU_MEM_LOCATION_TYPE_HOST_NUMA:
    case CU_MEM_LOCATION_TYPE_HOST_NUMA_CURRENT:
      return CU_DEVICE_CPU;
    default:
      fail(CUDA_ERROR_INVALID_VALUE);
  }
}
CUmemLocation location_of(CUdevice device) {
  if (device == CU_DEVICE_CPU) return {CU_MEM_LOCATION_TYPE_HOST, 0};
  return {CU_MEM_LOCATION_TYPE_DEVICE, device};
}

CUresult prefetch_v2(Call& c, CUdeviceptr address, size_t bytes, CUmemLocation location,
                     unsigned flags, CUstream handle) {
  require(!flags);
  stream_of(c, handle);
  const CUdevice device = device_of(location);
  std::lock_guard guard(state().memory_lock);
  managed_range(address, bytes).last_prefetch = device;
  return CUDA_SUCCESS;
}
CUresult prefetch(Call& c, CUdeviceptr address, size_t bytes, CUdevice device, CUstream handle) {
  return prefetch_v2(c, address, bytes, location_of(device), 0, handle);
}

CUresult advise_v2(Call&, CUdeviceptr address, size_t bytes, CUmem_advise advice,
                   CUmemLocation location) {
  current_context();
  std::lock_guard guard(state().memory_lock);
  Allocation& a = managed_range(address, bytes);
  switch (advice) {
    case CU_MEM_ADVISE_SET_READ_MOSTLY:
      a.read_mostly = true;
      break;
    case CU_MEM_ADVISE_UNSET_READ_MOSTLY:
      a.read_mostly = false;
      break;
    case CU_MEM_ADVISE_SET_PREFERRED_LOCATION:
      a.preferred = device_of(location);
      break;
    case CU_MEM_ADVISE_UNSET_PREFERRED_LOCATION:
      a.preferred = CU_DEVICE_INVALID;
      break;
    case CU_MEM_ADVISE_SET_ACCESSED_BY:
    case CU_MEM_ADVISE_UNSET_ACCESSED_BY:
      device_of(location);
      break;
    default:
      fail(CUDA_ERROR_INVALID_VALUE);
  }
  return CUDA_SUCCESS;
}
CUresult advise(Call& c, CUdeviceptr address, size_t bytes, CUmem_advise advice, CUdevice device) {
  return advise_v2(c, address, bytes, advice, location_of(device));
}

CUresult range_get_attribute(Call&, void* out, size_t out_bytes, CUmem_range_attribute attribute,
                             CUdeviceptr address, size_t bytes) {
  require(out && out_bytes >= 4 && out_bytes % 4 == 0);
  current_context();
  std::lock_guard guard(state().memory_lock);
  const Allocation& a = managed_range(address, bytes);
  auto* values = static_cast<int*>(out);
  const auto type = [](CUdevice device) {
    return device == CU_DEVICE_INVALID ? int{CU_MEM_LOCATION_TYPE_INVALID}
                                       : int{location_of(device).type};
  };
  switch (attribute) {
    case CU_MEM_RANGE_ATTRIBUTE_READ_MOSTLY:
      *values = a.read_mostly;
      break;
    case CU_MEM_RANGE_ATTRIBUTE_PREFERRED_LOCATION:
    case CU_MEM_RANGE_ATTRIBUTE_PREFERRED_LOCATION_ID:
      *values = a.preferred;
      break;
    case CU_MEM_RANGE_ATTRIBUTE_LAST_PREFETCH_LOCATION:
    case CU_MEM_RANGE_ATTRIBUTE_LAST_PREFETCH_LOCATION_ID:
      *values = a.last_prefetch;
      break;
    case CU_MEM_RANGE_ATTRIBUTE_PREFERRED_LOCATION_TYPE:
      *values = type(a.preferred);
      break;
    case CU_MEM_RANGE_ATTRIBUTE_LAST_PREFETCH_LOCATION_TYPE:
      *values = type(a.last_prefetch);
      break;
    case CU_MEM_RANGE_ATTRIBUTE_ACCESSED_BY:
      for (size_t i = 0; i < out_bytes / 4; ++i) values[i] = CU_DEVICE_INVALID;
      break;
    default:
      fail(CUDA_ERROR_INVALID_VALUE);
  }
  return CUDA_SUCCESS;
}
CUresult range_get_attributes(Call& c, void** out, size_t* sizes, CUmem_range_attribute* attributes,
                              size_t count, CUdeviceptr address, size_t bytes) {
  require(out && sizes && attributes && count);
  for (size_t i = 0; i < count; ++i)
    range_get_attribute(c, out[i], sizes[i], attributes[i], address, bytes);
  return CUDA_SUCCESS;
}

}  // namespace
}  // namespace flexlom::sim

using namespace flexlom::sim;
SIM_EXPORT_PTSZ(cuMemPrefetchAsync, prefetch);
SIM_EXPORT_PTSZ(cuMemPrefetchAsync_v2, prefetch_v2);
SIM_EXPORT(cuMemAdvise, advise);
SIM_EXPORT(cuMemAdvise_v2, advise_v2);
SIM_EXPORT(cuMemRangeGetAttribute, range_get_attribute);
SIM_EXPORT(cuMemRangeGetAttributes, range_get_attributes);
