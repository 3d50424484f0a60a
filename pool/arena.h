// The pages of one large allocation, each with a history of its own, for as long as the allocation
// is an arena: one that the program cuts its buffers out of (residency/buffers.h). As a whole it
// would be as hot as the hottest of them.
//
// Guarded by the device pool's touch mutex, but for `set_spilled`, which has the device's mutex.
#pragma once

#include <atomic>
#include <memory>
#include <utility>
#include <vector>

#include "pool/residency/buffers.h"
#include "pool/residency/history.h"

namespace flexlom::pool {

struct Page;

class Arena {
 public:
  // Of an allocation with these pages, which stay those; null when it is too small in pages for
  // that to be of use, or there is no memory for it.
  static std::unique_ptr<Arena> of(const std::vector<Page>& pages) noexcept;

  // Whether the histories of the pages count, and not that of the allocation.
  bool active() const noexcept { return buffers_.many(); }
  // True once, when it has become active for the first time.
  bool turned_out() noexcept { return active() && !std::exchange(known_, true); }
  // A submission names an address so many bytes from the beginning. When active, the pages of the
  // buffer there are touched; what is spilled of the buffer, and not named by the same submission
  // before, is added to `spilled_bytes`, and that times the touches ahead to `weighted`. `cost` is
  // for each byte of the buffer; a page that it has a part of is charged for that part.
  void touch(size_t offset, policy::Tick now, float cost, uint64_t* spilled_bytes,
             double* weighted) noexcept;
  const policy::History& history(size_t page) const noexcept { return uses_[page].history; }
  policy::History& history(size_t page) noexcept { return uses_[page].history; }
  size_t pages() const noexcept { return count_; }
  // What was last named of the pages touched since, that submission included.
  uint64_t spilled_since(policy::Tick tick) const noexcept;

  void set_spilled(size_t page, bool spilled) noexcept {
    uses_[page].spilled.store(spilled, std::memory_order_relaxed);
  }

 private:
  struct Use {
    policy::History history;
    uint32_t granule = 0;  // where it begins
    uint32_t granules = 0;
    uint32_t charged = 0;  // granules of it that the last submission named
    std::atomic<bool> spilled{false};
  };

  Arena(const std::vector<Page>& pages, uint32_t granules);
  size_t page_at(uint32_t granule) const noexcept;

  policy::Buffers buffers_;
  bool known_ = false;
  const size_t count_;
  const std::unique_ptr<Use[]> uses_;
};

}  // namespace flexlom::pool
