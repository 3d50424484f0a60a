// The 32-bit forms from before CUDA 3.2. Those that work on a context find none of their own kind:
// only the first cuCtxCreate made such contexts.
#include <algorithm>
#include <climits>

#include "tests/simcuda/context.hpp"

namespace flexlom::sim {
namespace {

unsigned clamp(size_t bytes) { return static_cast<unsigned>(std::min<size_t>(bytes, UINT_MAX)); }

CUresult device_total_mem(Call&, unsigned* out, CUdevice dev) {
  require(out);
  *out = clamp(device_at(dev).place.limit_bytes);
  return CUDA_SUCCESS;
}

CUresult mem_get_info(Call&, unsigned* free_bytes, unsigned* total_bytes) {
  if (free_bytes) *free_bytes = 0;
  if (total_bytes) *total_bytes = 0;
  return CUDA_ERROR_INVALID_CONTEXT;
}

template <class... A>
CUresult no_context(Call&, A...) {
  return CUDA_ERROR_INVALID_CONTEXT;
}
constexpr auto mem_alloc = no_context<CUdeviceptr_v1*, unsigned>;
constexpr auto mem_alloc_pitch =
    no_context<CUdeviceptr_v1*, unsigned*, unsigned, unsigned, unsigned>;
constexpr auto mem_free = no_context<CUdeviceptr_v1>;
constexpr auto mem_get_address_range = no_context<CUdeviceptr_v1*, unsigned*, CUdeviceptr_v1>;

}  // namespace
}  // namespace flexlom::sim

using namespace flexlom::sim;
SIM_EXPORT(cuDeviceTotalMem, device_total_mem);
SIM_EXPORT(cuMemGetInfo, mem_get_info);
SIM_EXPORT(cuMemAlloc, mem_alloc);
SIM_EXPORT(cuMemAllocPitch, mem_alloc_pitch);
SIM_EXPORT(cuMemFree, mem_free);
SIM_EXPORT(cuMemGetAddressRange, mem_get_address_range);
