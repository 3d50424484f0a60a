#include "pool/residency/tracked.h"

#include <sched.h>

#include "pool/device_pool.h"
#include "pool/residency/residency.h"

namespace flexlom::pool {

namespace {

constexpr uint64_t kStuck_ns = 50'000'000;     // no work has ended for this long
constexpr uint64_t kPause_ns = 1'000'000'000;  // then nothing is tried for a while
// Marks: after so many submissions, but not more often than this, because one costs as much as a
// launch (an event is recorded) and work that is launched faster than that is short.
constexpr uint32_t kMarkEvery = 4;
constexpr uint64_t kMarkSoonest_ns = 50'000;
// Looking ahead: rounds without anything to bring in, until somebody has used pages again, and how
// long it goes on after the last page that was brought in.
constexpr uint64_t kSlice_ns = 200'000;
constexpr uint32_t kIdleRounds = 10;
constexpr uint64_t kLookAhead_ns = 1'000'000'000;
// Pages that came early hold frames which others could have kept: a small share of what is away.
constexpr uint64_t kEarlyShare = 4;
constexpr uint64_t kMostEarly_bytes = uint64_t{512} << 20;
constexpr uint64_t kAtOnce_bytes = uint64_t{128} << 20;

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
  Marks& marks = marks_[pool.device()];
  if (marks.uses.fetch_add(1, std::memory_order_relaxed) % kMarkEvery != 0) return;
  const uint64_t now = ThreadSync::now_ns();
  uint64_t last = marks.last_ns.load(std::memory_order_relaxed);
  if (now - last < kMarkSoonest_ns ||
      !marks.last_ns.compare_exchange_strong(last, now, std::memory_order_relaxed))
    return;
  pool.mark_uses();
  if (!scouting_.load(std::memory_order_relaxed) && now < until_ns_.load(std::memory_order_relaxed))
    scout_.nudge();
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
                      const Tracking& tracking, uint64_t ready_bytes, uint64_t* arrival,
                      Outcome* outcome) {
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
    // What is in use stays for now. It is still one of those that move, and what is away counts:
    // the policy learns from both how many have to.
    for (size_t i = 0; i < rest.size(); ++i) {
      rest[i].needed = views[i].needed || views[i].history.last >= over_before;
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
  *outcome = mover_.run_beside(batch, &claims.arrival);
  *arrival = claims.arrival;
  pool_ = &pool;
  context_ = submission.context;
  until_ns_.store(ThreadSync::now_ns() + kLookAhead_ns, std::memory_order_relaxed);
  scout_.start();
  return outcome->up_bytes > 0;
}

// Of what came early; what was used since, or left again, is forgotten.
uint64_t Tracked::waiting_bytes(const std::vector<policy::PageView>& views,
                                const std::vector<PageId>& ids) {
  uint64_t bytes = 0;
  std::erase_if(early_, [&](const Early& early) {
    for (size_t i = 0; i < ids.size(); ++i) {
      if (ids[i].span != early.page.span || ids[i].index != early.page.index) continue;
      if (ids[i].generation != early.page.generation || !views[i].resident ||
          views[i].history.last > early.came)
        return true;
      bytes += views[i].bytes;
      return false;
    }
    return true;
  });
  return bytes;
}

bool Tracked::look_ahead() {
  const std::lock_guard lock(mover_.mutex());
  if (context_ == nullptr || fence_.capture_open()) return false;  // see promote()
  mover_.harvest();
  fence_.advance();
  DevicePool& pool = *pool_;
  const policy::Tick over_before = pool.uses_over_before();
  const policy::Tick now = pool.touch_tick();
  std::vector<PageId> ids;
  std::vector<policy::PageView> views = pool.movable_pages(0, &ids);
  const uint64_t waiting = waiting_bytes(views, ids);
  uint64_t away = 0;
  for (policy::PageView& view : views) {
    view.needed = view.history.last >= over_before;  // in use
    if (!view.resident) away += view.bytes;
  }
  const uint64_t most = std::min(kMostEarly_bytes, away / kEarlyShare);
  if (waiting >= most) return false;
  policy::Context context;
  context.movers_only = true;
  context.free_bytes = pool.spare_device_bytes(true);
  Claims claims(pool);
  claims.up.reserve(views.size());
  claims.down.reserve(views.size());
  early_.reserve(early_.size() + views.size());
  uint64_t coming = 0;
  for (const uint32_t id :
       policy::companions(views, std::min(most - waiting, kAtOnce_bytes), 0, now, context)) {
    if (!pool.claim_unused(ids[id])) continue;
    claims.up.push_back(ids[id]);
    coming += views[id].bytes;
  }
  if (coming == 0) return false;
  uint64_t room = context.free_bytes;
  if (room < coming) {
    for (const uint32_t id : policy::victims(views, coming - room, now, context)) {
      if (!pool.claim_unused(ids[id])) continue;
      claims.down.push_back(ids[id]);
      room += views[id].bytes;
    }
  }
  if (room < coming) return false;
  const Batch batch{&pool, context_, claims.down, claims.up};
  if (mover_.run_beside(batch, &claims.arrival).up_bytes == 0) return false;
  for (const PageId& page : claims.up) early_.push_back({page, now});
  until_ns_.store(ThreadSync::now_ns() + kLookAhead_ns, std::memory_order_relaxed);
  return true;
}

void Tracked::scout() {
  if (ThreadSync::now_ns() >= until_ns_.load(std::memory_order_relaxed)) return;
  scouting_.store(true, std::memory_order_relaxed);
  for (uint32_t idle = 0; idle < kIdleRounds && !scout_.stopping();) {
    const uint64_t start = ThreadSync::now_ns();
    idle = look_ahead() ? 0 : idle + 1;
    if (idle == 0) continue;
    // At most a tenth of the time is spent on looking.
    const uint64_t pause = std::max(kSlice_ns, 10 * (ThreadSync::now_ns() - start));
    const timespec time{0, static_cast<long>(std::min<uint64_t>(pause, 100'000'000))};
    nanosleep(&time, nullptr);
  }
  scouting_.store(false, std::memory_order_relaxed);
}

}  // namespace flexlom::pool
