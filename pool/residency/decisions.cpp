#include "pool/residency/decisions.h"

#include "pool/types.h"

namespace flexlom::pool::policy {
namespace {

// Work that is slower in place than promoting by a quarter is better off with its pages on the
// device.
constexpr double kWorthIt = 1.25;
// Stopping and starting the device around a batch.
constexpr double kBatchFixed_ns = 100'000;
// A rate is measured again after this many uses: the work may have changed.
constexpr uint32_t kMeasureEvery = 64;
// What was written is believed of this many bytes. Of many, half are forgotten; all of them are
// after some uses without a promotion, ever more of these: the work may have changed.
constexpr uint64_t kTellingBytes = uint64_t{128} << 20;
constexpr uint64_t kManyBytes = uint64_t{2} << 30;
constexpr uint32_t kForgetLatest = 1u << 14;
// A buffer of an arena has turned out to be smaller when it is by this factor.
constexpr uint64_t kOtherParts = 2;
constexpr uint32_t kMostUnclear = 3;   // measurements that said nothing, in a row
constexpr uint32_t kMostIgnored = 16;  // measurements of one function that may be under way
constexpr uint64_t kReadyBytes = 128u << 20;
constexpr uint64_t kReadyShare = 32;
// The youngest spans, together this share of the budget, are not demoted for a new one.
constexpr uint64_t kYoungShare = 8;

uint64_t beyond(uint64_t spare_bytes, uint64_t ready) {
  return spare_bytes > ready ? spare_bytes - ready : 0;
}

}  // namespace

uint64_t small_reserve_bytes(uint64_t budget_bytes) noexcept {
  return std::min<uint64_t>(budget_bytes / 16, 64u << 20) & ~(uint64_t{kGranule} - 1);
}

// In place costs once for every touch of the use that begins now; promoting costs once, and once
// more for the way back of what was written. Where that is not known, half of it is counted for
// what is touched often.
bool better_promoted(double ns_per_byte, uint64_t spilled_bytes, double touches_ahead,
                     double written_share) noexcept {
  const double bytes = static_cast<double>(spilled_bytes);
  double use_ns_per_byte = ns_per_byte * touches_ahead;
  if (ns_per_byte < kPart_ns_per_byte)
    use_ns_per_byte = std::min(use_ns_per_byte, double{kLink_ns_per_byte});
  const double in_place_ns = use_ns_per_byte * bytes;
  if (written_share < 0) written_share = touches_ahead > 1.5 ? 0.5 : 0;
  const double moves_ns = bytes * kLink_ns_per_byte * (1 + written_share);
  return in_place_ns > moves_ns * kWorthIt + kBatchFixed_ns;
}

Profile::Choice Profile::choose(uint64_t spilled_bytes, double touches_ahead, Kind kind,
                                uint64_t part_bytes) noexcept {
  Choice choice;
  if (kind == Kind::pin) return choice;
  if (part_bytes > 0 && part_bytes < part_bytes_ / kOtherParts) {
    forget();
    choice.forgot = true;
  }
  ++seen_;
  const bool known = ns_per_byte_ > 0;
  if (left_bytes_ > 0 && seen_ - promoted_at_ > forget_after_) {
    left_bytes_ = written_bytes_ = 0;
    forget_after_ = std::min(2 * forget_after_, kForgetLatest);
  }
  double written_share = -1;
  if (left_bytes_ >= kTellingBytes)
    written_share = static_cast<double>(written_bytes_) / static_cast<double>(left_bytes_);
  choice.promote_first =
      known && better_promoted(double{ns_per_byte_}, spilled_bytes, touches_ahead, written_share);
  if (choice.promote_first && written_share >= 0) forget_after_ = kForgetSoonest;
  choice.measure = !known || (!choice.promote_first && seen_ - measured_at_ >= kMeasureEvery);
  if (choice.measure) {
    measured_at_ = seen_;
    part_bytes_ = part_bytes;
    ++asked_;
  }
  return choice;
}

// Single rates are off both ways: too high where little was spilled and the time is that of the
// work itself, too low where the work touches only a part of a spilled allocation. Of two the lower
// one: what is left in place for once is measured again. Where it cannot be told whether the device
// worked or waited, the work is taken to be as fast as the link, and measured again at once.
float Profile::observe(uint64_t spilled_bytes, uint64_t elapsed_ns, uint64_t host_ns) noexcept {
  if (asked_ > 0) --asked_;
  if (ignored_ > 0) {
    --ignored_;
    return ns_per_byte_;
  }
  if (spilled_bytes == 0) return ns_per_byte_;
  const auto bytes = static_cast<float>(spilled_bytes);
  const float most = static_cast<float>(elapsed_ns) / bytes;
  const float least = static_cast<float>(elapsed_ns - std::min(elapsed_ns, host_ns)) / bytes;
  const bool unclear = least < kLink_ns_per_byte && most > kLink_ns_per_byte * float{kWorthIt};
  if (unclear && unclear_++ < kMostUnclear) {
    measured_at_ = seen_ - kMeasureEvery;
  } else {
    unclear_ = 0;
  }
  rates_[measured_++ % kKept] = unclear ? kLink_ns_per_byte : most;
  float sorted[kKept];
  const uint32_t count = std::min(measured_, kKept);
  std::copy_n(rates_, count, sorted);
  std::sort(sorted, sorted + count);
  return ns_per_byte_ = sorted[(count - 1) / 2];
}

// Some may never come, as when the sampler had no room for them: then as many of the next are
// ignored, which delays it by a launch each.
void Profile::forget() noexcept {
  const uint32_t asked = std::min(asked_, kMostIgnored);
  *this = {};
  asked_ = ignored_ = asked;
}

void Profile::promoted(uint64_t left_bytes, uint64_t written_bytes) noexcept {
  promoted_at_ = seen_;
  left_bytes_ += left_bytes;
  written_bytes_ += written_bytes;
  if (left_bytes_ < kManyBytes) return;
  left_bytes_ /= 2;
  written_bytes_ /= 2;
}

uint64_t ready_bytes(uint64_t budget_bytes) noexcept {
  return std::min(kReadyBytes, budget_bytes / kReadyShare);
}

bool is_young(uint64_t born_bytes, uint64_t made_bytes, uint64_t budget_bytes) noexcept {
  return made_bytes - born_bytes < budget_bytes / kYoungShare;
}

std::vector<uint32_t> leave_for_new(std::vector<PageView>& pages, uint64_t want_bytes, Tick now,
                                    Kind kind) {
  const Context context{kind, 0};
  const uint64_t want = std::min(want_bytes, kMostDemoted_bytes);
  std::vector<uint32_t> leaving = victims(pages, want, now, context);
  if (leaving.empty()) {
    for (PageView& page : pages) page.needed = false;
    leaving = victims(pages, want, now, context);
  }
  return leaving;
}

Plan plan_promotion(std::vector<PageView>& pages, uint64_t batch_bytes, uint64_t spare_bytes,
                    uint64_t ready, Tick now, Kind kind) {
  const Context context{kind, beyond(spare_bytes, ready)};
  Plan result = plan(pages, batch_bytes, now, context);
  if (spare_bytes < ready && !result.promote.empty()) {
    for (const uint32_t id : result.demote) pages[id].movable = false;
    const auto more = victims(pages, ready - spare_bytes, now, context);
    result.demote.insert(result.demote.end(), more.begin(), more.end());
  }
  return result;
}

Plan plan_exchange(const std::vector<PageView>& pages, uint64_t batch_bytes, uint64_t spare_bytes,
                   uint64_t ready, Tick now, Kind kind) {
  return exchanges(pages, batch_bytes, now, {kind, beyond(spare_bytes, ready)});
}

}  // namespace flexlom::pool::policy
