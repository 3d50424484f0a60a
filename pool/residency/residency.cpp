#include "pool/residency/residency.h"

#include <algorithm>

#include "pool/device_pool.h"

namespace flexlom::pool {

namespace {

// The fence is advanced after this many submissions, so that waiting for work can tell a long queue
// from a kernel that spins.
constexpr policy::Tick kMarkEvery = 32;
// And not more often than this: a mark is an event, which costs as much as a launch.
constexpr uint64_t kMarkSoonest_ns = 2'000'000;
constexpr size_t kMostProfiles = 1u << 16;

uint64_t ready_bytes(const DevicePool& pool) {
  return policy::ready_bytes(pool.device_budget_bytes());
}

void protect_young(const DevicePool& pool, const std::vector<PageId>& ids,
                   std::vector<policy::PageView>* views) {
  const uint64_t made = pool.made_bytes();
  for (size_t i = 0; i < ids.size(); ++i) {
    const uint64_t born = ids[i].span->born_bytes.load(std::memory_order_relaxed);
    if (policy::is_young(born, made, pool.device_budget_bytes())) (*views)[i].needed = true;
  }
}

}  // namespace

ResidencyStats Residency::stats() const {
  std::lock_guard lock(mutex_);
  ResidencyStats s = stats_;
  s.moves = mover_.stats();
  return s;
}

bool Residency::run(DevicePool& pool, CUcontext context, const std::vector<PageId>& ids,
                    const policy::Plan& plan, Outcome* outcome) {
  Batch batch;
  batch.pool = &pool;
  batch.context = context;
  for (const uint32_t id : plan.demote) batch.down.push_back(ids[id]);
  for (const uint32_t id : plan.promote) batch.up.push_back(ids[id]);
  if (batch.down.empty() && batch.up.empty()) return false;
  *outcome = mover_.run(batch);
  return !outcome->given_up;
}

uint64_t Residency::make_room(DevicePool& pool, CUcontext context, uint64_t bytes) noexcept {
  memory_is_short();
  if (config_.kind == policy::Kind::pin) return 0;
  mover_.try_harvest();
  uint64_t freed = 0;
  try {
    while (freed < bytes && mover_.worth_trying()) {
      std::vector<PageId> ids;
      auto views = pool.movable_pages(0, &ids);
      protect_young(pool, ids, &views);
      policy::Plan plan;
      plan.demote = policy::leave_for_new(views, bytes - freed, pool.touch_tick(), config_.kind);
      Outcome outcome;
      if (!run(pool, context, ids, plan, &outcome) || outcome.down_bytes == 0) break;
      freed += outcome.down_bytes;
    }
  } catch (...) {
    // Out of host memory for the lists: the allocation is placed without us.
  }
  return freed;
}

// What reading in place costs this function, in ns for each byte. Copies go at the speed of the
// link, and so, for all we know, does what was not measured yet.
float Residency::cost_of(uint64_t function) const noexcept {
  const Rate& rate = rates_[place_of(function)];
  const bool known = function != 0 && rate.function.load(std::memory_order_acquire) == function;
  return known ? rate.ns_per_byte.load(std::memory_order_relaxed) : policy::kLink_ns_per_byte;
}

void Residency::mark_progress() noexcept {
  const uint64_t now = ThreadSync::now_ns();
  uint64_t last = marked_at_ns_.load(std::memory_order_relaxed);
  if (now - last < kMarkSoonest_ns) return;
  if (marked_at_ns_.compare_exchange_strong(last, now, std::memory_order_relaxed)) fence_.mark();
}

Touched Residency::touch(DevicePool& pool, const Submission& submission, Tracking& tracking,
                         Advice& advice) {
  tracking.wild = submission.wild;
  const Touched touched =
      pool.touch(submission, cost_of(submission.function), submission.bases, &tracking);
  advice.tick = touched.tick;
  advice.arrival = submission.wild ? mover_.last_arrival() : tracking.arrival;
  if (mover_.arriving()) mover_.try_harvest();
  return touched;
}

void Residency::submitted(DevicePool& pool, policy::Tick tick) noexcept {
  pool.submitted(tick);
  if (short_.load(std::memory_order_relaxed)) tracked_.note_use(pool);
}

Advice Residency::before(DevicePool& pool, const Submission& submission) noexcept {
  Advice advice;
  Tracking tracking;
  const Touched touched =
      config_.tracked ? touch(pool, submission, tracking, advice)
                      : pool.touch(submission, cost_of(submission.function), submission.bases);
  if (touched.new_arenas > 0) [[unlikely]]
    note_arenas(touched.new_arenas);
  if (touched.tick % kMarkEvery < submission.steps && touched.tick != 0) [[unlikely]]
    mark_progress();
  if (touched.spilled_bytes == 0 || !submission.may_move) [[likely]]
    return advice;
  advice.spilled_bytes = touched.spilled_bytes;
  advice.reading_bytes = touched.reading_bytes;
  bool promote_first = false;
  try {
    std::lock_guard lock(mutex_);
    ++stats_.touched;
    if (config_.kind != policy::Kind::pin && submission.function != 0 &&
        (profiles_.size() < kMostProfiles || profiles_.count(submission.function) > 0)) {
      const auto choice = profiles_[submission.function].choose(
          touched.spilled_bytes, touched.touches_ahead, config_.kind, touched.part_bytes);
      if (choice.forgot)
        rates_[place_of(submission.function)].function.store(0, std::memory_order_release);
      promote_first = choice.promote_first;
      advice.measure = choice.measure;
    }
  } catch (...) {
    // Out of host memory for a profile: in place, unmeasured.
  }
  Outcome outcome;
  if (promote_first && config_.tracked && tracked_.worth_trying()) {
    try {
      uint64_t arrival = 0;
      if (tracked_.promote(pool, submission, touched.tick, tracking, ready_bytes(pool), &arrival,
                           &outcome)) {
        advice.arrival = std::max(advice.arrival, arrival);
        note_promoted(submission.function, outcome);
        return advice;
      }
    } catch (...) {
    }
  }
  if (promote_first && mover_.worth_trying()) {
    try {
      if (promote(pool, submission, touched.tick, &outcome)) {
        note_promoted(submission.function, outcome);
        return advice;
      }
    } catch (...) {
    }
  }
  bool rebalance_now = false;
  {
    std::lock_guard lock(mutex_);
    ++stats_.in_place;
    stats_.in_place_bytes += advice.spilled_bytes;
    steps_in_place_ += submission.steps;
    reading_bytes_ += advice.reading_bytes;
    rebalance_now = exchange_pace_.due(steps_in_place_, reading_bytes_);
  }
  if (rebalance_now) {
    const bool moved = rebalance(pool, submission.context);
    // What it names may have been among that.
    if (moved) {
      advice.spilled_bytes = pool.spilled_bytes(submission.words, submission.count, touched.tick);
      const double left =
          static_cast<double>(advice.spilled_bytes) / static_cast<double>(touched.spilled_bytes);
      advice.reading_bytes =
          static_cast<uint64_t>(left * static_cast<double>(touched.reading_bytes));
    }
    std::lock_guard lock(mutex_);
    stats_.in_place_bytes += advice.spilled_bytes - touched.spilled_bytes;
    reading_bytes_ += advice.reading_bytes - touched.reading_bytes;
    if (advice.spilled_bytes == 0) {
      --stats_.in_place;
      advice.measure = false;
    }
    exchange_pace_.done(steps_in_place_, reading_bytes_, moved);
  }
  return advice;
}

bool Residency::promote(DevicePool& pool, const Submission& submission, policy::Tick tick,
                        Outcome* outcome) {
  std::vector<PageId> ids;
  auto views = pool.movable_pages(tick, &ids);
  const uint64_t spare = pool.spare_device_bytes(true);
  const policy::Plan plan = policy::plan_promotion(views, config_.batch_bytes, spare,
                                                   ready_bytes(pool), tick, config_.kind);
  return run(pool, submission.context, ids, plan, outcome) && outcome->up_bytes > 0;
}

void Residency::note_promoted(uint64_t function, const Outcome& outcome) {
  std::lock_guard lock(mutex_);
  ++stats_.promoted_for;
  const auto found = profiles_.find(function);
  if (found == profiles_.end()) return;
  // Pages that leave for the first time are copied whether or not they were written.
  found->second.promoted(outcome.down_bytes - outcome.down_unknown_bytes,
                         outcome.down_copied_bytes - outcome.down_unknown_bytes);
}

void Residency::note_arenas(uint32_t more) noexcept {
  std::lock_guard lock(mutex_);
  stats_.arenas += more;
  for (auto& [function, profile] : profiles_) profile.forget();
  for (Rate& rate : rates_) rate.function.store(0, std::memory_order_release);
}

void Residency::observe(uint64_t function, uint64_t reading_bytes, uint64_t elapsed_ns,
                        uint64_t host_ns) noexcept {
  std::lock_guard lock(mutex_);
  ++stats_.measured;
  const auto found = profiles_.find(function);
  if (found == profiles_.end()) return;
  if (reading_bytes == 0) return;
  const float rate = found->second.observe(reading_bytes, elapsed_ns, host_ns);
  // A reader in between may see the rate of another function once: a guess that is a little off.
  Rate& shown = rates_[place_of(function)];
  shown.ns_per_byte.store(rate, std::memory_order_relaxed);
  shown.function.store(function, std::memory_order_release);
}

namespace {
// Marks the next of the pages in [begin, end) to come, together `most` bytes, and those that are
// there to stay. Returns the bytes that are to come.
uint64_t want_next(CUdeviceptr begin, CUdeviceptr end, uint64_t most,
                   std::vector<policy::PageView>* views) {
  uint64_t wanted = 0;
  for (policy::PageView& view : *views) {
    if (view.address < begin || view.address >= end) continue;
    view.needed = view.resident || (view.movable && wanted < most);
    if (view.resident) continue;
    if (view.needed) {
      wanted += view.bytes;
    } else {
      view.movable = false;
    }
  }
  return wanted;
}
}  // namespace

bool Residency::bring(DevicePool& pool, CUcontext context, CUdeviceptr address) noexcept {
  AllocationInfo info;
  if (config_.kind == policy::Kind::pin || !pool.contains(address) || !pool.find(address, &info))
    return false;
  try {
    // Whoever else is at work may take pages away again, but not for ever.
    const uint64_t goes = 2 * (info.spilled_bytes / config_.batch_bytes + 1);
    for (uint64_t go = 0; go < goes && info.spilled_bytes > 0; ++go) {
      std::vector<PageId> ids;
      auto views = pool.movable_pages(0, &ids);
      if (want_next(info.base, info.base + info.asked_bytes, config_.batch_bytes, &views) == 0)
        break;
      const uint64_t spare = pool.spare_device_bytes(true);
      const policy::Plan plan =
          policy::plan_promotion(views, 0, spare, 0, pool.touch_tick(), config_.kind);
      Outcome outcome;
      if (!run(pool, context, ids, plan, &outcome) || outcome.up_bytes == 0) break;
      if (!pool.find(address, &info)) return false;
    }
    return info.spilled_bytes == 0;
  } catch (...) {
    return false;
  }
}

bool Residency::rebalance(DevicePool& pool, CUcontext context) noexcept {
  if (config_.kind != policy::Kind::automatic || !mover_.worth_trying()) return false;
  try {
    std::vector<PageId> ids;
    const auto views = pool.movable_pages(0, &ids);
    const uint64_t spare = pool.spare_device_bytes(true);
    uint64_t ready = ready_bytes(pool);
    {
      std::lock_guard lock(mutex_);
      ready = ready_frames_.to_leave(stats_.promoted_for, ready);
    }
    const policy::Plan plan = policy::plan_exchange(views, config_.batch_bytes, spare, ready,
                                                    pool.touch_tick(), config_.kind);
    Outcome outcome;
    if (!run(pool, context, ids, plan, &outcome)) return false;
    for (const auto* list : {&plan.promote, &plan.demote}) {
      for (const uint32_t id : *list) pool.note_exchanged(ids[id]);
    }
    return outcome.up_bytes > 0;
  } catch (...) {
    return false;
  }
}

}  // namespace flexlom::pool
