#include "pool/arena.h"

#include <algorithm>
#include <cmath>

#include "pool/residency/decisions.h"
#include "pool/span.h"

namespace flexlom::pool {

namespace {
constexpr size_t kFewestPages = 4;
}

std::unique_ptr<Arena> Arena::of(const std::vector<Page>& pages) noexcept {
  if (pages.size() < kFewestPages) return nullptr;
  const Page& last = pages.back();
  try {
    std::unique_ptr<Arena> arena(new Arena(last.granule + page_granules(last.order), false));
    for (const Page& page : pages) {
      if (!arena->add(page.granule, page)) return nullptr;
    }
    return arena;
  } catch (...) {
    return nullptr;
  }
}

std::shared_ptr<Arena> Arena::of_range(uint32_t granules) noexcept {
  try {
    return std::shared_ptr<Arena>(new Arena(granules, true));
  } catch (...) {
    return nullptr;
  }
}

size_t Arena::first_behind(uint32_t granule) const noexcept {
  const auto behind = [](uint32_t g, const std::unique_ptr<Use>& use) { return g < use->granule; };
  return static_cast<size_t>(std::upper_bound(uses_.begin(), uses_.end(), granule, behind) -
                             uses_.begin());
}

bool Arena::add(uint32_t granule, const Page& page) noexcept {
  try {
    auto use = std::make_unique<Use>();
    use->granule = granule;
    use->granules = page_granules(page.order);
    use->spilled.store(page.where == Where::host, std::memory_order_relaxed);
    uses_.insert(uses_.begin() + static_cast<ptrdiff_t>(first_behind(granule)), std::move(use));
    return true;
  } catch (...) {
    return false;
  }
}

void Arena::remove(uint32_t granule) noexcept {
  if (use_at(granule) != nullptr)
    uses_.erase(uses_.begin() + static_cast<ptrdiff_t>(first_behind(granule)) - 1);
}

Arena::Use* Arena::use_at(uint32_t granule) const noexcept {
  const size_t behind = first_behind(granule);
  return behind > 0 && uses_[behind - 1]->granule == granule ? uses_[behind - 1].get() : nullptr;
}

policy::History* Arena::history(uint32_t granule) noexcept {
  Use* use = use_at(granule);
  return use != nullptr ? &use->history : nullptr;
}

void Arena::set_spilled(uint32_t granule, bool spilled) noexcept {
  if (Use* use = use_at(granule)) use->spilled.store(spilled, std::memory_order_relaxed);
}

// The buffers of one page count for their parts of it, together as whole touches: the first of them
// was counted as one already, whatever its part.
void Arena::Use::touched_again(uint16_t more, float share, float cost) noexcept {
  if (more == 1 && times == 0) return;
  const auto whole = [](float sum) {
    return std::max(1u, static_cast<uint32_t>(std::lround(sum)));
  };
  const uint32_t before = whole(times);
  times += share * static_cast<float>(more);
  if (whole(times) > before) policy::touch_again(history, whole(times) - before, cost);
}

void Arena::touch(size_t offset, policy::Tick now, float cost, uint16_t times, Touched* touched,
                  double* weighted) noexcept {
  policy::Buffers::Extent buffer = buffers_.name(static_cast<uint32_t>(offset >> kGranuleShift));
  if (!active()) return;
  // A range with a tensor or two in it: the last one has all that is left.
  if (buffer.is_last && !buffers_.many()) buffer.end = ~uint32_t{0};
  const size_t behind = first_behind(buffer.begin);
  for (size_t i = behind > 0 ? behind - 1 : 0; i < uses_.size(); ++i) {
    Use& use = *uses_[i];
    if (use.granule >= buffer.end) break;
    if (use.granule + use.granules <= buffer.begin) continue;  // there is a hole
    const uint32_t begin = std::max(buffer.begin, use.granule);
    const uint32_t named = std::min(buffer.end, use.granule + use.granules) - begin;
    const auto share = static_cast<float>(named) / static_cast<float>(use.granules);
    if (use.history.uses == 0 || use.history.last != now) {
      use.charged = 0;
      use.times = 0;
      policy::touch(use.history, now, cost * share);
    }
    const double ahead = policy::touches_ahead(use.history);
    use.touched_again(times, share, cost);
    const uint32_t more = std::min(named, use.granules - use.charged);
    use.charged += more;
    touched->part_bytes += uint64_t{more} << kGranuleShift;
    if (!use.spilled.load(std::memory_order_relaxed)) continue;
    const uint64_t bytes = uint64_t{more} << kGranuleShift;
    touched->spilled_bytes += bytes;
    touched->reading_bytes += times * bytes;
    *weighted += ahead * static_cast<double>(bytes);
  }
}

uint64_t Arena::spilled_since(policy::Tick tick) const noexcept {
  uint64_t sum = 0;
  for (const auto& use : uses_) {
    if (use->history.last >= tick && use->spilled.load(std::memory_order_relaxed))
      sum += uint64_t{use->charged} << kGranuleShift;
  }
  return sum;
}

}  // namespace flexlom::pool
