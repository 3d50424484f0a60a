// The steps of a page's move. Each holds the device's mutex for its own short time and leaves every
// address mapped; the copying in between happens with no lock held.
//
// Down: begin_demote (a host frame is ready) - copy address -> window - finish_demote (swap).
// Up:   begin_promote - place_promoted (swap) - copy window -> address - finish_promote.
//
// Who calls them has proved that no work touches the page from the first copy to the last swap
// (law 2). A step that fails leaves the page where it was.
#include <algorithm>

#include "pool/check.h"
#include "pool/device_pool.h"
#include "pool/residency/decisions.h"

namespace flexlom::pool {

namespace {
// A call without which a page would be lost is made again when it fails.
constexpr int kTries = 3;
}  // namespace

Page* DevicePool::page_of(const PageId& id) {
  Span* span = id.span;
  if (span == nullptr || span->generation != id.generation || spans_.count(span) == 0)
    return nullptr;
  return id.index < span->pages.size() ? &span->pages[id.index] : nullptr;
}

// An allocation of a single granule stays: frameworks keep counters, locks and workspaces in those.
bool DevicePool::may_move(const Span& span) {
  return !span.small && !span.exported && !span.closed && span.count > 1;
}

std::vector<policy::PageView> DevicePool::movable_pages(policy::Tick needed_tick,
                                                        std::vector<PageId>* ids) const {
  std::vector<policy::PageView> views;
  ids->clear();
  std::lock_guard device_lock(mutex_);
  std::lock_guard touch_lock(touch_mutex_);
  for (Span* span : spans_) {
    if (!may_move(*span)) continue;
    {
      const auto lock = lock_shard_of(*span);
      if (span->objects[0].state != ObjectState::live) continue;
    }
    for (uint32_t i = 0; i < span->pages.size(); ++i) {
      const Page& page = span->pages[i];
      policy::PageView view;
      view.id = static_cast<uint32_t>(ids->size());
      ids->push_back({span, span->generation, i, page.granule});
      view.bytes = page.bytes();
      view.address = span->base + (CUdeviceptr{page.granule} << kGranuleShift);
      view.history = history_of(ids->back());
      view.resident = page.where == Where::device;
      view.movable = !page.moving;
      view.needed = needed_tick != 0 && view.history.last >= needed_tick;
      view.host_copy = page.has_copy;
      views.push_back(view);
    }
  }
  return views;
}

// Of the large allocation that holds the word, or ends at it. The end of one may be the start of
// another: then the other is meant.
Span* DevicePool::span_named(CUdeviceptr word) const {
  Span* span = contains(word) ? span_at(word) : nullptr;
  if (span == nullptr) span = contains(word - 1) ? span_at(word - 1) : nullptr;
  return span != nullptr && !span->small.load(std::memory_order_relaxed) ? span : nullptr;
}

namespace {
// Of the words from there on that lie in one allocation.
uint16_t most_times(const Names& names, size_t first, CUdeviceptr end) {
  uint16_t most = 1;
  for (size_t i = first; i < names.count && names.words[i] < end; ++i)
    most = std::max(most, names.times[i]);
  return most;
}
}  // namespace

Touched DevicePool::touch(const Names& names, float cost, TouchedBases* bases, Tracking* tracking) {
  Touched result;
  double weighted = 0;
  const CUdeviceptr* const words = names.words;
  const size_t count = names.count;
  std::unique_lock lock(touch_mutex_);
  if (tracking != nullptr) [[unlikely]]
    wait_unclaimed(lock, words, count, tracking->wild);
  for (size_t i = 0; i < count; ++i) {
    Span* span = span_named(words[i]);
    if (span == nullptr) continue;
    if (result.tick == 0) result.tick = touch_tick_ += names.steps;
    const policy::Tick before = span->history.last;
    const bool again = before == touch_tick_;
    if (!again) {
      policy::touch(span->history, touch_tick_, cost);
      if (bases != nullptr) [[unlikely]]
        bases->add(span->base);
    }
    if (span->arena != nullptr) [[unlikely]] {
      // The end of the allocation is the end of its last buffer, or of any.
      if (words[i] < span->base + span->bytes())
        span->arena->touch(words[i] - span->base + (size_t{span->arena_offset} << kGranuleShift),
                           touch_tick_, cost, names.times != nullptr ? names.times[i] : 1, &result,
                           &weighted);
      if (span->arena->turned_out()) ++result.new_arenas;
      if (span->arena->active()) continue;
    }
    if (again) continue;
    uint16_t times = 1;
    if (names.times != nullptr) [[unlikely]] {
      times = most_times(names, i, span->base + span->bytes());
      policy::touch_again(span->history, times - 1u, cost);
    }
    const size_t spilled = span->spilled_bytes.load(std::memory_order_relaxed);
    if (tracking != nullptr) [[unlikely]] {
      tracking->arrival = std::max(tracking->arrival, span->arrival);
      if (spilled > 0) tracking->add(span, before, span->untracked);
    }
    if (spilled == 0) [[likely]]
      continue;
    result.spilled_bytes += spilled;
    result.reading_bytes += uint64_t{times} * spilled;
    weighted += policy::touches_ahead(span->history, times) * static_cast<double>(spilled);
  }
  if (tracking != nullptr && tracking->wild && result.tick == 0)
    result.tick = touch_tick_ += names.steps;
  if (tracking != nullptr && result.tick != 0) in_flight_.begin(result.tick, tracking->wild);
  if (result.spilled_bytes > 0)
    result.touches_ahead = weighted / static_cast<double>(result.spilled_bytes);
  return result;
}

uint64_t DevicePool::spilled_bytes(const CUdeviceptr* words, size_t count,
                                   policy::Tick since) const noexcept {
  uint64_t sum = 0;
  std::lock_guard lock(touch_mutex_);
  for (size_t i = 0; i < count; ++i) {
    const Span* span = span_named(words[i]);
    if (span == nullptr) continue;
    const bool parts = span->arena != nullptr && span->arena->active();
    const auto seen = [&](CUdeviceptr word) {
      const Span* other = span_named(word);
      return other == span || (parts && other != nullptr && other->arena == span->arena);
    };
    if (std::any_of(words, words + i, seen)) continue;
    sum += parts ? span->arena->spilled_since(since)
                 : span->spilled_bytes.load(std::memory_order_relaxed);
  }
  return sum;
}

void DevicePool::note_exchanged(const PageId& page) {
  std::lock_guard lock(touch_mutex_);
  policy::note_move(history_of(page));
}

policy::History& DevicePool::history_of(const PageId& page) const {
  Span& span = *page.span;
  policy::History* own = nullptr;
  if (span.arena != nullptr && span.arena->active())
    own = span.arena->history(span.arena_offset + page.granule);
  // What was asked for without the device's mutex may have become another span since.
  return own != nullptr ? *own : span.history;
}

void DevicePool::set_spilled(const PageId& page, size_t bytes, bool spilled) {
  std::atomic<size_t>& sum = page.span->spilled_bytes;
  spilled ? sum += bytes : sum -= bytes;
  if (page.span->arena != nullptr)
    page.span->arena->set_spilled(page.span->arena_offset + page.granule, spilled);
}

policy::Tick DevicePool::touch_tick() const {
  std::lock_guard lock(touch_mutex_);
  return touch_tick_;
}

// A spare host frame, or a new one; making one takes milliseconds, so the lock is let go for that.
// Copies kept for pages on the device are given up when there is no other room.
CUresult DevicePool::take_host_frame(std::unique_lock<std::mutex>& lock, unsigned order,
                                     Frame* frame) {
  if (frames_.take_spare(Where::host, order, frame)) return CUDA_SUCCESS;
  const size_t bytes = page_bytes(order);
  *frame = {};
  if (!host_budget_.take(bytes)) {
    drop_copies(bytes);
    frames_.release_spare(Where::host, bytes);
    if (!host_budget_.take(bytes)) return CUDA_ERROR_OUT_OF_MEMORY;
  }
  lock.unlock();
  const CUresult r = driver_.create(config_.device, Where::host, bytes, &frame->handle);
  lock.lock();
  if (r != CUDA_SUCCESS) host_budget_.give(bytes);
  return r;
}

void DevicePool::drop_copies(uint64_t want_bytes) {
  uint64_t found = 0;
  for (Span* span : spans_) {
    for (Page& page : span->pages) {
      if (found >= want_bytes) return;
      if (!page.has_copy || page.moving) continue;
      give_up_copy(page);
      found += page.bytes();
    }
  }
}

void DevicePool::give_up_copy(Page& page) {
  frames_.put(Where::host, page.order, page.copy);
  page.has_copy = page.has_mark = false;
}

void DevicePool::fill_move(const PageId& id, const Page& page, Where to, Move* move) {
  *move = {};
  move->page = id;
  move->address = id.span->base + (CUdeviceptr{page.granule} << kGranuleShift);
  move->bytes = page.bytes();
  move->order = page.order;
  move->to = to;
}

void DevicePool::set_moving(const PageId& id, Page& page, bool moving) {
  FLEXLOM_INVARIANT(page.moving != moving);
  page.moving = moving;
  id.span->moving += moving ? 1u : ~0u;
}

CUresult DevicePool::begin_demote(const PageId& id, Move* move) {
  std::unique_lock lock(mutex_);
  Page* page = page_of(id);
  if (page == nullptr || page->where != Where::device || page->moving || !may_move(*id.span))
    return CUDA_ERROR_INVALID_VALUE;
  fill_move(id, *page, Where::host, move);
  set_moving(id, *page, true);
  if (page->has_copy) {
    move->host = page->copy;
    move->has_mark = page->has_mark;
    move->mark = page->mark;
    return CUDA_SUCCESS;
  }
  Frame frame;
  // The page cannot go away while it is moving, so the lock may be let go in here.
  CUresult r = take_host_frame(lock, page->order, &frame);
  if (r == CUDA_SUCCESS) {
    r = frames_.open_window(page->order, &frame);
    if (r != CUDA_SUCCESS) frames_.put(Where::host, page->order, frame);
  }
  page = page_of(id);
  if (r != CUDA_SUCCESS) {
    set_moving(id, *page, false);
    return r;
  }
  move->host = frame;
  return CUDA_SUCCESS;
}

void DevicePool::cancel_demote(const Move& move) {
  std::lock_guard lock(mutex_);
  Page* page = page_of(move.page);
  FLEXLOM_INVARIANT(page != nullptr && page->moving);
  if (!page->has_copy) frames_.put(Where::host, move.order, move.host);
  if (move.overwriting) page->has_mark = false;
  set_moving(move.page, *page, false);
}

// Backs `move.address` by another frame; on failure by the old one again.
CUresult DevicePool::swap_frames(const Move& move, const Frame& from, const Frame& to,
                                 Where where) {
  const Where other = where == Where::host ? Where::device : Where::host;
  CUresult r = driver_.unmap(move.address, move.bytes);
  if (r != CUDA_SUCCESS) return r;
  r = show(move.address, move.bytes, to, where);
  if (r == CUDA_SUCCESS) return r;
  for (int i = 0; i < kTries; ++i) {
    if (show(move.address, move.bytes, from, other) == CUDA_SUCCESS) return r;
  }
  if (observer_ != nullptr) observer_->warned("a page could not be mapped back; it is unreachable");
  return r;
}

CUresult DevicePool::finish_demote(const Move& move) {
  std::lock_guard lock(mutex_);
  Page* page = page_of(move.page);
  FLEXLOM_INVARIANT(page != nullptr && page->moving && page->where == Where::device);
  // Exported since the move began: others hold the frame now, and it stays (law 7).
  const CUresult r = may_move(*move.page.span)
                         ? swap_frames(move, page->frame, move.host, Where::host)
                         : CUDA_ERROR_NOT_SUPPORTED;
  if (r != CUDA_SUCCESS) {
    if (!page->has_copy) frames_.put(Where::host, move.order, move.host);
    if (move.overwriting) page->has_mark = false;
    set_moving(move.page, *page, false);
    return r;
  }
  frames_.put(Where::device, move.order, page->frame);
  page->frame = move.host;
  page->where = Where::host;
  page->has_copy = page->has_mark = false;
  set_spilled(move.page, move.bytes, true);
  spilled_total_ += move.bytes;
  set_moving(move.page, *page, false);
  return CUDA_SUCCESS;
}

CUresult DevicePool::begin_promote(const PageId& id, Move* move) {
  std::lock_guard lock(mutex_);
  Page* page = page_of(id);
  if (page == nullptr || page->where != Where::host || page->moving || !may_move(*id.span))
    return CUDA_ERROR_INVALID_VALUE;
  const CUresult r = frames_.open_window(page->order, &page->frame);
  if (r != CUDA_SUCCESS) return r;
  fill_move(id, *page, Where::device, move);
  move->host = page->frame;
  set_moving(id, *page, true);
  return CUDA_SUCCESS;
}

CUresult DevicePool::place_promoted(Move* move) {
  std::lock_guard lock(mutex_);
  Page* page = page_of(move->page);
  FLEXLOM_INVARIANT(page != nullptr && page->moving && page->where == Where::host);
  Frame frame;
  CUresult r = frames_.take(Where::device, move->order, small_reserve_, &frame);
  if (r != CUDA_SUCCESS) return r;
  r = swap_frames(*move, page->frame, frame, Where::device);
  if (r != CUDA_SUCCESS) {
    frames_.put(Where::device, move->order, frame);
    return r;
  }
  page->frame = frame;
  page->copy = move->host;
  page->has_copy = true;
  page->came_tick = tick_;
  page->has_mark = false;
  page->where = Where::device;
  move->placed = true;
  set_spilled(move->page, move->bytes, false);
  return CUDA_SUCCESS;
}

void DevicePool::finish_promote(const Move& move, bool copied, const Fingerprint* mark) {
  std::lock_guard lock(mutex_);
  Page* page = page_of(move.page);
  FLEXLOM_INVARIANT(page != nullptr && page->moving);
  if (move.placed && !copied) {
    // The bytes never arrived: back to the frame that has them. Left here the page would be wrong.
    CUresult r = CUDA_ERROR_UNKNOWN;
    for (int i = 0; i < kTries && r != CUDA_SUCCESS; ++i)
      r = swap_frames(move, page->frame, move.host, Where::host);
    if (r == CUDA_SUCCESS) {
      frames_.put(Where::device, move.order, page->frame);
      page->frame = move.host;
      page->where = Where::host;
      page->has_copy = false;
      set_spilled(move.page, move.bytes, true);
    } else if (observer_ != nullptr) {
      observer_->warned("a page that could not be filled could not be put back");
    }
  } else if (move.placed && mark != nullptr) {
    page->mark = *mark;
    page->has_mark = true;
  }
  set_moving(move.page, *page, false);
}

}  // namespace flexlom::pool
