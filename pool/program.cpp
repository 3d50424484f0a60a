// Memory that the program maps itself (CUDA Driver API 6.14: cuMemCreate, cuMemMap), as allocators
// with address ranges of their own do. It lies where the program wants it, in a range of ours that
// the program reserved, and is a span like any other from then on: its pages may lie on the host,
// and change places. What the program holds as a handle are the frames behind it, as many pages as
// it takes.
#include <time.h>

#include <algorithm>

#include "pool/check.h"
#include "pool/device_pool.h"
#include "pool/residency/residency.h"

namespace flexlom::pool {

namespace {

constexpr uint64_t kShortWait_ns = 100'000'000;
// For moves that are under way, in steps of half a millisecond: as long as for an export.
constexpr int kWaits = 2000;
constexpr timespec kPause{0, 500'000};

}  // namespace

CUdeviceptr DevicePool::take_range(size_t bytes, size_t alignment) {
  if (!places_for_program() || bytes == 0 || bytes % kGranule != 0 || bytes > space_.bytes() ||
      alignment > space_.bytes())
    return 0;
  const auto count = static_cast<uint32_t>(bytes >> kGranuleShift);
  const auto unit = static_cast<uint32_t>(std::max(alignment, kGranule) >> kGranuleShift);
  std::lock_guard lock(mutex_);
  const uint32_t begin = space_.take(count + unit - 1);
  if (begin == AddressSpace::kNone) return 0;
  // Aligned is the address, and not its place in our space.
  const CUdeviceptr aligned = (space_.address(begin) + (CUdeviceptr{unit} << kGranuleShift) - 1) &
                              ~((CUdeviceptr{unit} << kGranuleShift) - 1);
  const auto first = static_cast<uint32_t>((aligned - base_) >> kGranuleShift);
  const uint32_t behind = begin + unit - 1 - first;
  if (first > begin) space_.give(begin, first - begin);
  if (behind > 0) space_.give(first + count, behind);
  return aligned;
}

void DevicePool::give_range(CUdeviceptr address, size_t bytes) {
  std::lock_guard lock(mutex_);
  space_.give(static_cast<uint32_t>((address - base_) >> kGranuleShift),
              static_cast<uint32_t>(bytes >> kGranuleShift));
}

// As growth.cpp does for an allocation.
CUresult DevicePool::make_frames(const Request& request, Loose* frames) {
  const uint32_t granules = granules_for(request.bytes);
  bool waited = false;
  bool made_room = residency_ == nullptr;
  keep_less();
  for (;;) {
    uint64_t epoch = 0;
    {
      std::lock_guard lock(mutex_);
      if (!fits_device(granules)) reclaim(request.bytes, ~uint64_t{0});
      const bool fits = fits_device(granules);
      if (!fits && !waited) epoch = newest_pending_epoch();
      if (fits || (epoch == 0 && made_room)) return take_frames(request, frames);
    }
    if (epoch != 0) {
      fence_.wait(epoch, kShortWait_ns);
      waited = true;
    } else {
      make_room(request, granules);
      made_room = true;
    }
  }
}

CUresult DevicePool::take_frames(const Request& request, Loose* frames) {
  const uint32_t granules = granules_for(request.bytes);
  const uint64_t keep = granules > 1 ? small_reserve_ : 0;
  const bool segment = granules == page_granules(kSegmentPage);
  uint32_t at = 0;
  for (unsigned order = segment ? kPageSizes : kPageOrders; order-- > 0;) {
    for (; granules - at >= page_granules(order); at += page_granules(order)) {
      Page page;
      page.granule = at;
      if (take_frame(&page, order, keep, true) != CUDA_SUCCESS) {
        put_frames(frames);
        ++ooms_;
        report_oom(request, false);
        return CUDA_ERROR_OUT_OF_MEMORY;
      }
      frames->pages.push_back(page);
    }
  }
  if (hungry()) hungry_.store(true, std::memory_order_relaxed);
  large_asked_.fetch_add(request.bytes, std::memory_order_relaxed);
  note_asked();
  return CUDA_SUCCESS;
}

void DevicePool::put_frames(Loose* frames) {
  for (const Page& page : frames->pages) {
    frames->shared ? frames_.give_back(page.where, page.order, page.frame)
                   : frames_.put(page.where, page.order, page.frame);
  }
  frames->pages.clear();
}

void DevicePool::give_frames(Loose* frames) {
  std::lock_guard lock(mutex_);
  for (const Page& page : frames->pages)
    large_asked_.fetch_sub(page.bytes(), std::memory_order_relaxed);
  put_frames(frames);
}

CUresult DevicePool::map_frames(CUdeviceptr address, const Request& request,
                                const std::shared_ptr<Arena>& arena, uint32_t offset,
                                Loose* frames) {
  std::lock_guard lock(mutex_);
  const auto first = static_cast<uint32_t>((address - base_) >> kGranuleShift);
  Span* span = blank_span({false, granules_for(request.bytes)}, 0, first);
  size_t mapped = 0;
  CUresult r = CUDA_SUCCESS;
  const auto place = [&](const Page& page) {
    return address + (CUdeviceptr{page.granule} << kGranuleShift);
  };
  for (; mapped < frames->pages.size() && r == CUDA_SUCCESS; ++mapped) {
    const Page& page = frames->pages[mapped];
    r = driver_.map(place(page), page.bytes(), page.frame.handle);
  }
  if (r != CUDA_SUCCESS) {
    for (size_t i = 0; i + 1 < mapped; ++i)
      driver_.unmap(place(frames->pages[i]), frames->pages[i].bytes());
    return r;
  }
  spare_spans_.pop_back();
  span->pages.swap(frames->pages);
  span->exported = frames->shared;
  span->closed = true;
  for (const Page& page : span->pages) {
    if (page.where == Where::host) span->spilled_bytes += page.bytes();
    if (observer_ != nullptr)
      observer_->mapped(config_.device, place(page), page.bytes(), page.where);
  }
  {
    std::lock_guard touch_lock(touch_mutex_);
    // Neighbours may be one buffer, of which a submission names the beginning only.
    span->untracked = true;
    span->arena = arena;
    span->arena_offset = offset;
    for (const Page& page : span->pages) {
      if (arena != nullptr) arena->add(offset + page.granule, page);
    }
  }
  begin_span(*span);
  Shard& shard = shards_[0];
  std::lock_guard shard_lock(shard.mutex);
  Object& object = span->objects[0];
  span->objects_used = 1;
  object.state = ObjectState::live;
  object.id = ++shard.next_id * kShards;
  object.asked_bytes = request.bytes;
  object.kind = Kind::mapped;
  object.sync_memops = true;
  ++shard.stats.allocs;
  ++shard.stats.live_objects;
  if (tracer_ != nullptr) tracer_->allocated(request, describe(object), false);
  return CUDA_SUCCESS;
}

// The device mutex is held.
Span* DevicePool::mapped_span(CUdeviceptr address) const {
  Span* span = contains(address) ? span_at(address) : nullptr;
  return span != nullptr && span->base == address && !span->small && spans_.count(span) > 0 &&
                 span->objects[0].kind == Kind::mapped
             ? span
             : nullptr;
}

CUresult DevicePool::unmap_frames(CUdeviceptr address, Loose* frames) {
  bool was_closed = true;
  for (int i = 0; i < kWaits; ++i) {
    {
      std::lock_guard lock(mutex_);
      Span* span = mapped_span(address);
      if (span == nullptr) return CUDA_ERROR_INVALID_VALUE;
      if (i == 0) was_closed = span->closed;
      span->closed = true;  // no move begins from here on
      if (span->moving == 0) {
        if (take_apart(*span, frames)) return CUDA_SUCCESS;
        span->closed = was_closed;
        return CUDA_ERROR_UNKNOWN;
      }
    }
    nanosleep(&kPause, nullptr);
  }
  std::lock_guard lock(mutex_);
  if (Span* span = mapped_span(address)) span->closed = was_closed;
  return CUDA_ERROR_UNKNOWN;
}

// False, and nothing done: the driver refused the first of it.
bool DevicePool::take_apart(Span& span, Loose* frames) {
  frames->shared = span.exported;
  for (Page& page : span.pages) {
    const CUdeviceptr at = span.base + (CUdeviceptr{page.granule} << kGranuleShift);
    if (driver_.unmap(at, page.bytes()) != CUDA_SUCCESS) {
      if (&page == span.pages.data()) return false;
      if (observer_ != nullptr)
        observer_->warned("a page could not be unmapped; its memory is lost");
      frames->shared = true;
    }
    if (page.has_copy) give_up_copy(page);
    if (observer_ != nullptr) observer_->unmapped(config_.device, at, page.bytes(), page.where);
  }
  {
    std::lock_guard touch_lock(touch_mutex_);
    for (const Page& page : span.pages) {
      if (span.arena != nullptr) span.arena->remove(span.arena_offset + page.granule);
    }
    span.arena = nullptr;
  }
  {
    const auto shard_lock = lock_shard_of(span);
    Shard& shard = shard_of(span);
    if (tracer_ != nullptr) tracer_->freed("cuMemUnmap", describe(span.objects[0]), 0);
    ++shard.stats.frees;
    --shard.stats.live_objects;
    publish(span, nullptr);
    span.objects.reset();
  }
  frames->pages.swap(span.pages);
  span.pages.clear();
  span.spilled_bytes = 0;
  spans_.erase(&span);
  spare_spans_.push_back(&span);
  return true;
}

CUresult DevicePool::open_mapped(CUdeviceptr address) {
  std::lock_guard lock(mutex_);
  Span* span = mapped_span(address);
  if (span == nullptr) return CUDA_ERROR_INVALID_VALUE;
  for (const Page& page : span->pages) {
    // One that is on its way is opened wherever it is shown, but one that is only lent is not; the
    // others may have lost their access with a context.
    if (page.moving && !span->closed) continue;
    const CUdeviceptr at = address + (CUdeviceptr{page.granule} << kGranuleShift);
    const CUresult r = open_access(at, page.bytes(), page.where);
    if (r != CUDA_SUCCESS) return r;
  }
  span->closed = false;
  return CUDA_SUCCESS;
}

CUresult DevicePool::pin_mapped(CUdeviceptr address, bool spilled_too, std::vector<Page>* pages) {
  for (int i = 0; i < kWaits; ++i) {
    {
      std::lock_guard lock(mutex_);
      Span* span = mapped_span(address);
      if (span == nullptr) return CUDA_ERROR_INVALID_VALUE;
      if (spilled_too) span->exported = true;  // no move begins from here on
      if (span->moving == 0) {
        if (span->spilled_bytes > 0 && !spilled_too) return CUDA_ERROR_NOT_SUPPORTED;
        span->exported = true;
        *pages = span->pages;
        return CUDA_SUCCESS;
      }
    }
    nanosleep(&kPause, nullptr);
  }
  return CUDA_ERROR_UNKNOWN;
}

}  // namespace flexlom::pool
