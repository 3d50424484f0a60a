// Which allocations there were at one moment of a log, known only when a later record shows that
// the moment mattered: the highest peak is the highest only at the end.
#pragma once

#include <cstdint>
#include <map>
#include <unordered_map>
#include <vector>

#include "interpose/trace/sites.h"

namespace flexlom::trace {

struct Allocation {
  uint64_t address = 0, asked_bytes = 0, given_bytes = 0;
  uint64_t host_bytes = 0;  // how much of what was given lies on the host now
  uint64_t seq = 0, at_ns = 0;
  uint64_t order = 0;  // the first of the log is 1
  SiteId site = 0;
  int16_t device = 0;
};

using LiveAllocations = std::map<uint64_t, Allocation>;  // by address

// Takes the place of a copy of all live allocations at every new peak: it remembers those that were
// there and have since been freed, at most as many as lived at one time. Not thread safe.
class Moment {
 public:
  // Now is the moment; what was remembered of an earlier one is forgotten. `order` is that of the
  // newest allocation.
  void set(uint64_t order) {
    order_ = order;
    if (!gone_.empty()) gone_.clear();
    if (!host_then_.empty()) host_then_.clear();
  }

  // To be told before an allocation is freed, or before its host_bytes change.
  void before_free(const Allocation& allocation);
  void before_move(const Allocation& allocation) {
    if (allocation.order <= order_) host_then_.emplace(allocation.order, allocation.host_bytes);
  }

  // The allocations of the moment on one device, as they were then.
  std::vector<Allocation> allocations(const LiveAllocations& live, int device) const;

 private:
  uint64_t order_ = 0;  // 0: there was no moment
  std::vector<Allocation> gone_;
  std::unordered_map<uint64_t, uint64_t> host_then_;  // host_bytes at the moment, by order
};

}  // namespace flexlom::trace
