#include "interpose/doors/ranges.h"

#include "interpose/hooks/common.h"

namespace flexlom::doors {

bool range_valid(CUdeviceptr p, size_t bytes) noexcept {
  Runtime* rt = runtime();
  if (rt == nullptr || bytes == 0 || InsidePool::already()) return true;
  if (rt->pool.owner(p) == nullptr) return true;
  pool::AllocationInfo info;
  InsidePool inside;
  return rt->pool.find(p, &info) && bytes <= info.asked_bytes - (p - info.base);
}

}  // namespace flexlom::doors
