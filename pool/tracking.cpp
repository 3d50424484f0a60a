// Tracked mode's side of the pool: who still uses an allocation, and who must wait for it
// (residency/tracked.h).
//
// The touch mutex orders everything: a submission that names an allocation either comes first, and
// then the allocation is in use and cannot be claimed, or it comes second and waits for the claim
// to end. Ends of uses are known from the fence (in_flight.h).
#include <algorithm>

#include "pool/check.h"
#include "pool/device_pool.h"

namespace flexlom::pool {

void DevicePool::wait_unclaimed(std::unique_lock<std::mutex>& touch_lock, const CUdeviceptr* words,
                                size_t count, bool wild) {
  const auto claimed = [&] {
    if (claims_ == 0) return false;
    if (wild) return true;
    for (size_t i = 0; i < count; ++i) {
      const Span* span = span_named(words[i]);
      if (span != nullptr && span->claims > 0) return true;
    }
    return false;
  };
  unclaimed_.wait(touch_lock, [&] { return !claimed(); });
}

void DevicePool::submitted(policy::Tick tick) noexcept {
  if (tick == 0) return;
  std::lock_guard lock(touch_mutex_);
  in_flight_.end(tick);
}

void DevicePool::mark_uses() noexcept {
  policy::Tick before = 0;
  {
    std::lock_guard lock(touch_mutex_);
    before = in_flight_.given_before(touch_tick_);
  }
  // Taken after the look at who is on the way: it covers all those that were not.
  const uint64_t epoch = fence_.stamp();
  {
    std::lock_guard lock(touch_mutex_);
    // Those that have passed go at once: it may be long before anybody asks for them.
    in_flight_.passed(fence_.done());
    in_flight_.mark(epoch, before);
  }
  fence_.advance();
}

policy::Tick DevicePool::uses_over_before() noexcept {
  const uint64_t done = fence_.done();
  std::lock_guard lock(touch_mutex_);
  in_flight_.passed(done);
  return in_flight_.over_before();
}

bool DevicePool::is_tracked(const Span& span) const noexcept {
  return span.history.uses > 0 && !span.untracked;
}

bool DevicePool::claim_needed(const PageId& page, const Tracking& tracking,
                              policy::Tick tick) noexcept {
  std::lock_guard device_lock(mutex_);
  if (page_of(page) == nullptr) return false;
  std::lock_guard lock(touch_mutex_);
  Span& span = *page.span;
  const auto use = std::find_if(tracking.spilled.begin(), tracking.spilled.end(),
                                [&](const Tracking::Use& u) { return u.span == &span; });
  // Named by somebody else since: in use.
  if (use == tracking.spilled.end() || span.untracked || span.history.last != tick) return false;
  if (use->before != 0 && !in_flight_.over(use->before)) return false;
  ++span.claims;
  ++claims_;
  return true;
}

bool DevicePool::claim_unused(const PageId& page) noexcept {
  std::lock_guard device_lock(mutex_);
  if (page_of(page) == nullptr) return false;
  std::lock_guard lock(touch_mutex_);
  Span& span = *page.span;
  if (!is_tracked(span) || !in_flight_.over(span.history.last)) return false;
  ++span.claims;
  ++claims_;
  return true;
}

void DevicePool::unclaim(const PageId& page, uint64_t arrival) noexcept {
  {
    std::lock_guard lock(touch_mutex_);
    FLEXLOM_INVARIANT(page.span->claims > 0 && claims_ > 0);
    if (arrival != 0) page.span->arrival = arrival;
    --page.span->claims;
    --claims_;
  }
  unclaimed_.notify_all();
}

uint64_t DevicePool::seen_in_data(const CUdeviceptr* words, size_t count) noexcept {
  uint64_t arrival = 0;
  std::unique_lock lock(touch_mutex_);
  for (size_t i = 0; i < count; ++i) {
    // A pointer to the end of one allocation may be meant for it, or for the next.
    for (const CUdeviceptr word : {words[i], words[i] - 1}) {
      Span* span = contains(word) ? span_at(word) : nullptr;
      if (span == nullptr) continue;
      span->untracked = true;  // no claim begins from here on
      unclaimed_.wait(lock, [&] { return span->claims == 0; });
      arrival = std::max(arrival, span->arrival);
    }
  }
  return arrival;
}

}  // namespace flexlom::pool
