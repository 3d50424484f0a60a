#include "interpose/trace/moment.h"

namespace flexlom::trace {

void Moment::before_free(const Allocation& allocation) {
  if (allocation.order > order_) return;
  gone_.push_back(allocation);
  auto then = host_then_.find(allocation.order);
  if (then == host_then_.end()) return;
  gone_.back().host_bytes = then->second;
  host_then_.erase(then);
}

std::vector<Allocation> Moment::allocations(const LiveAllocations& live, int device) const {
  std::vector<Allocation> found;
  for (const Allocation& allocation : gone_) {
    if (allocation.device == device) found.push_back(allocation);
  }
  for (const auto& [address, allocation] : live) {
    if (allocation.device != device || allocation.order > order_) continue;
    found.push_back(allocation);
    auto then = host_then_.find(allocation.order);
    if (then != host_then_.end()) found.back().host_bytes = then->second;
  }
  return found;
}

}  // namespace flexlom::trace
