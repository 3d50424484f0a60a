#include "pool/residency/buffers.h"

#include <algorithm>
#include <bit>

namespace flexlom::pool::policy {

namespace {

// A beginning that is not named for so long is none any more: times its longest interval, and as
// long as the others take to be named a few times each, before it has one.
constexpr uint32_t kIntervals = 3;
constexpr uint32_t kTurns = 4;
constexpr uint32_t kGrace = 256;
constexpr uint32_t kLongest = 1u << 17;  // interval that is believed
constexpr uint32_t kForget = 16;         // of an interval, for each shorter one
constexpr uint32_t kShrink = 1024;       // of the largest, for each smaller one

}  // namespace

Buffers::Buffers(uint32_t granules)
    : granules_(granules), bits_((granules + 63) / 64), begins_(granules) {}

bool Buffers::stale(const Begin& begin) const noexcept {
  const uint64_t silent = named_ - begin.last;
  const uint64_t usual =
      begin.interval > 0 ? uint64_t{kIntervals} * begin.interval : uint64_t{kTurns} * count_;
  return silent > usual + kGrace;
}

uint32_t Buffers::next_known(uint32_t from) const noexcept {
  if (from >= granules_) return granules_;
  uint64_t bits = bits_[from / 64] & (~uint64_t{0} << (from % 64));
  for (size_t i = from / 64;; bits = bits_[i]) {
    if (bits != 0)
      return static_cast<uint32_t>(i * 64) + static_cast<uint32_t>(std::countr_zero(bits));
    if (++i == bits_.size()) return granules_;
  }
}

void Buffers::forget(uint32_t granule) noexcept {
  bits_[granule / 64] &= ~(uint64_t{1} << (granule % 64));
  if (takes_turns(begins_[granule])) --in_turn_;
  --count_;
}

uint32_t Buffers::next_begin(uint32_t from) noexcept {
  for (;;) {
    const uint32_t next = next_known(from);
    if (next == granules_ || !stale(begins_[next])) return next;
    forget(next);
  }
}

Buffers::Extent Buffers::name(uint32_t granule) noexcept {
  granule = std::min(granule, granules_ - 1);
  ++named_;
  Begin& begin = begins_[granule];
  const uint32_t silent = begin.last > 0 ? std::min(named_ - begin.last, kLongest) : 0;
  if (known(granule)) {
    if (takes_turns(begin)) --in_turn_;
    begin.interval = std::max(silent, begin.interval - begin.interval / kForget);
  } else {
    bits_[granule / 64] |= uint64_t{1} << (granule % 64);
    begin.interval = silent;  // known, of one that was given up too early
    ++count_;
  }
  if (takes_turns(begin)) ++in_turn_;
  begin.last = named_;
  const uint32_t end = next_begin(granule + 1);
  const uint32_t length = end - granule;
  if (end < granules_) {
    largest_ = std::max(length, largest_ - largest_ / kShrink);
    return {granule, end, false};
  }
  // Behind the last one lies what nothing was ever cut out of.
  return {granule, granule + std::min(length, std::max(largest_, 1u)), true};
}

}  // namespace flexlom::pool::policy
