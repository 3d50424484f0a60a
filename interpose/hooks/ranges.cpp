#include "interpose/doors/ranges.h"

#include "interpose/guard/doors.h"
#include "interpose/hooks/common.h"

namespace flexlom::doors {

bool range_valid(CUdeviceptr p, size_t bytes) noexcept {
  Runtime* rt = runtime();
  if (rt == nullptr || bytes == 0 || InsidePool::already()) return true;
  if (rt->pool.owner(p) == nullptr) return true;
  // Without a usable context the driver refuses first, and for that reason.
  CUcontext context = nullptr;
  int device = 0;
  if (rt->current(&context, &device) != CUDA_SUCCESS) return true;
  pool::AllocationInfo info;
  InsidePool inside;
  if (rt->pool.find(p, &info) && bytes <= info.asked_bytes - (p - info.base)) return true;
  // What lies end to end is one to a copy, and where it ends the driver knows.
  if (rt->program_maps.holds(p)) return true;
  if (rt->guard != nullptr) guard::note_refused_range(p, bytes);
  return false;
}

}  // namespace flexlom::doors
