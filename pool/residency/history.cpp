#include "pool/residency/history.h"

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

namespace flexlom::pool::policy {
namespace {

// Confidence goes up by one when the pattern was right and down by two when it was wrong.
constexpr uint8_t kTrusted = 2;     // from here on the pattern is believed; also where it starts
constexpr uint8_t kConvincing = 5;  // needed where most pages have no rhythm
constexpr uint8_t kMostTrusted = 7;

constexpr float kBurstShare = 64;       // touches closer than 1/64 of the mean are one use
constexpr float kBurstTicks = 0.25f;    // of the mean: what lasts longer is a pace of its own
constexpr uint32_t kMostSamples = 16;   // the mean forgets older uses than about these
constexpr float kRounds = 1.5f;         // silent for longer than this many: out of use
constexpr float kLeftOut = 4;           // rounds: what others do meanwhile says more than the past
constexpr float kLate = 1.25f;          // of the interval: later than this the pattern is broken
constexpr uint32_t kUsesToTeach = 5;    // before a page counts for the population
constexpr float kMadeUp = 30;           // independent draws mixed into a population
constexpr unsigned kMantissaBits = 11;  // of a compact interval
constexpr int kAlike = 224;             // compact intervals this near are the same: about 10 %

// 5 bits of exponent over 11 of mantissa: near values have near codes at any scale, so likeness is
// a subtraction. 0 is left for "none".
uint16_t compact(Tick interval) {
  const auto value = static_cast<uint32_t>(std::min<Tick>(interval, UINT32_MAX));
  const unsigned exponent = 31u - static_cast<unsigned>(std::countl_zero(value | 1u));
  const uint64_t mantissa = (uint64_t{value} << kMantissaBits) >> exponent;
  const auto code =
      static_cast<uint16_t>((exponent << kMantissaBits) | (mantissa & ((1u << kMantissaBits) - 1)));
  return std::max<uint16_t>(code, 1);
}

float expand(uint16_t code) {
  const unsigned exponent = code >> kMantissaBits;
  const unsigned mantissa = (code & ((1u << kMantissaBits) - 1)) | (1u << kMantissaBits);
  return static_cast<float>((uint64_t{mantissa} << exponent) >> kMantissaBits);
}

bool alike(uint16_t a, uint16_t b) {
  const int difference = int{a} - int{b};
  return difference <= kAlike && difference >= -kAlike;
}

// The newest of the recent intervals. Every use of a page comes by here: two shifts, no call.
void remember(History& history, uint16_t code) {
  static_assert(std::endian::native == std::endian::little && sizeof(history.recent) == 16);
  uint64_t newer = 0, older = 0;
  std::memcpy(&newer, history.recent, sizeof newer);
  std::memcpy(&older, history.recent + 4, sizeof older);
  older = (older << 16) | (newer >> 48);
  newer = (newer << 16) | code;
  std::memcpy(history.recent, &newer, sizeof newer);
  std::memcpy(history.recent + 4, &older, sizeof older);
}

// What followed when the last two intervals were last seen, else when the last one was, else the
// last one again.
uint16_t expect(const uint16_t (&recent)[History::kRecent]) {
  unsigned single = 0;
  for (unsigned i = 1; i < History::kRecent && recent[i] != 0; ++i) {
    if (!alike(recent[i], recent[0])) continue;
    if (i + 1 < History::kRecent && recent[i + 1] != 0 && alike(recent[i + 1], recent[1])) {
      return recent[i - 1];
    }
    if (single == 0) single = i;
  }
  return recent[single == 0 ? 0 : single - 1];
}

void end_burst(History& history) {
  history.burst_ticks = 0;
  history.burst_touches = 0;
  history.part_cost = history.parts_cost = 0;
  if (history.burst_cost <= 0) return;
  history.use_cost +=
      history.use_cost > 0 ? (history.burst_cost - history.use_cost) / 4 : history.burst_cost;
  history.burst_cost = 0;
}

// As if `interval` were the first that was seen. Seldom: out of the way of the touches that are
// not.
[[gnu::cold, gnu::noinline]] void restart(History& history, uint16_t code, float interval) {
  std::fill_n(history.recent, History::kRecent, uint16_t{0});
  history.recent[0] = code;
  history.mean_interval = interval;
  history.next = code;
  history.confidence = kTrusted;
  history.uses = 2;
}

float longest(const History& history) {
  return expand(*std::max_element(history.recent, history.recent + History::kRecent));
}

float silent_ticks(const History& history, Tick now) {
  return now > history.last ? static_cast<float>(now - history.last) : 0.0f;
}

// The mean as of now: silence beyond it counts as one more interval.
float mean_with_silence(const History& history, float silent) {
  const auto samples = static_cast<float>(std::min(history.uses - 1, kMostSamples));
  return history.mean_interval + std::max(0.0f, silent - history.mean_interval) / samples;
}

bool on_time(const History& history, float silent) {
  return silent <= expand(history.next) * kLate + 1;
}

// The mean gap of the burst the page is in, when more touches are to come; 0 when not.
float gap_in_burst(const History& history, float silent) {
  if (history.burst_touches == 0) return 0;
  const auto touches = static_cast<float>(history.burst_touches);
  const float gap = static_cast<float>(history.burst_ticks) / touches;
  if (silent > 4 * gap + 1) return 0;
  // Fewer than it is used to, or so many more that this is a new pace.
  const bool more =
      touches + 1.5f < history.touches_per_use || touches > 2 * history.touches_per_use + 4;
  return more ? gap : 0;
}

// Where the steps begin: half octaves.
float edge(unsigned step) { return std::exp2(static_cast<float>(step) / 2); }

// What a touch says about the times of uses.
void note_time(History& history, Tick now) {
  if (history.uses == 0) [[unlikely]] {
    history.last = now;
    history.uses = 1;
    return;
  }
  const Tick interval = now - history.last;
  const auto length = static_cast<float>(static_cast<int64_t>(interval));
  history.last = now;
  if (history.uses == 1) [[unlikely]] {
    history.touches_per_use = 1.0f + static_cast<float>(history.burst_touches);
    history.burst_touches = 0;
    return restart(history, compact(interval), length);
  }
  if (length * kBurstShare < history.mean_interval) {
    if (static_cast<float>(history.burst_ticks) + length < history.mean_interval * kBurstTicks) {
      history.burst_ticks += static_cast<uint32_t>(interval);
      if (history.burst_touches < UINT16_MAX) ++history.burst_touches;
      return;
    }
    end_burst(history);  // the work changed to a faster pace
    history.touches_per_use = 1;
    return restart(history, compact(interval), length);
  }
  const float touches = 1.0f + static_cast<float>(history.burst_touches);
  history.touches_per_use += (touches - history.touches_per_use) / 4;
  end_burst(history);
  const uint16_t code = compact(interval);
  if (length > history.mean_interval * kBurstShare) [[unlikely]] {
    history.touches_per_use =
        static_cast<float>(history.uses);  // what looked like uses was a burst
    return restart(history, code, length);
  }
  if (alike(code, history.next)) {
    history.confidence = std::min<uint8_t>(history.confidence + 1, kMostTrusted);
  } else {
    history.confidence -= std::min<uint8_t>(history.confidence, 2);
  }
  remember(history, code);
  const uint32_t samples = std::min(history.uses, kMostSamples);
  history.mean_interval += (length - history.mean_interval) / static_cast<float>(samples);
  if (history.uses < UINT32_MAX) ++history.uses;
  history.next = expect(history.recent);
}

// As many touches in a row as you like cost no more than the link takes for all of the page.
void note_part(History& history, float cost) {
  const auto code = static_cast<uint16_t>(std::bit_cast<uint32_t>(cost) >> 16);
  if (code != history.part_cost) history.parts_cost = 0;
  history.part_cost = code;
  const auto units = static_cast<uint32_t>(cost * (UINT16_MAX / kLink_ns_per_byte));
  const uint32_t left = UINT16_MAX - history.parts_cost;
  history.parts_cost = static_cast<uint16_t>(history.parts_cost + std::min(units, left));
  history.burst_cost +=
      units <= left ? cost : static_cast<float>(left) / UINT16_MAX * kLink_ns_per_byte;
}

}  // namespace

void touch(History& history, Tick now, float cost) noexcept {
  if (history.uses > 0 && now <= history.last) return;
  note_time(history, now);
  if (cost < kPart_ns_per_byte) {
    note_part(history, cost);
    return;
  }
  history.part_cost = 0;
  history.burst_cost += cost;
}

unsigned Population::step_of(float ticks) {
  // The exponent and the first half of the mantissa: log2 by half octaves.
  const uint32_t bits = std::bit_cast<uint32_t>(std::max(ticks, 1.0f));
  const unsigned octave = (bits >> 23) - 127;
  const bool upper = (bits & 0x7fffff) >= 0x3504f3;  // the mantissa of sqrt(2)
  return std::min(2 * octave + (upper ? 1u : 0u), kSteps - 1);
}

void PopulationSample::add(const History& history) {
  if (history.uses < kUsesToTeach) return;
  if (history.confidence >= kTrusted) {
    ++regular_;
    intervals_.push_back(expand(history.next));
    return;
  }
  ++irregular_;
  const float logarithm = std::log(history.mean_interval);
  logs_ += logarithm;
  squares_ += logarithm * logarithm;
  // The mean of n independent intervals is off by 1 in the root of n; a forgetful one is as good as
  // one of twice as many.
  chance_ += 1 / static_cast<float>(std::min(history.uses - 1, 2 * kMostSamples));
  for (const uint16_t code : history.recent) {
    if (code == 0) break;
    const float interval = expand(code);
    const unsigned step = Population::step_of(interval);
    count_[step] += 1;
    sum_[step] += interval / history.mean_interval;
    inverse_[step] += 1 / history.mean_interval;
  }
}

// For a page silent until `from`, the best that a rule "keep it until edge j, then give up" does:
// time waited for each use met. That is one over Gittins' index, and keeping the pages where it is
// lowest is the best that can be done with uses that cannot be foreseen.
Population PopulationSample::result() const {
  Population result;
  result.rhythmic = regular_ >= irregular_;
  if (!intervals_.empty()) {
    std::vector<float> sorted = intervals_;
    const auto at = sorted.begin() + static_cast<std::ptrdiff_t>(sorted.size() * 3 / 4);
    std::nth_element(sorted.begin(), at, sorted.end());
    result.round = *at;
  }
  if (irregular_ > 0) {
    const auto count = static_cast<float>(irregular_);
    const float variance = squares_ / count - (logs_ / count) * (logs_ / count);
    result.reliability = variance > chance_ / count ? 1 - chance_ / count / variance : 0;
  }
  float left = 0, left_inverse = 0;  // intervals longer than `from`
  for (unsigned i = Population::kSteps; i-- > 0;) {
    left += count_[i];
    left_inverse += inverse_[i];
    if (left == 0) continue;
    const float from = edge(i);
    float met = 0, waited = 0, waiting = left_inverse, best = 0;
    for (unsigned j = i; j + 1 < Population::kSteps; ++j) {
      met += count_[j];
      waited += sum_[j] - from * inverse_[j];
      waiting -= inverse_[j];
      const float until = edge(j + 1) - from;
      // Few intervals say little, hence the made-up ones; their mean is that of the others.
      const float chance = 1 - std::exp(-until * left_inverse / left);
      const float cost = (waited + waiting * until + kMadeUp * chance) / (met + kMadeUp * chance);
      best = j == i ? cost : std::min(best, cost);
    }
    result.wait[i] = best;
  }
  return result;
}

float silence(const History& history, Tick now) noexcept {
  return history.uses < 2 ? 0.0f : silent_ticks(history, now) / (longest(history) + 1);
}

bool retired(const History& history, Tick now, const Population& population) noexcept {
  const float times = silence(history, now);
  if (times <= 2 || silent_ticks(history, now) <= population.round * kRounds) return false;
  // Of independent draws, one in thousands keeps its page waiting for eight means.
  return history.confidence >= kConvincing ||
         (times > 3 && silent_ticks(history, now) > 8 * history.mean_interval);
}

bool in_rhythm(const History& history, Tick now, const Population& population) noexcept {
  return history.confidence >= (population.rhythmic ? kTrusted + 1 : kConvincing) &&
         on_time(history, silent_ticks(history, now));
}

Tick next_use(const History& history, Tick now, const Population& population) noexcept {
  if (history.uses < 2 || retired(history, now, population)) return kFar;
  const float silent = silent_ticks(history, now);
  if (const float gap = gap_in_burst(history, silent); gap > 0) {
    return now + 1 + static_cast<Tick>(gap);
  }
  if (history.confidence >= (population.rhythmic ? kTrusted : kConvincing) &&
      on_time(history, silent)) {
    return std::max(history.last + static_cast<Tick>(expand(history.next)), now + 1);
  }
  const float wait =
      mean_with_silence(history, silent) * population.wait[Population::step_of(silent)];
  return now + 1 + static_cast<Tick>(wait);
}

float touch_interval(const History& history, Tick now, const Population& population) noexcept {
  if (history.uses < 2 || retired(history, now, population))
    return std::numeric_limits<float>::infinity();
  const float silent = silent_ticks(history, now);
  const float mean = mean_with_silence(history, silent) / history.touches_per_use;
  // The program goes round without it: in a phase that it is no part of, what it did in another
  // says nothing.
  const bool left_out = population.rhythmic && silent > population.round * kLeftOut;
  return left_out && population.round > 0 ? std::max(mean, silent) : mean;
}

}  // namespace flexlom::pool::policy
