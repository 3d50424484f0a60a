#include "pool/residency/residency.h"

#include <algorithm>

#include "pool/device_pool.h"

namespace flexlom::pool {

namespace {

// Work that is slower in place than promoting by a quarter is better off with its pages on the
// device.
constexpr double kWorthIt = 1.25;
// Stopping and starting the device around a batch.
constexpr double kBatchFixed_ns = 100'000;
// A rate is measured again after this many uses: the work may have changed.
constexpr uint32_t kMeasureEvery = 64;

// In place costs once for every touch of the use that begins now; promoting costs once, and once
// more for the way back when the use writes. That is not known: half of it is counted.
bool better_promoted(double ns_per_byte, const Touched& touched) {
  const double bytes = static_cast<double>(touched.spilled_bytes);
  const double in_place_ns = ns_per_byte * bytes * touched.touches_ahead;
  const double way_back = touched.touches_ahead > 1.5 ? 1.5 : 1.0;
  return in_place_ns > bytes * policy::kLink_ns_per_byte * way_back * kWorthIt + kBatchFixed_ns;
}

// Pages demoted with the gate shut once; more are done in several goes, so that nobody waits long.
constexpr uint64_t kMostDemoted = uint64_t{1} << 30;
// Device frames kept free between promotions: the next batch's copies start into them at once, and
// the remapping of what leaves for it hides behind those copies.
constexpr uint64_t kReadyBytes = 128u << 20;
constexpr uint64_t kReadyShare = 32;
// The fence is advanced after this many submissions, so that waiting for work can tell a long queue
// from a kernel that spins.
constexpr policy::Tick kMarkEvery = 32;
// And not more often than this: a mark is an event, which costs as much as a launch.
constexpr uint64_t kMarkSoonest_ns = 2'000'000;
// How often it is asked whether pages should change places, in submissions that read in place: soon
// again after an exchange, seldom while there is nothing to exchange.
constexpr uint64_t kRebalanceSoonest = 8;
constexpr uint64_t kRebalanceSeldom = 512;
// The youngest spans, together this share of the budget, are not demoted for a new one.
constexpr uint64_t kYoungShare = 8;
constexpr size_t kMostProfiles = 1u << 16;

uint64_t ready_bytes(const DevicePool& pool) {
  return std::min(kReadyBytes, pool.device_budget_bytes() / kReadyShare);
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

namespace {

// Memory made a moment ago is about to be used, though nothing is known of it yet: activations come
// after the weights, and must not push each other out.
void protect_young(const DevicePool& pool, const std::vector<PageId>& ids,
                   std::vector<policy::PageView>* views) {
  const uint64_t made = pool.made_bytes();
  for (size_t i = 0; i < ids.size(); ++i) {
    const uint64_t born = ids[i].span->born_bytes.load(std::memory_order_relaxed);
    if (made - born < pool.device_budget_bytes() / kYoungShare) (*views)[i].needed = true;
  }
}

}  // namespace

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
      const policy::Context policy_context{config_.kind, 0};
      const uint64_t want = std::min(bytes - freed, kMostDemoted);
      plan.demote = policy::victims(views, want, pool.touch_tick(), policy_context);
      if (plan.demote.empty()) {
        for (policy::PageView& view : views) view.needed = false;
        plan.demote = policy::victims(views, want, pool.touch_tick(), policy_context);
      }
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
      pool.touch(submission.words, submission.count, cost_of(submission.function), &tracking);
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
  const Touched touched = config_.tracked ? touch(pool, submission, tracking, advice)
                                          : pool.touch(submission.words, submission.count,
                                                       cost_of(submission.function));
  if (touched.tick % kMarkEvery == 0 && touched.tick != 0) mark_progress();
  if (touched.spilled_bytes == 0 || !submission.may_move) return advice;
  advice.spilled_bytes = touched.spilled_bytes;
  bool promote_first = false;
  {
    std::lock_guard lock(mutex_);
    ++stats_.touched;
    if (config_.kind != policy::Kind::pin && submission.function != 0 &&
        (profiles_.size() < kMostProfiles || profiles_.count(submission.function) > 0)) {
      Profile& profile = profiles_[submission.function];
      ++profile.seen;
      const bool known = profile.ns_per_byte > 0;
      promote_first = known && better_promoted(profile.ns_per_byte, touched);
      advice.measure =
          !known || (!promote_first && profile.seen - profile.measured_at >= kMeasureEvery);
      if (advice.measure) profile.measured_at = profile.seen;
    }
  }
  if (promote_first && config_.tracked && tracked_.worth_trying()) {
    try {
      uint64_t arrival = 0;
      if (tracked_.promote(pool, submission, touched.tick, tracking, ready_bytes(pool), &arrival)) {
        advice.arrival = std::max(advice.arrival, arrival);
        std::lock_guard lock(mutex_);
        ++stats_.promoted_for;
        return advice;
      }
    } catch (...) {
    }
  }
  if (promote_first && mover_.worth_trying()) {
    try {
      if (promote(pool, submission, touched.tick)) {
        std::lock_guard lock(mutex_);
        ++stats_.promoted_for;
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
    rebalance_now = stats_.in_place >= rebalance_at_;
    if (rebalance_now) rebalance_at_ = stats_.in_place + kRebalanceSeldom;
  }
  if (rebalance_now) {
    const bool moved = rebalance(pool, submission.context);
    std::lock_guard lock(mutex_);
    rebalance_every_ = moved ? kRebalanceSoonest : std::min(rebalance_every_ * 2, kRebalanceSeldom);
    rebalance_at_ = stats_.in_place + rebalance_every_;
  }
  return advice;
}

bool Residency::promote(DevicePool& pool, const Submission& submission, policy::Tick tick) {
  std::vector<PageId> ids;
  auto views = pool.movable_pages(tick, &ids);
  const uint64_t spare = pool.spare_device_bytes(true);
  const uint64_t ready = ready_bytes(pool);
  const policy::Context context{config_.kind, spare > ready ? spare - ready : 0};
  policy::Plan plan = policy::plan(views, config_.batch_bytes, tick, context);
  if (spare < ready && !plan.promote.empty()) {
    for (const uint32_t id : plan.demote) views[id].movable = false;
    const auto more = policy::victims(views, ready - spare, tick, context);
    plan.demote.insert(plan.demote.end(), more.begin(), more.end());
  }
  Outcome outcome;
  return run(pool, submission.context, ids, plan, &outcome) && outcome.up_bytes > 0;
}

void Residency::observe(uint64_t function, uint64_t spilled_bytes, uint64_t elapsed_ns) noexcept {
  std::lock_guard lock(mutex_);
  ++stats_.measured;
  const auto found = profiles_.find(function);
  if (found == profiles_.end()) return;
  if (spilled_bytes == 0) return;
  Profile& profile = found->second;
  const auto rate = static_cast<float>(elapsed_ns) / static_cast<float>(spilled_bytes);
  profile.rates[profile.measured++ % Profile::kKept] = rate;
  // Single rates are off both ways: too high where little was spilled and the time is that of the
  // work itself, too low where the work touches only a part of a spilled allocation. Of two the
  // lower one: what is left in place for once is measured again.
  float sorted[Profile::kKept];
  const uint32_t count = std::min(profile.measured, Profile::kKept);
  std::copy_n(profile.rates, count, sorted);
  std::sort(sorted, sorted + count);
  profile.ns_per_byte = sorted[(count - 1) / 2];
  // A reader in between may see the rate of another function once: a guess that is a little off.
  Rate& shown = rates_[place_of(function)];
  shown.ns_per_byte.store(sorted[(count - 1) / 2], std::memory_order_relaxed);
  shown.function.store(function, std::memory_order_release);
}

bool Residency::rebalance(DevicePool& pool, CUcontext context) noexcept {
  if (config_.kind != policy::Kind::automatic || !mover_.worth_trying()) return false;
  try {
    std::vector<PageId> ids;
    const auto views = pool.movable_pages(0, &ids);
    const uint64_t spare = pool.spare_device_bytes(true);
    const uint64_t ready = ready_bytes(pool);
    const policy::Context policy_context{config_.kind, spare > ready ? spare - ready : 0};
    const policy::Plan plan =
        policy::exchanges(views, config_.batch_bytes, pool.touch_tick(), policy_context);
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
