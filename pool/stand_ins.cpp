#include "pool/stand_ins.h"

#include <algorithm>

#include "pool/check.h"
#include "pool/device_pool.h"

namespace flexlom::pool {

namespace {
constexpr int kTries = 3;  // of calls without which a page would be lost

// The page of a span that holds its granule `index`; `*page_index` is its place.
const Page& page_at(const Span& span, uint32_t index, uint32_t* page_index) {
  const auto after =
      std::upper_bound(span.pages.begin(), span.pages.end(), index,
                       [](uint32_t granule, const Page& page) { return granule < page.granule; });
  *page_index = static_cast<uint32_t>(after - span.pages.begin()) - 1;
  return *(after - 1);
}
}  // namespace

// A granule of a kind costs nothing while one is spare, and a page of one granule lends its own:
// what is there is not touched. With every frame in use on the device there is such a page, because
// small objects live in them.
bool DevicePool::hire(Where where, StandIns* in) {
  StandIns::Actor& actor = in->actors[static_cast<size_t>(where)];
  if (actor.frame.handle != 0) return true;
  if (where == Where::host && !config_.host_vmm) return false;
  if (frames_.take(where, 0, 0, &actor.frame) == CUDA_SUCCESS) {
    actor.owned = true;
    return true;
  }
  actor.frame = {};
  for (Span* span : spans_) {
    // What may be lifted itself lends nothing, but of host frames no other pages are made.
    if (where == Where::device && may_move(*span)) continue;
    for (uint32_t i = 0; i < span->pages.size(); ++i) {
      Page& page = span->pages[i];
      if (page.order != 0 || page.where != where || page.moving) continue;
      actor.frame = page.frame;
      actor.lender = {span, span->generation, i, page.granule};
      set_moving(actor.lender, page, true);
      return true;
    }
  }
  return false;
}

StandIns::Lifted* DevicePool::lift(const PageId& id, StandIns* in) {
  if (StandIns::Lifted* lifted = in->find(id)) return lifted;
  Page* page = page_of(id);
  if (page->moving || !may_move(*id.span)) return nullptr;
  const CUdeviceptr address = id.span->base + (CUdeviceptr{page->granule} << kGranuleShift);
  in->pages.push_back({id, address, page->bytes(), {}});
  in->pages.back().granules.assign(page->bytes() >> kGranuleShift, StandIns::At::nothing);
  if (driver_.unmap(address, page->bytes()) != CUDA_SUCCESS) {
    in->pages.pop_back();
    return nullptr;
  }
  set_moving(id, *page, true);
  return &in->pages.back();
}

bool DevicePool::put_stand_ins(CUdeviceptr address, size_t bytes, Backing want, StandIns* in) {
  using At = StandIns::At;
  if (bytes == 0 || !contains(address) || !contains(address + bytes - 1)) return false;
  std::lock_guard lock(mutex_);
  const CUdeviceptr first = address & ~CUdeviceptr{kGranule - 1};
  const auto wanted = [&](CUdeviceptr at) {
    const bool host = want == Backing::host || (want == Backing::mixed && at != first);
    return host ? Where::host : Where::device;
  };
  for (CUdeviceptr at = first; at < address + bytes;) {
    Span* span = span_at(at);
    if (span == nullptr || spans_.count(span) == 0 || span->pages.empty()) return false;
    PageId id{span, span->generation, 0, 0};
    const Page& page =
        page_at(*span, static_cast<uint32_t>((at - span->base) >> kGranuleShift), &id.index);
    id.granule = page.granule;
    const CUdeviceptr start = span->base + (CUdeviceptr{page.granule} << kGranuleShift);
    const CUdeviceptr end = std::min(start + page.bytes(), address + bytes);
    bool as_it_is = in->find(id) == nullptr;
    for (CUdeviceptr g = at; g < end; g += kGranule) as_it_is &= wanted(g) == page.where;
    if (!as_it_is) {
      for (CUdeviceptr g = at; g < end; g += kGranule)
        if (!hire(wanted(g), in)) return false;
      StandIns::Lifted* lifted = lift(id, in);
      if (lifted == nullptr) return false;
      for (CUdeviceptr g = at; g < end; g += kGranule) {
        const Where where = wanted(g);
        At& now = lifted->granules[(g - start) >> kGranuleShift];
        const At then = where == Where::device ? At::device : At::host;
        if (now == then) continue;
        if (now != At::nothing && driver_.unmap(g, kGranule) != CUDA_SUCCESS) return false;
        now = At::nothing;
        if (show(g, kGranule, in->actors[static_cast<size_t>(where)].frame, where) != CUDA_SUCCESS)
          return false;
        now = then;
      }
    }
    at = start + page.bytes();
  }
  return true;
}

bool DevicePool::is_mixed(CUdeviceptr address, size_t bytes) const {
  if (bytes == 0 || !contains(address) || !contains(address + bytes - 1)) return false;
  bool seen[2] = {};
  std::lock_guard lock(mutex_);
  for (CUdeviceptr at = address; at < address + bytes;) {
    Span* span = span_at(at);
    if (span == nullptr || spans_.count(span) == 0 || span->pages.empty()) return false;
    uint32_t index = 0;
    const Page& page =
        page_at(*span, static_cast<uint32_t>((at - span->base) >> kGranuleShift), &index);
    seen[static_cast<size_t>(page.where)] = true;
    at = span->base + (CUdeviceptr{page.granule} << kGranuleShift) + page.bytes();
  }
  return seen[0] && seen[1];
}

void DevicePool::take_back(StandIns* in) {
  std::lock_guard lock(mutex_);
  bool clear = true;
  for (StandIns::Lifted& lifted : in->pages) {
    Page* page = page_of(lifted.page);
    FLEXLOM_INVARIANT(page != nullptr && page->moving);
    for (size_t i = 0; i < lifted.granules.size(); ++i) {
      if (lifted.granules[i] == StandIns::At::nothing) continue;
      CUresult r = CUDA_ERROR_UNKNOWN;
      for (int n = 0; n < kTries && r != CUDA_SUCCESS; ++n)
        r = driver_.unmap(lifted.address + (CUdeviceptr{i} << kGranuleShift), kGranule);
      clear &= r == CUDA_SUCCESS;
    }
    CUresult r = CUDA_ERROR_UNKNOWN;
    for (int n = 0; n < kTries && r != CUDA_SUCCESS; ++n)
      r = show(lifted.address, lifted.bytes, page->frame, page->where);
    if (r != CUDA_SUCCESS && observer_ != nullptr)
      observer_->warned("a page could not be mapped back; it is unreachable");
    set_moving(lifted.page, *page, false);
  }
  for (const Where where : {Where::device, Where::host}) {
    StandIns::Actor& actor = in->actors[static_cast<size_t>(where)];
    // One that is still mapped somewhere must not be used for anything else: it is lost, and its
    // bytes stay in the books.
    if (actor.owned && clear) frames_.put(where, 0, actor.frame);
    if (!actor.owned && actor.frame.handle != 0)
      set_moving(actor.lender, *page_of(actor.lender), false);
  }
  *in = {};
}

}  // namespace flexlom::pool
