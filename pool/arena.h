// The pages of memory that the program cuts its buffers out of (residency/buffers.h), each with a
// history of its own: as a whole it would be as hot as the hottest of them. Either one large
// allocation, for as long as it is used like that, or a range that the program maps memory into
// itself (program.cpp), always.
//
// Positions are in granules from the beginning. Guarded by the device pool's touch mutex; what
// changes the set of pages, and `set_spilled`, has the device's mutex as well, so that either is
// enough to look.
#pragma once

#include <atomic>
#include <memory>
#include <utility>
#include <vector>

#include "pool/residency/buffers.h"
#include "pool/residency/history.h"
#include "pool/touched.h"

namespace flexlom::pool {

struct Page;

class Arena {
 public:
  // Of an allocation with these pages; null when it is too small in pages for that to be of use, or
  // there is no memory for it.
  static std::unique_ptr<Arena> of(const std::vector<Page>& pages) noexcept;
  // Of a range in which no page lies yet. Null: no memory for it.
  static std::shared_ptr<Arena> of_range(uint32_t granules) noexcept;

  // False, and nothing done: no memory for it.
  bool add(uint32_t granule, const Page& page) noexcept;
  void remove(uint32_t granule) noexcept;

  // Whether the histories of the pages count, and not that of the allocation.
  bool active() const noexcept { return is_range_ || buffers_.many(); }
  // True once, when it has turned out that it is cut into buffers.
  bool turned_out() noexcept { return buffers_.many() && !std::exchange(known_, true); }
  // A submission names an address so many bytes from the beginning. When active, the pages of the
  // buffer there are touched; what is spilled of the buffer, and not named by the same submission
  // before, is added to `touched`, and that times the touches ahead to `weighted`. `cost` is
  // for each byte of the buffer; a page that it has a part of is charged for that part. `times`: a
  // graph's nodes that name it.
  void touch(size_t offset, policy::Tick now, float cost, uint16_t times, Touched* touched,
             double* weighted) noexcept;
  // Of the page that begins there; null when none does.
  policy::History* history(uint32_t granule) noexcept;
  // What was last named of the pages touched since, that submission included.
  uint64_t spilled_since(policy::Tick tick) const noexcept;

  void set_spilled(uint32_t granule, bool spilled) noexcept;

 private:
  struct Use {
    policy::History history;
    uint32_t granule = 0;  // where it begins
    uint32_t granules = 0;
    uint32_t charged = 0;  // granules of it that the last submission named
    float times = 0;       // how often that one did, if it was a graph
    std::atomic<bool> spilled{false};

    void touched_again(uint16_t more, float share, float cost) noexcept;
  };

  Arena(uint32_t granules, bool is_range) : buffers_(granules), is_range_(is_range) {}
  size_t first_behind(uint32_t granule) const noexcept;
  Use* use_at(uint32_t granule) const noexcept;

  policy::Buffers buffers_;
  const bool is_range_;
  bool known_ = false;
  std::vector<std::unique_ptr<Use>> uses_;  // lowest first
};

}  // namespace flexlom::pool
