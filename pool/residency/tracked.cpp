#include "pool/residency/tracked.h"

#include <sched.h>

#include "pool/device_pool.h"
#include "pool/residency/residency.h"

namespace flexlom::pool {

namespace {

constexpr uint64_t kStuck_ns = 50'000'000;     // no work has ended for this long
constexpr uint64_t kPause_ns = 1'000'000'000;  // then nothing is tried for a while
constexpr uint32_t kMarkEvery = 4;             // submissions
constexpr uint64_t kSlice_ns = 200'000;

// The pages of a batch, until it is over.
class Claims {
 public:
  explicit Claims(DevicePool& pool) : pool_(pool) {}
  ~Claims() {
    for (const PageId& page : up) pool_.unclaim(page, arrival);
    for (const PageId& page : down) pool_.unclaim(page, 0);
  }
  Claims(const Claims&) = delete;
  Claims& operator=(const Claims&) = delete;

  std::vector<PageId> up, down;
  uint64_t arrival = 0;

 private:
  DevicePool& pool_;
};

}  // namespace

bool Tracked::worth_trying() const noexcept {
  return !fence_.capture_open() &&
         ThreadSync::now_ns() >= not_before_ns_.load(std::memory_order_relaxed);
}

void Tracked::note_use(DevicePool& pool) noexcept {
  if (uses_.fetch_add(1, std::memory_order_relaxed) % kMarkEvery == 0) pool.mark_uses();
}

// Until more work is over than that before the tick.
bool Tracked::wait_for_end(DevicePool& pool, uint64_t over_before) {
  const uint64_t start = ThreadSync::now_ns();
  pool.mark_uses();
  for (;;) {
    fence_.advance();
    if (pool.uses_over_before() > over_before) return true;
    if (fence_.capture_open()) return false;
    if (ThreadSync::now_ns() - start > kStuck_ns) {
      not_before_ns_.store(ThreadSync::now_ns() + kPause_ns, std::memory_order_relaxed);
      return false;
    }
    sched_yield();
  }
}

bool Tracked::promote(DevicePool& pool, const Submission& submission, uint64_t tick,
                      const Tracking& tracking, uint64_t ready_bytes, uint64_t* arrival) {
  *arrival = 0;
  // Whoever opens a capture waits for this lock once the fence knows of the capture, so none is
  // open as long as the lock is held (Residency::before_capture).
  const std::lock_guard lock(mover_.mutex());
  if (fence_.capture_open()) return false;
  mover_.harvest();
  fence_.advance();
  pool.uses_over_before();
  std::vector<PageId> ids;
  const std::vector<policy::PageView> views = pool.movable_pages(tick, &ids);
  Claims claims(pool);
  claims.up.reserve(views.size());
  claims.down.reserve(views.size());
  uint64_t needed = 0;
  for (size_t i = 0; i < views.size(); ++i) {
    if (!views[i].needed || views[i].resident) continue;
    if (!views[i].movable || !pool.claim_needed(ids[i], tracking, tick)) return false;
    claims.up.push_back(ids[i]);
    needed += views[i].bytes;
  }
  if (needed == 0) return true;  // under way already
  const uint64_t spare = pool.spare_device_bytes(true);
  const uint64_t wanted = needed + ready_bytes;
  uint64_t found = 0;
  std::vector<policy::PageView> rest = views;
  policy::Context context;
  context.movers_only = true;
  for (;;) {
    const uint64_t over_before = pool.uses_over_before();
    for (size_t i = 0; i < rest.size(); ++i) {
      const bool taken = !rest[i].resident;
      rest[i].movable = views[i].movable && !taken && views[i].history.last < over_before;
    }
    if (spare + found < wanted) {
      for (const uint32_t id : policy::victims(rest, wanted - spare - found, tick, context)) {
        if (!pool.claim_unused(ids[id])) continue;
        claims.down.push_back(ids[id]);
        found += views[id].bytes;
        rest[id].resident = false;
      }
    }
    if (spare + found >= needed) break;
    if (over_before < tick) {
      if (!wait_for_end(pool, over_before)) return false;
    } else if (context.movers_only) {
      context.movers_only = false;  // all work before this submission is over, and too few move
    } else {
      return false;
    }
  }
  const Batch batch{&pool, submission.context, claims.down, claims.up};
  const Outcome outcome = mover_.run_beside(batch, &claims.arrival);
  *arrival = claims.arrival;
  return outcome.up_bytes > 0;
}

}  // namespace flexlom::pool
