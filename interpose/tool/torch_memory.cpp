#include "interpose/tool/torch_memory.h"

#include <algorithm>

namespace flexlom::tool {
namespace {

// Snapshots have numbers of 63 bits; a hostile log may have any.
constexpr uint64_t most_address = uint64_t{1} << 61;

bool is_possible(uint64_t address, uint64_t size) {
  return size != 0 && address <= most_address && size <= most_address;
}

// What a page has of an allocation; nothing when `size` is 0. What lies beyond the bytes asked for
// is a gap.
TorchMemory::Block block_of(uint64_t page_begin, uint64_t page_size, uint64_t address,
                            uint64_t asked, uint64_t given) {
  TorchMemory::Block block;
  const uint64_t begin = std::max(page_begin, address);
  const uint64_t end = std::min(page_begin + page_size, address + given);
  const uint64_t asked_end = std::min(end, address + asked);
  if (begin >= asked_end) return block;
  block.address = begin;
  block.size = end - begin;
  block.requested = asked_end - begin;
  return block;
}

}  // namespace

void TorchMemory::emit(int place, TorchEvent event) {
  std::deque<TorchEvent>& events = events_[place];
  events.push_back(event);
  if (limit_ == 0 || events.size() <= limit_) return;
  events.pop_front();
  dropped_++;
}

void TorchMemory::emit_block(TorchAction action, const Pages::value_type& page,
                             const Lives::value_type& live, uint64_t time_us) {
  const Block block =
      block_of(page.first, page.second.size, live.first, live.second.asked, live.second.given);
  if (block.size == 0) return;
  TorchEvent event;
  event.action = action;
  event.address = block.address;
  event.size = block.requested;
  event.stream = live.second.stream;
  event.time_us = time_us;
  event.site = live.second.site;
  emit(page.second.place, event);
}

TorchMemory::Pages::iterator TorchMemory::first_page(uint64_t address) {
  auto page = pages_.upper_bound(address);
  if (page == pages_.begin()) return page;
  auto before = std::prev(page);
  return before->first + before->second.size > address ? before : page;
}

TorchMemory::Lives::const_iterator TorchMemory::first_live(uint64_t address) const {
  auto live = lives_.upper_bound(address);
  if (live == lives_.begin()) return live;
  auto before = std::prev(live);
  return before->first + before->second.given > address ? before : live;
}

void TorchMemory::blocks_in(const Pages::value_type& page, TorchAction action, uint64_t time_us) {
  const uint64_t end = page.first + page.second.size;
  for (auto live = first_live(page.first); live != lives_.end() && live->first < end; ++live)
    emit_block(action, page, *live, time_us);
}

TorchMemory::Pages::iterator TorchMemory::drop_page(Pages::iterator page, uint64_t time_us) {
  blocks_in(*page, TorchAction::free, time_us);
  TorchEvent event;
  event.action = TorchAction::unmap;
  event.address = page->first;
  event.size = page->second.size;
  event.time_us = time_us;
  emit(page->second.place, event);
  return pages_.erase(page);
}

void TorchMemory::put_page(uint64_t address, const Page& page, uint64_t time_us) {
  const uint64_t end = address + page.size;
  for (auto old = first_page(address); old != pages_.end() && old->first < end;)
    old = drop_page(old, time_us);
  TorchEvent event;
  event.action = TorchAction::map;
  event.address = address;
  event.size = page.size;
  event.time_us = time_us;
  emit(page.place, event);
  blocks_in(*pages_.emplace(address, page).first, TorchAction::alloc, time_us);
}

void TorchMemory::map(int place, uint64_t address, uint64_t size, uint64_t time_us) {
  if (is_possible(address, size)) put_page(address, {size, place, false}, time_us);
}

void TorchMemory::unmap(uint64_t address, uint64_t time_us) {
  auto page = pages_.find(address);
  if (page != pages_.end() && !page->second.made_up) drop_page(page, time_us);
}

void TorchMemory::move(uint64_t address, int place, uint64_t time_us) {
  auto page = pages_.find(address);
  if (page == pages_.end() || page->second.made_up || page->second.place == place) return;
  Page moved = page->second;
  moved.place = place;
  drop_page(page, time_us);
  put_page(address, moved, time_us);
}

void TorchMemory::alloc(int device, uint64_t address, uint64_t asked, uint64_t given,
                        trace::SiteId site, uint64_t stream, uint64_t time_us) {
  given = std::max(given, asked);
  if (!is_possible(address, given) || asked == 0) return;
  const uint64_t end = address + given;
  // Whatever overlaps was freed without a record.
  for (auto old = first_live(address); old != lives_.end() && old->first < end;) {
    const uint64_t gone = old->first;
    ++old;
    free(gone, time_us);
  }
  // What no page is known for gets one, so that the block has a segment to lie in.
  std::vector<std::pair<uint64_t, uint64_t>> gaps;
  uint64_t at = address;
  auto page = first_page(address);
  for (; page != pages_.end() && page->first < end; ++page) {
    if (page->first > at) gaps.emplace_back(at, page->first - at);
    at = std::max(at, page->first + page->second.size);
  }
  if (at < end) gaps.emplace_back(at, end - at);
  for (const auto& [begin, size] : gaps) put_page(begin, {size, device, true}, time_us);

  const auto live = lives_.emplace(address, Live{asked, given, stream, site}).first;
  for (page = first_page(address); page != pages_.end() && page->first < end; ++page)
    emit_block(TorchAction::alloc, *page, *live, time_us);
}

void TorchMemory::free(uint64_t address, uint64_t time_us) {
  const auto live = lives_.find(address);
  if (live == lives_.end()) return;
  const uint64_t end = address + live->second.given;
  for (auto page = first_page(address); page != pages_.end() && page->first < end; ++page)
    emit_block(TorchAction::free, *page, *live, time_us);
  lives_.erase(live);
  for (auto page = first_page(address); page != pages_.end() && page->first < end;)
    page = page->second.made_up ? drop_page(page, time_us) : std::next(page);
}

void TorchMemory::out_of_memory(int device, uint64_t asked, uint64_t free_bytes,
                                trace::FrameId frame, uint64_t time_us) {
  TorchEvent event;
  event.action = TorchAction::oom;
  event.address = free_bytes;
  event.size = asked;
  event.frame = frame;
  event.time_us = time_us;
  emit(device, event);
}

void TorchMemory::each_segment(const std::function<void(const Segment&)>& take) const {
  Segment segment;
  auto gap_until = [&segment](uint64_t address, uint64_t& at) {
    if (at < address) segment.blocks.push_back({at, address - at, 0, 0});
    at = std::max(at, address);
  };
  for (const auto& [address, page] : pages_) {
    const bool joins = segment.size != 0 && segment.place == page.place &&
                       segment.address + segment.size == address;
    if (!joins) {
      if (segment.size != 0) take(segment);
      segment = {page.place, address, 0, {}};
    }
    segment.size += page.size;
    uint64_t at = address;
    const uint64_t end = address + page.size;
    for (auto live = first_live(address); live != lives_.end() && live->first < end; ++live) {
      Block block =
          block_of(address, page.size, live->first, live->second.asked, live->second.given);
      if (block.size == 0) continue;
      block.site = live->second.site;
      gap_until(block.address, at);
      segment.blocks.push_back(block);
      at = block.address + block.size;
    }
    gap_until(end, at);
  }
  if (segment.size != 0) take(segment);
}

}  // namespace flexlom::tool
