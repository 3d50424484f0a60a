// How much of what was freed is kept for the next request, and for how long.
//
// Idle memory goes back after a few seconds (sweep), when somebody asks (trim), when a request
// needs the room (reclaim), and when more of it has gathered than a program can be expected to ask
// for again (keep_less): a program that never pauses would otherwise hold a block of every size
// that it ever had.
#include <algorithm>

#include "pool/device_pool.h"

namespace flexlom::pool {

namespace {

// Held beyond what was in use at one time, and half as much again: this share of the budget, and
// this much at least.
constexpr uint64_t kKeptShare = 32;
constexpr uint64_t kLeastKept = uint64_t{1} << 30;
// Host frames that go back in one sweep: each takes the driver milliseconds.
constexpr unsigned kMostHostFrames = 16;
// A copy is kept for as many idle times as this: a round of a program that is ten times as large as
// the device takes seconds, and a copy may save its page the way down.
constexpr uint64_t kCopyPatience = 12;
// The driver needs memory that is freed behind running work: its own cuMemFree would have waited,
// without a bound.
constexpr uint64_t kReleaseWait_ns = 2'000'000'000;

}  // namespace

// Freed blocks, idle or behind running work, and spare frames. The device mutex is held.
uint64_t DevicePool::cached_bytes() const {
  uint64_t cached = frames_.spare_bytes(Where::device);
  for (Shard& s : shards_) {
    std::lock_guard lock(s.mutex);
    cached += s.stats.cached_bytes;
  }
  return cached;
}

// What is held beyond the bound: by the peak of the last moments, for a program that gives
// everything back at the end of a step will want it again in the next one. The device mutex is
// held.
uint64_t DevicePool::held_beyond() const {
  const uint64_t lately = std::max(lately_asked_.load(std::memory_order_relaxed), asked_before_);
  const uint64_t slack = std::max(device_budget_.limit() / kKeptShare, kLeastKept);
  const uint64_t bound = lately + lately / 2 + slack;
  const uint64_t held = device_budget_.held();
  return held > bound ? held - bound : 0;
}

// Before new memory is made. What is reclaimed serves the request that comes now, as far as it
// fits, and the rest of it goes back the next time. No lock is held.
void DevicePool::keep_less() {
  for (const bool again : {false, true}) {
    if (again) fence_.advance();  // some may lie behind work that has ended by now
    std::lock_guard lock(mutex_);
    if (made_bytes() < keep_less_at_) return;
    const uint64_t over = held_beyond();
    if (over == 0) return;
    const uint64_t released = frames_.release_spare(Where::device, over);
    if (released >= over || released + reclaim(over - released, ~uint64_t{0}) >= over) return;
    // It does lie behind running work: no use in asking about it every time.
    if (again) keep_less_at_ = made_bytes() + over / 4;
  }
}

// Unmaps idle spans until `want_bytes` of frames are spare; only what sat idle before
// `before_tick`.
uint64_t DevicePool::reclaim(uint64_t want_bytes, uint64_t before_tick) {
  uint64_t found = 0;
  std::vector<Span*> idle;
  for (unsigned pass = 0; pass < 2 && found < want_bytes; ++pass) {
    for (Shard& s : shards_) {
      if (found >= want_bytes) break;
      idle.clear();
      {
        std::lock_guard lock(s.mutex);
        s.take_idle(fence_, before_tick, want_bytes - found, pass == 0, &idle);
        for (Span* span : idle) {
          publish(*span, nullptr);
          span->objects.reset();
        }
      }
      for (Span* span : idle) {
        found += span->bytes() - span->spilled_bytes;
        drop_span(span);
      }
    }
  }
  return found;
}

void DevicePool::sweep(uint64_t ticks) {
  fence_.advance();
  if (guard_ != nullptr) settle(0);
  {
    std::lock_guard lock(mutex_);
    ++tick_;
    asked_before_ = lately_asked_.exchange(large_asked_.load(std::memory_order_relaxed),
                                           std::memory_order_relaxed);
    for (Shard& s : shards_) {
      std::lock_guard shard_lock(s.mutex);
      s.tick = tick_;
    }
    if (tick_ <= ticks) return;
    reclaim(~uint64_t{0}, tick_ - ticks - 1);
    frames_.release_spare(Where::device, ~uint64_t{0});
    drop_idle_copies(std::max<uint64_t>(ticks, 1));
  }
  release_host_surplus(std::max<uint64_t>(ticks, 1));
}

// Pages that came to the device and have stayed since will not be on their way down soon. The
// device mutex is held.
void DevicePool::drop_idle_copies(uint64_t ticks) {
  for (Span* span : spans_) {
    for (Page& page : span->pages) {
      if (page.has_copy && !page.moving && tick_ - page.came_tick > kCopyPatience * ticks)
        give_up_copy(page);
    }
  }
}

// Host frames that nobody had use for all the while, a few at a time, and the lock is let go for
// others after each: making them anew takes long, and so does giving them back.
void DevicePool::release_host_surplus(uint64_t ticks) {
  for (unsigned i = 0; i < kMostHostFrames; ++i) {
    std::lock_guard lock(mutex_);
    const uint64_t ahead = host_ahead_bytes();
    if (i == 0 && tick_ % ticks == 0) {
      const uint64_t surplus = frames_.take_host_surplus();
      host_surplus_bytes_ = surplus > ahead ? surplus - ahead : 0;
    }
    if (host_surplus_bytes_ == 0 || frames_.spare_bytes(Where::host) <= ahead) return;
    host_surplus_bytes_ -= std::min(host_surplus_bytes_, frames_.release_spare(Where::host, 1));
  }
}

uint64_t DevicePool::trim(uint64_t keep_bytes) {
  fence_.advance();
  if (guard_ != nullptr) settle(0);
  std::lock_guard lock(mutex_);
  if (keep_bytes == 0) {  // everything, empty small pages too, which no counter knows
    reclaim(~uint64_t{0}, ~uint64_t{0});
    return frames_.release_spare(Where::device, ~uint64_t{0});
  }
  const uint64_t cached = cached_bytes();
  if (cached <= keep_bytes) return 0;
  reclaim(cached - keep_bytes, ~uint64_t{0});
  return frames_.release_spare(Where::device, cached - keep_bytes);
}

uint64_t DevicePool::release_idle() {
  uint64_t epoch = 0;
  {
    std::lock_guard lock(mutex_);
    epoch = newest_pending_epoch();
  }
  if (epoch != 0) fence_.wait(epoch, kReleaseWait_ns);
  return trim(0);
}

}  // namespace flexlom::pool
