// Questions about addresses.
#include <cstring>

#include "tests/simcuda/memory.hpp"
#include "tests/simcuda/pool.hpp"
#include "tests/simcuda/vmm.hpp"

namespace flexlom::sim {
namespace {

CUresult mem_get_address_range(Call&, CUdeviceptr* base, size_t* bytes, CUdeviceptr address) {
  current_context();
  std::lock_guard guard(state().memory_lock);
  CUdeviceptr start = 0;
  size_t length = 0;
  if (const Allocation* a = allocation_at(address)) {
    start = a->address;
    length = a->bytes;
  } else if (const Mapping* m = mapping_at(address)) {
    start = m->address;
    length = m->bytes;
  } else {
    return CUDA_ERROR_NOT_FOUND;
  }
  if (base) *base = start;
  if (bytes) *bytes = length;
  return CUDA_SUCCESS;
}

template <class Value>
bool put(void* out, Value value) {
  memcpy(out, &value, sizeof value);
  return true;
}

bool on_host(const Allocation& a) { return a.kind == Kind::pinned || a.kind == Kind::registered; }

bool answer_allocation(const Allocation& a, CUdeviceptr address, CUpointer_attribute attribute,
                       void* out) {
  const bool host = on_host(a);
  switch (attribute) {
    case CU_POINTER_ATTRIBUTE_CONTEXT:
      return put(out, handle_of(a.pool ? current_context_or_null() : a.context));
    case CU_POINTER_ATTRIBUTE_MEMORY_TYPE:
      return put(out, host ? CU_MEMORYTYPE_HOST : CU_MEMORYTYPE_DEVICE);
    case CU_POINTER_ATTRIBUTE_DEVICE_POINTER:
      return put(out, address);
    case CU_POINTER_ATTRIBUTE_HOST_POINTER:
      if (!host && a.kind != Kind::managed) return false;
      return put(out, reinterpret_cast<void*>(address));
    case CU_POINTER_ATTRIBUTE_P2P_TOKENS:
      return false;
    case CU_POINTER_ATTRIBUTE_SYNC_MEMOPS:
      return put(out, int{a.sync_memops});
    case CU_POINTER_ATTRIBUTE_BUFFER_ID:
      return put(out, a.id);
    case CU_POINTER_ATTRIBUTE_IS_MANAGED:
      return put(out, int{a.kind == Kind::managed});
    case CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL:
      return put(out, a.device);
    case CU_POINTER_ATTRIBUTE_IS_LEGACY_CUDA_IPC_CAPABLE:
      return put(out, int{a.kind == Kind::device && !a.pool});
    case CU_POINTER_ATTRIBUTE_RANGE_START_ADDR:
    case CU_POINTER_ATTRIBUTE_MAPPING_BASE_ADDR:
      return put(out, a.address);
    case CU_POINTER_ATTRIBUTE_RANGE_SIZE:
    case CU_POINTER_ATTRIBUTE_MAPPING_SIZE:
      return put(out, a.bytes);
    case CU_POINTER_ATTRIBUTE_MAPPED:
      return put(out, int{1});
    case CU_POINTER_ATTRIBUTE_ALLOWED_HANDLE_TYPES:
      return put(out, uint64_t{0});
    case CU_POINTER_ATTRIBUTE_IS_GPU_DIRECT_RDMA_CAPABLE:
      return put(out, int{a.kind == Kind::device && !a.pool});
    case CU_POINTER_ATTRIBUTE_ACCESS_FLAGS:
      return put(out, CU_MEM_ACCESS_FLAGS_PROT_READWRITE);
    case CU_POINTER_ATTRIBUTE_MEMPOOL_HANDLE:
      return put(out, handle_of(a.pool));
    case CU_POINTER_ATTRIBUTE_MEMORY_BLOCK_ID:
      return put(out, a.id);
    case CU_POINTER_ATTRIBUTE_IS_HW_DECOMPRESS_CAPABLE:
      return put(out, int{0});
    default:
      return false;
  }
}

// Mapped pages report their handle: host-backed ones are host memory without a context.
bool answer_mapping(const Mapping& m, CUdeviceptr address, CUpointer_attribute attribute,
                    void* out) {
  const Handle& handle = *m.handle;
  switch (attribute) {
    case CU_POINTER_ATTRIBUTE_CONTEXT:
      return put(out, CUcontext{nullptr});
    case CU_POINTER_ATTRIBUTE_MEMORY_TYPE:
      return put(out, handle.on_device() ? CU_MEMORYTYPE_DEVICE : CU_MEMORYTYPE_HOST);
    case CU_POINTER_ATTRIBUTE_DEVICE_POINTER:
      return put(out, address);
    case CU_POINTER_ATTRIBUTE_HOST_POINTER:
      if (handle.on_device()) return false;
      return put(out, reinterpret_cast<void*>(address));
    case CU_POINTER_ATTRIBUTE_SYNC_MEMOPS:
      return put(out, int{0});
    case CU_POINTER_ATTRIBUTE_BUFFER_ID:
      return put(out, m.id);
    case CU_POINTER_ATTRIBUTE_IS_MANAGED:
    case CU_POINTER_ATTRIBUTE_IS_LEGACY_CUDA_IPC_CAPABLE:
    case CU_POINTER_ATTRIBUTE_IS_HW_DECOMPRESS_CAPABLE:
      return put(out, int{0});
    case CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL:
      return put(out, handle.on_device() ? handle.properties.location.id : CU_DEVICE_CPU);
    case CU_POINTER_ATTRIBUTE_RANGE_START_ADDR:
    case CU_POINTER_ATTRIBUTE_MAPPING_BASE_ADDR:
      return put(out, m.address);
    case CU_POINTER_ATTRIBUTE_RANGE_SIZE:
    case CU_POINTER_ATTRIBUTE_MAPPING_SIZE:
      return put(out, m.bytes);
    case CU_POINTER_ATTRIBUTE_MAPPED:
      return put(out, int{1});
    case CU_POINTER_ATTRIBUTE_ALLOWED_HANDLE_TYPES:
      return put(out, static_cast<uint64_t>(handle.properties.requestedHandleTypes));
    case CU_POINTER_ATTRIBUTE_IS_GPU_DIRECT_RDMA_CAPABLE:
      return put(out, int{handle.properties.allocFlags.gpuDirectRDMACapable});
    case CU_POINTER_ATTRIBUTE_ACCESS_FLAGS: {
      const Context* context = current_context_or_null();
      const auto flags = context ? m.device_access[static_cast<size_t>(context->device)]
                                 : CU_MEM_ACCESS_FLAGS_PROT_NONE;
      return put(out, flags);
    }
    case CU_POINTER_ATTRIBUTE_MEMPOOL_HANDLE:
      return put(out, CUmemoryPool{nullptr});
    case CU_POINTER_ATTRIBUTE_MEMORY_BLOCK_ID:
      return put(out, handle.id);
    default:
      return false;
  }
}

bool answer_reservation(const Reservation& r, CUpointer_attribute attribute, void* out) {
  switch (attribute) {
    case CU_POINTER_ATTRIBUTE_RANGE_START_ADDR:
      return put(out, r.address);
    case CU_POINTER_ATTRIBUTE_RANGE_SIZE:
      return put(out, r.bytes);
    case CU_POINTER_ATTRIBUTE_MAPPED:
      return put(out, int{0});
    default:
      return false;
  }
}

// memory_lock held. False: nothing known about the address, or no such answer for it.
bool answer(CUdeviceptr address, CUpointer_attribute attribute, void* out) {
  if (const Allocation* a = allocation_at(address))
    return answer_allocation(*a, address, attribute, out);
  if (const Mapping* m = mapping_at(address)) return answer_mapping(*m, address, attribute, out);
  if (const Reservation* r = reservation_at(address)) return answer_reservation(*r, attribute, out);
  return false;
}

// What the plural form stores for a question without an answer.
void put_nothing(CUpointer_attribute attribute, void* out) {
  switch (attribute) {
    case CU_POINTER_ATTRIBUTE_CONTEXT:
    case CU_POINTER_ATTRIBUTE_DEVICE_POINTER:
    case CU_POINTER_ATTRIBUTE_HOST_POINTER:
    case CU_POINTER_ATTRIBUTE_BUFFER_ID:
    case CU_POINTER_ATTRIBUTE_RANGE_START_ADDR:
    case CU_POINTER_ATTRIBUTE_RANGE_SIZE:
    case CU_POINTER_ATTRIBUTE_MAPPING_BASE_ADDR:
    case CU_POINTER_ATTRIBUTE_MAPPING_SIZE:
    case CU_POINTER_ATTRIBUTE_MEMPOOL_HANDLE:
    case CU_POINTER_ATTRIBUTE_MEMORY_BLOCK_ID:
    case CU_POINTER_ATTRIBUTE_ALLOWED_HANDLE_TYPES:
      put(out, uint64_t{0});
      return;
    case CU_POINTER_ATTRIBUTE_P2P_TOKENS:
      return;
    case CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL:
      put(out, CU_DEVICE_INVALID);
      return;
    default:
      put(out, int{0});
      return;
  }
}

CUresult pointer_get_attribute(Call&, void* out, CUpointer_attribute attribute,
                               CUdeviceptr address) {
  require(out && attribute >= CU_POINTER_ATTRIBUTE_CONTEXT &&
          attribute <= CU_POINTER_ATTRIBUTE_IS_HW_DECOMPRESS_CAPABLE);
  current_context();
  std::lock_guard guard(state().memory_lock);
  return answer(address, attribute, out) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

CUresult pointer_get_attributes(Call&, unsigned count, CUpointer_attribute* attributes, void** out,
                                CUdeviceptr address) {
  require(count && attributes && out);
  current_context();
  std::lock_guard guard(state().memory_lock);
  for (unsigned i = 0; i < count; ++i) {
    require(out[i] && attributes[i] >= CU_POINTER_ATTRIBUTE_CONTEXT &&
            attributes[i] <= CU_POINTER_ATTRIBUTE_IS_HW_DECOMPRESS_CAPABLE);
    if (!answer(address, attributes[i], out[i])) put_nothing(attributes[i], out[i]);
  }
  return CUDA_SUCCESS;
}

CUresult pointer_set_attribute(Call&, const void* value, CUpointer_attribute attribute,
                               CUdeviceptr address) {
  require(value && attribute == CU_POINTER_ATTRIBUTE_SYNC_MEMOPS);
  current_context();
  std::lock_guard guard(state().memory_lock);
  if (Allocation* a = allocation_at(address)) {
    require(a->address == address && a->kind == Kind::device);
    require(!a->pool, CUDA_ERROR_NOT_SUPPORTED);
    a->sync_memops = *static_cast<const int*>(value) != 0;
    return CUDA_SUCCESS;
  }
  require(mapping_at(address) != nullptr);
  return CUDA_ERROR_NOT_SUPPORTED;
}

}  // namespace
}  // namespace flexlom::sim

using namespace flexlom::sim;
SIM_EXPORT(cuMemGetAddressRange_v2, mem_get_address_range);
SIM_EXPORT(cuPointerGetAttribute, pointer_get_attribute);
SIM_EXPORT(cuPointerGetAttributes, pointer_get_attributes);
SIM_EXPORT(cuPointerSetAttribute, pointer_set_attribute);
