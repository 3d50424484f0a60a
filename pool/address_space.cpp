#include "pool/address_space.h"

#include <iterator>

#include "pool/check.h"

namespace flexlom::pool {

uint32_t AddressSpace::take(uint32_t count) {
  for (auto it = free_.begin(); it != free_.end(); ++it) {
    if (it->second < count) continue;
    const auto [first, length] = *it;
    const auto hint = free_.erase(it);
    if (length > count) free_.emplace_hint(hint, first + count, length - count);
    FLEXLOM_INVARIANT(is_valid());
    return first;
  }
  return kNone;
}

void AddressSpace::give(uint32_t first, uint32_t count) {
  auto next = free_.lower_bound(first);
  if (next != free_.begin()) {
    const auto before = std::prev(next);
    if (before->first + before->second == first) {
      first = before->first;
      count += before->second;
      free_.erase(before);
    }
  }
  if (next != free_.end() && first + count == next->first) {
    count += next->second;
    next = free_.erase(next);
  }
  free_.emplace_hint(next, first, count);
  FLEXLOM_INVARIANT(is_valid());
}

bool AddressSpace::is_valid() const {
  uint64_t end = 0;
  bool first = true;
  for (const auto& [start, count] : free_) {
    if (count == 0 || uint64_t{start} + count > granules_) return false;
    if (!first && start <= end) return false;
    end = uint64_t{start} + count;
    first = false;
  }
  return true;
}

}  // namespace flexlom::pool
