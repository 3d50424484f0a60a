// Guard mode: how one device's allocations are placed so that a bug in the program faults.
//
// Every allocation has pages of its own and ends at their end; the granule behind it is never
// mapped, and neither is the one before its first page, which is the guard of its neighbour. Freed
// memory is unmapped once the work that was running at its free is done. Its addresses come back
// only when the address space is used up, oldest first, and that is told once.
//
// Lowest address first, and none twice: a program that asks for the same sizes in the same order
// gets the same addresses.
//
// Not thread safe: guarded by the device's mutex, except the list of what was freed.
#pragma once

#include <algorithm>
#include <atomic>
#include <deque>
#include <mutex>

#include "pool/address_space.h"
#include "pool/observer.h"
#include "pool/residency/fence.h"
#include "pool/span.h"

namespace flexlom::pool {

// What cuMemAlloc promises of its addresses at least (CUDA C++ Programming Guide 5.3.2): what lies
// between the end of an allocation and the end of its pages is less than this.
inline constexpr size_t kGuardAlignment = 256;

class Guard {
 public:
  // `space` outlives it; `observer` may be null.
  Guard(AddressSpace& space, Observer* observer);

  // A run of `count` granules with an unmapped one behind it, or AddressSpace::kNone.
  uint32_t take(uint32_t count);
  // Never mapped, or not any more: gives the run back, with its guard.
  void give_at_once(uint32_t first, uint32_t count) { space_.give(first, count + 1); }
  void give_last(uint32_t first, uint32_t count);

  // Where `bytes` begin that end at the end of `span`.
  static CUdeviceptr place(const Span& span, size_t bytes) {
    const size_t whole = (bytes + kGuardAlignment - 1) & ~(kGuardAlignment - 1);
    return span.base + span.bytes() - whole;
  }

  // Freed objects whose addresses are still mapped, oldest first. These three take a lock of their
  // own, the last of all.
  void retire(Object* object);
  Object* next_retired(const Fence& fence);  // the oldest whose work is done, or null
  uint64_t newest_epoch() const;             // that any of them waits for; 0: none

  // How long to wait for work this time, and whether that was enough. After it was not, because a
  // kernel never ends or has broken its context, waits are short until one succeeds.
  uint64_t patience_ns(uint64_t wait_ns) const {
    return in_vain_.load(std::memory_order_relaxed) ? std::min<uint64_t>(wait_ns, 1'000'000)
                                                    : wait_ns;
  }
  void waited(bool enough) { in_vain_.store(!enough, std::memory_order_relaxed); }

  bool is_valid() const;

 private:
  struct Run {
    uint32_t first, count;  // with the guard
  };

  AddressSpace& space_;
  Observer* const observer_;
  std::deque<Run> unused_;  // oldest first
  bool told_ = false;       // that addresses are used again
  std::atomic<bool> in_vain_{false};
  mutable std::mutex mutex_;
  std::deque<Object*> retired_;  // guarded by mutex_
};

}  // namespace flexlom::pool
