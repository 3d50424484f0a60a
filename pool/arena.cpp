#include "pool/arena.h"

#include <algorithm>

#include "pool/residency/decisions.h"
#include "pool/span.h"

namespace flexlom::pool {

namespace {
constexpr size_t kFewestPages = 4;
}

std::unique_ptr<Arena> Arena::of(const std::vector<Page>& pages) noexcept {
  if (pages.size() < kFewestPages) return nullptr;
  uint32_t granules = 0;
  for (const Page& page : pages) granules += uint32_t{1} << page.order;
  try {
    return std::unique_ptr<Arena>(new Arena(pages, granules));
  } catch (...) {
    return nullptr;
  }
}

Arena::Arena(const std::vector<Page>& pages, uint32_t granules)
    : buffers_(granules), count_(pages.size()), uses_(std::make_unique<Use[]>(pages.size())) {
  for (size_t i = 0; i < count_; ++i) {
    uses_[i].granule = pages[i].granule;
    uses_[i].granules = uint32_t{1} << pages[i].order;
    set_spilled(i, pages[i].where == Where::host);
  }
}

size_t Arena::page_at(uint32_t granule) const noexcept {
  const auto behind = [](uint32_t g, const Use& use) { return g < use.granule; };
  const Use* next = std::upper_bound(uses_.get(), uses_.get() + count_, granule, behind);
  return static_cast<size_t>(next - uses_.get()) - 1;
}

void Arena::touch(size_t offset, policy::Tick now, float cost, uint64_t* spilled_bytes,
                  double* weighted) noexcept {
  const policy::Buffers::Extent buffer =
      buffers_.name(static_cast<uint32_t>(offset >> kGranuleShift));
  if (!active()) return;
  for (size_t i = page_at(buffer.begin); i < count_ && uses_[i].granule < buffer.end; ++i) {
    Use& use = uses_[i];
    const uint32_t begin = std::max(buffer.begin, use.granule);
    const uint32_t named = std::min(buffer.end, use.granule + use.granules) - begin;
    if (use.history.uses == 0 || use.history.last != now) {
      use.charged = 0;
      const auto share = static_cast<float>(named) / static_cast<float>(use.granules);
      policy::touch(use.history, now, cost * share);
    }
    const uint32_t more = std::min(named, use.granules - use.charged);
    use.charged += more;
    if (!use.spilled.load(std::memory_order_relaxed)) continue;
    const uint64_t bytes = uint64_t{more} << kGranuleShift;
    *spilled_bytes += bytes;
    *weighted += policy::touches_ahead(use.history) * static_cast<double>(bytes);
  }
}

uint64_t Arena::spilled_since(policy::Tick tick) const noexcept {
  uint64_t sum = 0;
  for (size_t i = 0; i < count_; ++i) {
    if (uses_[i].history.last >= tick && uses_[i].spilled.load(std::memory_order_relaxed))
      sum += uint64_t{uses_[i].charged} << kGranuleShift;
  }
  return sum;
}

}  // namespace flexlom::pool
