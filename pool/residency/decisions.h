// What to do on each occasion to move pages, decided from numbers alone: by Residency, which then
// moves real pages, and by the trace advisor, which only counts them.
//
// policy.h says which pages are worth most; here is when it is asked, and what is kept between two
// questions: how fast each function reads over the link, and when to look at exchanges again.
//
// Thread rules: no locks and no clocks; the caller sees to it that one object is used by one thread
// at a time. May throw std::bad_alloc where a list is returned.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "pool/residency/policy.h"

namespace flexlom::pool::policy {

// A request for new memory beyond half of the budget pushes nobody out: it would push out
// everything, itself included.
inline constexpr uint64_t kLargestShare = 2;
// An allocation of at least a sixteenth of the budget may be an arena (buffers.h).
inline constexpr uint64_t kArenaShare = 16;
// Pages demoted with the gate shut once; more are done in several goes, so that nobody waits long.
inline constexpr uint64_t kMostDemoted_bytes = uint64_t{1} << 30;

// Device bytes that large allocations leave for small pages: a sixteenth, at most 64 MiB.
uint64_t small_reserve_bytes(uint64_t budget_bytes) noexcept;

// Touches of the page that are still to come in the run of touches that has begun, the last one
// included, which was a submission that touched it `times` times.
inline double touches_ahead(const History& history, unsigned times = 1) noexcept {
  return std::max(1.0, double{history.touches_per_use} - history.burst_touches + (times - 1));
}

// Whether work that reads `spilled_bytes` in place at `ns_per_byte` does better with its pages on
// the device first. `written_share`: how much of what leaves for them was written and must be
// copied back; below 0: not known. What reads parts reads all of it once, in all its touches
// together (touch()).
bool better_promoted(double ns_per_byte, uint64_t spilled_bytes, double touches_ahead,
                     double written_share = -1) noexcept;

// How fast one function gets through what it names while that is spilled, and what leaves when it
// is on the device instead.
class Profile {
 public:
  struct Choice {
    bool promote_first = false;
    bool measure = false;  // time it, and call observe()
    bool forgot = false;   // what was known is not any more
  };

  // One submission of the function names `spilled_bytes` in host frames. `part_bytes`: what it is
  // taken to name of arenas. That is guessed from where buffers begin, and where these are not
  // known yet, buffers seem to be larger: rates measured then are too low.
  Choice choose(uint64_t spilled_bytes, double touches_ahead, Kind kind,
                uint64_t part_bytes = 0) noexcept;
  // A measured submission took `elapsed_ns` on the device, `host_ns` of which it may have spent
  // waiting for the program to submit it: the first launch of a function loads its code. Returns
  // ns_per_byte() as of now.
  float observe(uint64_t spilled_bytes, uint64_t elapsed_ns, uint64_t host_ns = 0) noexcept;
  // What submissions were charged with so far was wrong: nothing is known any more, and what was
  // asked to be measured under it will say nothing.
  void forget() noexcept;
  // Pages were promoted for it. Of `left_bytes` that left for them it is known whether they had
  // been written; `written_bytes` had.
  void promoted(uint64_t left_bytes, uint64_t written_bytes) noexcept;
  // The median of what is remembered; 0: not measured yet.
  float ns_per_byte() const noexcept { return ns_per_byte_; }

 private:
  static constexpr uint32_t kKept = 5;
  float ns_per_byte_ = 0;
  float rates_[kKept] = {};  // the last measured, in a ring
  uint32_t measured_ = 0, seen_ = 0, measured_at_ = 0, unclear_ = 0;
  uint32_t asked_ = 0, ignored_ = 0;  // measurements asked for, and of those, to be ignored
  static constexpr uint32_t kForgetSoonest = 256;
  uint64_t part_bytes_ = 0;                      // when it was measured last
  uint64_t left_bytes_ = 0, written_bytes_ = 0;  // the older they are, the less they count
  uint32_t promoted_at_ = 0, forget_after_ = kForgetSoonest;
};

// How often it is asked whether pages should change places, in submissions that read in place: soon
// again after an exchange, seldom while there is nothing to exchange. What names much over the link
// is asked about more often: asking takes a thousandth of its time.
class ExchangePace {
 public:
  // `in_place`: how many submissions have read in place so far, and `bytes` what they named there.
  // True: ask now, then call done().
  bool due(uint64_t in_place, uint64_t bytes) noexcept {
    if (in_place < next_ && (in_place < soonest_ || bytes < next_bytes_)) return false;
    next_ = in_place + kSeldom;
    next_bytes_ = ~uint64_t{0};  // one asks at a time
    return true;
  }
  void done(uint64_t in_place, uint64_t bytes, bool moved) noexcept {
    every_ = moved ? kSoonest : std::min(every_ * 2, kSeldom);
    next_ = in_place + every_;
    soonest_ = in_place + kSoonest;
    next_bytes_ = bytes + kMuch;
  }

 private:
  static constexpr uint64_t kSoonest = 8, kSeldom = 512;
  static constexpr uint64_t kMuch = uint64_t{8} << 30;
  uint64_t next_ = kSoonest, every_ = kSoonest, soonest_ = kSoonest, next_bytes_ = kMuch;
};

// Device frames kept free between promotions: the next batch's copies start into them at once, and
// the remapping of what leaves for it hides behind those copies.
uint64_t ready_bytes(uint64_t budget_bytes) noexcept;

// While nothing is promoted that way the frames are better used: how much of them an exchange
// leaves free.
class ReadyFrames {
 public:
  // `promotions`: how many batches have gone in ahead of work so far.
  uint64_t to_leave(uint64_t promotions, uint64_t ready) noexcept {
    const bool lately = promotions != promotions_;
    promotions_ = promotions;
    return lately ? ready : 0;
  }

 private:
  uint64_t promotions_ = ~uint64_t{0};
};

// Memory made a moment ago is about to be used, though nothing is known of it yet: activations come
// after the weights, and must not push each other out. `born_bytes`: what had ever been made when
// this was, `made_bytes`: what has been by now.
bool is_young(uint64_t born_bytes, uint64_t made_bytes, uint64_t budget_bytes) noexcept;

// What leaves for new memory: no young page (marked as needed) while there is another. At most
// kMostDemoted_bytes in one go.
std::vector<uint32_t> leave_for_new(std::vector<PageView>& pages, uint64_t want_bytes, Tick now,
                                    Kind kind);

// Before work that must find its needed pages on the device. `spare_bytes`: frames to be had
// without evicting anything; `ready`: of those, what is to be left over.
Plan plan_promotion(std::vector<PageView>& pages, uint64_t batch_bytes, uint64_t spare_bytes,
                    uint64_t ready, Tick now, Kind kind);

// After work that read in place.
Plan plan_exchange(const std::vector<PageView>& pages, uint64_t batch_bytes, uint64_t spare_bytes,
                   uint64_t ready, Tick now, Kind kind);

}  // namespace flexlom::pool::policy
