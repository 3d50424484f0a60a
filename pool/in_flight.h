// Which submissions may still run, by the tick that each got when it named what it touches. Only
// tracked mode asks (residency/tracked.h): there a page moves beside running work, once all work
// that named it is over.
//
// A submission begins before the driver gets it and ends after the driver took it. A mark says
// "when this epoch of the fence has passed, all submissions before that tick are over"; it is made
// of the oldest submission that has begun and not ended, and of a stamp taken after that was
// looked up, so that the stamp covers all those before it.
//
// Not thread safe: the pool's touch mutex guards it.
#pragma once

#include <algorithm>
#include <deque>
#include <vector>

#include "pool/residency/history.h"

namespace flexlom::pool {

class InFlight {
 public:
  using Tick = policy::Tick;

  // `wild`: it may touch anything, because its arguments could not be read.
  void begin(Tick tick, bool wild) noexcept {
    if (wild) wild_ = std::max(wild_, tick);
    try {
      begun_.push_back(tick);
    } catch (...) {
      lost_ = true;  // out of host memory: nothing is known to be over any more
    }
  }
  void end(Tick tick) noexcept { std::erase(begun_, tick); }

  // The tick before which the driver has everything. `now`: the last tick given.
  Tick given_before(Tick now) const {
    return begun_.empty() ? now + 1 : *std::min_element(begun_.begin(), begun_.end());
  }
  void mark(uint64_t epoch, Tick before) noexcept {
    if (before <= marked_before_) return;
    try {
      marks_.push_back({epoch, before});
      marked_before_ = before;
    } catch (...) {
      // A later mark covers it.
    }
  }
  // Takes note of the epochs that have passed: `done` is the last.
  void passed(uint64_t done) {
    while (!marks_.empty() && marks_.front().epoch <= done) {
      over_before_ = marks_.front().before;
      marks_.pop_front();
    }
  }

  // Whether what was named last at `tick` is used no more, by anybody.
  bool over(Tick tick) const {
    return !lost_ && tick < over_before_ && (wild_ == 0 || wild_ < over_before_);
  }
  Tick over_before() const { return over_before_; }
  size_t open_marks() const { return marks_.size(); }

 private:
  struct Mark {
    uint64_t epoch;
    Tick before;
  };
  std::vector<Tick> begun_;  // as many as there are threads in a submission
  std::deque<Mark> marks_;   // both members ascend
  Tick marked_before_ = 0;
  Tick over_before_ = 0;
  Tick wild_ = 0;  // the last one
  bool lost_ = false;
};

}  // namespace flexlom::pool
