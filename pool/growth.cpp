// The slow half of the device pool: what happens when no free object fits.
//
// In order: take from other shards, reuse what the fence has released meanwhile, grow on the
// device, take back idle frames of other sizes, wait a bounded time for freed blocks whose work
// still runs, and only then place pages in host frames, or refuse.
#include <algorithm>

#include "pool/check.h"
#include "pool/device_pool.h"
#include "pool/residency/residency.h"

namespace flexlom::pool {

namespace {

// A freed block behind running work is waited for this long before memory is taken from elsewhere.
constexpr uint64_t kReuseWait_ns = 2'000'000;
constexpr uint64_t kShortWait_ns = 100'000'000;
// Growing instead of waiting is fine while this little is pending behind running work.
constexpr uint32_t kPendingBlocks = 4;
constexpr uint64_t kPendingBytes = 64u << 20;
// Host frames made ahead: enough to hide the making of the next ones (2 to 5 GB/s).
constexpr uint64_t kHostAhead_bytes = 512u << 20;

}  // namespace

// From the caller's own shard after a look at the fence, then from the others. A large object moves
// to the caller's shard for good, so that threads that exchange sizes do not meet in each other's
// shards again and again; a small one cannot leave its page, and is taken only when there is no
// room for another page.
Object* DevicePool::take_cached(const Request& request, SizeKey key, unsigned shard,
                                bool small_too) {
  Shard& own = shards_[shard];
  {
    uint64_t epoch = 0;
    std::unique_lock lock(own.mutex);
    own.pending(key, &epoch);
    if (epoch != 0) {
      lock.unlock();
      fence_.advance();
      lock.lock();
    }
    if (Object* object = own.pop(key, request.stream, fence_)) {
      commit(own, object, request);
      return object;
    }
  }
  if (key.small && !small_too) return nullptr;
  for (unsigned i = 1; i < kShards; ++i) {
    Shard& other = shards_[(shard + i) % kShards];
    Object* object = nullptr;
    {
      std::lock_guard lock(other.mutex);
      object = other.pop(key, request.stream, fence_);
      if (object == nullptr) continue;
      if (key.small) {
        commit(other, object, request);
        return object;
      }
      object->span->shard.store(shard, std::memory_order_release);
    }
    // On no list and not live: nobody else can reach it between the two locks.
    std::lock_guard lock(own.mutex);
    commit(own, object, request);
    return object;
  }
  return nullptr;
}

// With several freed blocks of this size still behind running work, waiting for the oldest costs
// less than another block would, and cuMemFree would have waited for all of it.
Object* DevicePool::reuse_pending(const Request& request, SizeKey key, unsigned shard) {
  Shard& s = shards_[shard];
  uint64_t epoch = 0;
  uint32_t count = 0;
  {
    std::lock_guard lock(s.mutex);
    count = s.pending(key, &epoch);
  }
  if (count < kPendingBlocks || count * key.bytes() < kPendingBytes) return nullptr;
  if (!fence_.wait(epoch, kReuseWait_ns)) return nullptr;
  std::lock_guard lock(s.mutex);
  Object* object = s.pop(key, request.stream, fence_);
  if (object != nullptr) commit(s, object, request);
  return object;
}

Object* DevicePool::grow(const Request& request, SizeKey key, unsigned shard) {
  const uint32_t granules = key.small ? 1 : key.value;
  bool waited = false;  // for freed memory that running work still uses
  bool asked_caller = request.caller_trims == nullptr;
  bool caller_trims = false;
  bool made_room = residency_ == nullptr;
  keep_less();
  for (;;) {
    if (guard_ != nullptr) settle(0);
    uint64_t epoch = 0;
    {
      std::lock_guard lock(mutex_);
      if (!fits_device(granules)) reclaim(uint64_t{granules} << kGranuleShift, ~uint64_t{0});
      const bool fits = fits_device(granules);
      if (!fits && !waited) epoch = newest_pending_epoch();
      if (!fits && caller_trims && frames_.can_spill() && refuse_once(request)) return nullptr;
      if (!fits) caller_trims = false;  // it was asked; the next rounds are of the same request
      if (fits || (epoch == 0 && asked_caller && made_room))
        return grow_now(request, key, shard, fits);
    }
    // No lock is held here: waiting for work and walking the caller's stack may both take their
    // time.
    if (epoch != 0) {
      fence_.wait(epoch, kShortWait_ns);
      if (Object* object = take_cached(request, key, shard, true)) return object;
      waited = true;
    } else if (!asked_caller) {
      caller_trims = request.caller_trims();
      asked_caller = true;
    } else {
      make_room(request, granules);
      made_room = true;
    }
  }
}

// The device mutex is held.
Object* DevicePool::grow_now(const Request& request, SizeKey key, unsigned shard, bool fits) {
  if (!fits && key.small) {
    if (Object* object = take_cached(request, key, shard, true)) return object;
  }
  if (!fits && !key.small) {
    for (Shard& s : shards_) {
      std::lock_guard shard_lock(s.mutex);
      if (Object* object = s.pop_spilled(key.value, fence_)) {
        commit(s, object, request);
        return object;
      }
    }
  }
  Span* span = new_span(key, shard);
  if (span == nullptr) {
    ++ooms_;
    report_oom(request, false);
    return nullptr;
  }
  if (hungry()) hungry_.store(true, std::memory_order_relaxed);
  Shard& s = shards_[shard];
  std::lock_guard shard_lock(s.mutex);
  // Lowest address first: the list is last in, first out.
  for (uint32_t i = span->objects_total; i-- > 1;) s.push_fresh(&span->objects[i]);
  span->objects_used = 1;
  if (guard_ != nullptr) span->objects[0].address = Guard::place(*span, request.bytes);
  commit(s, &span->objects[0], request);
  return &span->objects[0];
}

// New memory is about to be used: others, not used for longer, leave the device for it.
void DevicePool::make_room(const Request& request, uint32_t granules) {
  const uint64_t bytes = uint64_t{granules} << kGranuleShift;
  const uint64_t spare = spare_device_bytes(granules > 1);
  if (bytes > device_budget_.limit() / policy::kLargestShare) return residency_->memory_is_short();
  if (bytes > spare) residency_->make_room(*this, request.context, bytes - spare);
}

uint64_t DevicePool::spare_device_bytes(bool for_large) const {
  std::lock_guard lock(mutex_);
  const uint64_t keep = for_large ? small_reserve_ : 0;
  const uint64_t spare = device_budget_.room() + frames_.spare_bytes(Where::device);
  return spare > keep ? spare - keep : 0;
}

bool DevicePool::fits_device(uint32_t granules) const {
  const uint64_t bytes = uint64_t{granules} << kGranuleShift;
  const uint64_t keep = granules > 1 ? small_reserve_ : 0;
  return device_budget_.room() + frames_.spare_bytes(Where::device) >= bytes + keep;
}

Span* DevicePool::new_span(SizeKey key, unsigned shard) {
  const uint32_t granules = key.small ? 1 : key.value;
  const uint32_t first = guard_ != nullptr ? guard_->take(granules) : space_.take(granules);
  if (first == AddressSpace::kNone) return nullptr;
  Span* span = blank_span(key, shard, first);
  if (back(*span, true) != CUDA_SUCCESS) {
    if (unback(*span)) give_addresses(first, granules, false);
    return nullptr;
  }
  spare_spans_.pop_back();
  if (may_be_arena(*span)) set_arena(*span, Arena::of(span->pages), 0);
  begin_span(*span);
  return span;
}

// A record without pages, still the last of the spare ones.
Span* DevicePool::blank_span(SizeKey key, unsigned shard, uint32_t first) {
  const uint32_t granules = key.small ? 1 : key.value;
  if (spare_spans_.empty()) {
    all_spans_.push_back(std::make_unique<Span>());
    spare_spans_.push_back(all_spans_.back().get());
  }
  Span* span = spare_spans_.back();
  span->shard.store(shard, std::memory_order_relaxed);
  span->first = first;
  span->count = granules;
  span->base = space_.address(first);
  span->small = key.small;
  span->size_class = key.small ? key.value : 0;
  span->object_bytes = key.bytes();
  span->objects_total = key.small ? static_cast<uint32_t>(kGranule / span->object_bytes) : 1;
  span->objects_used = 0;
  span->exported = span->closed = false;
  span->listed_device_bytes = 0;
  span->listed_spilled = false;
  ++span->generation;
  made_bytes_.store(made_bytes_.load(std::memory_order_relaxed) + span->bytes(),
                    std::memory_order_relaxed);
  span->born_bytes.store(made_bytes_.load(std::memory_order_relaxed), std::memory_order_relaxed);
  {
    std::lock_guard touch_lock(touch_mutex_);
    span->history = {};
    span->arrival = 0;
    span->untracked = false;
  }
  span->idle_since = tick_;
  span->spilled_bytes = 0;
  span->pages.clear();
  return span;
}

// It has its pages: from here on it is found by its addresses.
void DevicePool::begin_span(Span& span) {
  span.objects = std::make_unique<Object[]>(span.objects_total);
  for (uint32_t i = 0; i < span.objects_total; ++i) {
    span.objects[i].span = &span;
    span.objects[i].address = span.base + i * span.object_bytes;
  }
  spans_.insert(&span);
  publish(span, &span);
  if (span.spilled_bytes > 0) {
    spilled_total_ += span.spilled_bytes;
    if (observer_ != nullptr) observer_->spilled(config_.device, span.base, span.spilled_bytes);
  }
}

// Only where it pays: what is small for the device can come and go as a whole.
bool DevicePool::may_be_arena(const Span& span) const {
  return residency_ != nullptr && !residency_->is_tracked() && !span.small &&
         span.bytes() >= device_budget_.limit() / policy::kArenaShare;
}

// Made before and deleted after: submissions wait for the mutex.
void DevicePool::set_arena(Span& span, std::shared_ptr<Arena> arena, uint32_t offset) {
  std::lock_guard touch_lock(touch_mutex_);
  span.arena.swap(arena);
  span.arena_offset = offset;
}

void DevicePool::publish(Span& span, Span* value) {
  for (uint32_t g = 0; g < span.count; ++g) {
    table_[span.first + g].store(value, std::memory_order_release);
  }
}

CUresult DevicePool::back(Span& span, bool allow_host) {
  uint32_t granule = 0;
  for (unsigned order = kPageOrders; order-- > 0;) {
    while (span.count - granule >= (uint32_t{1} << order)) {
      const CUresult r = back_page(span, granule, order, allow_host);
      if (r != CUDA_SUCCESS) return r;
      granule += uint32_t{1} << order;
    }
  }
  return CUDA_SUCCESS;
}

// A frame for a page of that order, on the device if there is room.
CUresult DevicePool::take_frame(Page* page, unsigned order, uint64_t keep, bool allow_host) {
  page->order = static_cast<uint8_t>(order);
  CUresult r = frames_.take(Where::device, order, keep, &page->frame);
  if (r != CUDA_SUCCESS && allow_host) {
    page->where = Where::host;
    // Copies kept for pages on the device are worth less than a place for this one.
    if (host_budget_.room() + frames_.spare_bytes(Where::host) < page_bytes(order))
      drop_copies(page_bytes(order));
    r = frames_.take(Where::host, order, 0, &page->frame);
    // Nothing else is left: what cuMemGetInfo says is free can be had, to the last page.
    if (r != CUDA_SUCCESS && keep > 0 &&
        frames_.take(Where::device, order, 0, &page->frame) == CUDA_SUCCESS) {
      page->where = Where::device;
      r = CUDA_SUCCESS;
    }
  }
  return r;
}

CUresult DevicePool::back_page(Span& span, uint32_t granule, unsigned order, bool allow_host) {
  Page page;
  page.granule = granule;
  CUresult r = take_frame(&page, order, span.count > 1 ? small_reserve_ : 0, allow_host);
  if (r != CUDA_SUCCESS) return r;
  const CUdeviceptr address = span.base + (CUdeviceptr{granule} << kGranuleShift);
  const size_t bytes = page_bytes(order);
  r = driver_.map(address, bytes, page.frame.handle);
  if (r != CUDA_SUCCESS) {
    frames_.put(page.where, order, page.frame);
    return r;
  }
  r = open_access(address, bytes, page.where);
  // Known to the span, so that undoing it either unmaps the page or gives up its address.
  span.pages.push_back(page);
  if (r != CUDA_SUCCESS) return r;
  if (page.where == Where::host) span.spilled_bytes += bytes;
  if (observer_ != nullptr) observer_->mapped(config_.device, address, bytes, page.where);
  return CUDA_SUCCESS;
}

// False when a page stayed mapped: its frame is still held, and its addresses must never be used
// again.
bool DevicePool::unback(Span& span) {
  bool clean = true;
  for (const Page& page : span.pages) {
    const CUdeviceptr address = span.base + (CUdeviceptr{page.granule} << kGranuleShift);
    const size_t bytes = page_bytes(page.order);
    if (driver_.unmap(address, bytes) != CUDA_SUCCESS) {
      if (observer_ != nullptr)
        observer_->warned("a page could not be unmapped; its memory is lost");
      clean = false;
      if (page.has_copy) frames_.put(Where::host, page.order, page.copy);
      continue;
    }
    if (span.exported) {
      frames_.give_back(page.where, page.order, page.frame);
    } else {
      frames_.put(page.where, page.order, page.frame);
    }
    if (page.has_copy) frames_.put(Where::host, page.order, page.copy);
    if (observer_ != nullptr) observer_->unmapped(config_.device, address, bytes, page.where);
  }
  span.pages.clear();
  span.spilled_bytes = 0;
  return clean;
}

void DevicePool::drop_span(Span* span) {
  if (unback(*span)) give_addresses(span->first, span->count, true);
  spans_.erase(span);
  set_arena(*span, nullptr, 0);
  spare_spans_.push_back(span);
}

void DevicePool::give_addresses(uint32_t first, uint32_t granules, bool used) {
  if (guard_ == nullptr) return space_.give(first, granules);
  // Nobody was told of these: the next allocation of a run that repeats may have them.
  used ? guard_->give_last(first, granules) : guard_->give_at_once(first, granules);
}

uint64_t DevicePool::newest_pending_epoch() {
  uint64_t newest = guard_ != nullptr ? guard_->newest_epoch() : 0;
  for (Shard& s : shards_) {
    std::lock_guard lock(s.mutex);
    if (s.stats.pending_objects > 0) newest = std::max(newest, s.newest_pending_epoch());
  }
  return newest;
}

bool DevicePool::refuse_once(const Request& request) {
  const bool again = refused_bytes_ == request.bytes;
  refused_bytes_ = again ? 0 : request.bytes;
  if (!again) report_oom(request, true);
  return !again;
}

void DevicePool::report_oom(const Request& request, bool soft) {
  if (observer_ == nullptr) return;
  observer_->out_of_memory({request, device_budget_.held(), device_budget_.limit(),
                            host_budget_.held(), host_budget_.limit(), soft});
}

bool DevicePool::take_for_program(uint64_t bytes) {
  std::lock_guard lock(mutex_);
  if (device_budget_.take(bytes)) return true;
  if (device_budget_.room() + frames_.spare_bytes(Where::device) < bytes)
    reclaim(bytes, ~uint64_t{0});
  frames_.release_spare(Where::device, bytes);
  return device_budget_.take(bytes);
}

void DevicePool::note_program_bytes(uint64_t bytes, bool allocated) {
  if (allocated) {
    large_asked_.fetch_add(bytes, std::memory_order_relaxed);
    note_asked();
  } else {
    large_asked_.fetch_sub(bytes, std::memory_order_relaxed);
  }
}

void DevicePool::note_spilled(uint64_t bytes) {
  std::lock_guard lock(mutex_);
  spilled_total_ += bytes;
}

bool DevicePool::wants_host_frames() const {
  std::lock_guard lock(mutex_);
  return hungry();
}

// The device budget is nearly used and fewer host frames are ready than spilling would soon need.
bool DevicePool::hungry() const {
  return frames_.spare_bytes(Where::host) + page_bytes(kMaxPageOrder) <= host_ahead_bytes() &&
         host_budget_.room() >= page_bytes(kMaxPageOrder);
}

// Spare host frames to have ready; none while the device budget is far from used.
uint64_t DevicePool::host_ahead_bytes() const {
  const uint64_t limit = device_budget_.limit();
  if (!frames_.can_spill() || device_budget_.held() < limit - limit / 8) return 0;
  return std::min({kHostAhead_bytes, host_budget_.limit() / 8, limit / 4});
}

void DevicePool::make_host_frame() {
  const size_t bytes = page_bytes(kMaxPageOrder);
  if (!host_budget_.take(bytes)) return;
  Frame frame;
  if (driver_.create(config_.device, Where::host, bytes, &frame.handle) != CUDA_SUCCESS) {
    host_budget_.give(bytes);
    return;
  }
  std::lock_guard lock(mutex_);
  frames_.put(Where::host, kMaxPageOrder, frame);
}

}  // namespace flexlom::pool
