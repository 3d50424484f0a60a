// What is remembered of one page's uses, and what follows from it: when it will be used next.
//
// Time is counted in submissions, not seconds: a program that stalls for a minute has not grown
// cold. A use is a run of touches close together (the dozen launches of one optimizer step on one
// tensor are one use); an interval is the time from one use to the next. Three kinds of page are
// told apart:
//
//   periodic   intervals repeat, with a period of one to five uses (a decode pass: one; forward,
//              recompute, backward, optimizer: four). The next use is when the pattern says.
//   irregular  intervals do not repeat (a routed expert, a row of a cache). How long to wait
//              follows from the page's mean interval, how long it has been silent, and how other
//              irregular pages went on from there.
//   unknown    never used twice, or silent for longer than it ever was. No next use in sight, which
//              is what keeps one scan over cold data from pushing out a working set.
//
// Plain data and pure functions; the caller sees to it that one History is not written by two
// threads. A torn copy of one gives a bad guess, never a wrong byte.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

namespace flexlom::pool::policy {

// A count of submissions on the device; everything one submission touches shares its tick.
using Tick = uint64_t;

// No next use in sight.
inline constexpr Tick kFar = ~Tick{0};

// What a promoted page's way over the link takes, all included, for each byte: with the remapping
// hidden behind the copies 45 to 47 GB/s were reached.
inline constexpr float kLink_ns_per_byte = 1 / 46.0f;
// A touch that costs less than this reads only a part of what it names: a few rows of a table, or
// the few of a hundred tensors that are its share of a list.
inline constexpr float kPart_ns_per_byte = kLink_ns_per_byte / 2;

struct History {
  static constexpr unsigned kRecent = 8;

  Tick last = 0;            // the last touch
  float mean_interval = 0;  // 0: not known yet
  float touches_per_use = 1;
  float use_cost = 0;    // ns for each byte of one use, were the page read in place; 0: not known
  float burst_cost = 0;  // of the running use, so far
  uint32_t uses = 0;
  uint32_t uses_at_move = 0;   // what `uses` was when it last changed places
  uint32_t burst_ticks = 0;    // how long the running use has lasted
  uint16_t burst_touches = 0;  // of the running use, beyond its first
  // What its last touch cost, if that was one that reads a part (0: it was not), and such touches
  // in a row that cost the same, so far: as compact costs, and in 65535ths of the link's.
  uint16_t part_cost = 0, parts_cost = 0;
  uint16_t recent[kRecent] = {};  // the last intervals as compact floats, newest first; 0: none
  uint16_t next = 0;              // what the pattern says about the interval now running, as those
  uint8_t confidence = 0;         // how well the pattern did lately, 0 to 7
};
// Every launch reads those of what it names: a cache line each.
static_assert(sizeof(History) <= 64);

// One submission names the page (or the allocation it belongs to); `cost` is what that takes in ns
// for each byte, were the page in host memory, 0: not known. About 10 ns.
// Touches in a row by work that reads a part each read the page once together, however many they
// are: PyTorch's optimizers name a tensor from the launch that updates it to the last one of the
// step, for they do not clear what was on the list before.
void touch(History& history, Tick now, float cost = 0) noexcept;

// The submission that touched it last does so this often besides, as the nodes of a graph do;
// `cost` as above, of each time. What reads parts reads no more of it in all.
inline void touch_again(History& history, unsigned times, float cost) noexcept {
  history.burst_touches =
      static_cast<uint16_t>(std::min<unsigned>(history.burst_touches + times, UINT16_MAX));
  if (cost >= kPart_ns_per_byte) history.burst_cost += cost * static_cast<float>(times);
}

// The page changed places, not because a use had to have it.
inline void note_move(History& history) noexcept { history.uses_at_move = history.uses; }

// What the uses of many pages say about those of one.
struct Population {
  static constexpr unsigned kSteps = 64;

  // How long to expect to wait for an irregular page, in its mean intervals, by how long it has
  // been silent (`step_of` ticks). 1 throughout for independent draws. Lower where uses cluster
  // (a token uses the expert that the last one used) and higher beyond, lower again where a use is
  // due.
  float wait[kSteps];
  // Whether a page seen twice may be taken to keep the interval: most others do.
  bool rhythmic = true;
  // How much of the difference between irregular pages' mean intervals is a difference between the
  // pages, and not chance: 0 to 1.
  float reliability = 1;
  // The interval that three of four pages in rhythm keep or stay below: the round of the whole
  // program. Who was silent for less may just be waiting for its part of the round. 0: not known.
  float round = 0;

  Population() { std::fill_n(wait, kSteps, 1.0f); }
  static unsigned step_of(float ticks);
};

// Learns a Population, one page after the other.
class PopulationSample {
 public:
  void add(const History& history);
  Population result() const;

 private:
  uint32_t regular_ = 0, irregular_ = 0;
  std::vector<float> intervals_;  // of the regular ones
  // Of irregular pages, logarithms of the mean intervals: sum, sum of squares, and of the variances
  // that chance gives them.
  float logs_ = 0, squares_ = 0, chance_ = 0;
  // By step, of the intervals that end in it: how many, their sum in mean intervals of their pages,
  // and the sum of one over those means.
  float count_[Population::kSteps] = {};
  float sum_[Population::kSteps] = {};
  float inverse_[Population::kSteps] = {};
};

// When the page will be touched next: later than `now`, or kFar.
Tick next_use(const History& history, Tick now, const Population& population = {}) noexcept;

// Whether the page is known to keep a rhythm and is not late.
bool in_rhythm(const History& history, Tick now, const Population& population = {}) noexcept;

// Mean time between touches as of now, in ticks, bursts counted in full: reading a page in place
// costs its bytes once in this time. Infinite when unknown.
float touch_interval(const History& history, Tick now, const Population& population = {}) noexcept;

// How long the page has been silent, in times its longest recent interval; 0 while it has none.
float silence(const History& history, Tick now) noexcept;

// Whether the page was in use once and has been silent for much longer than it ever was.
bool retired(const History& history, Tick now, const Population& population = {}) noexcept;

}  // namespace flexlom::pool::policy
