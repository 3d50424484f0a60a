// The 32-bit forms from before CUDA 3.2 that ask for sizes. Those that would hand out addresses are
// left unsupported: no device address of this driver fits 32 bits.
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
  const Place& place = device_at(current_context().device).place;
  if (free_bytes) *free_bytes = clamp(place.free_bytes());
  if (total_bytes) *total_bytes = clamp(place.limit_bytes);
  return CUDA_SUCCESS;
}

}  // namespace
}  // namespace flexlom::sim

using namespace flexlom::sim;
SIM_EXPORT(cuDeviceTotalMem, device_total_mem);
SIM_EXPORT(cuMemGetInfo, mem_get_info);
