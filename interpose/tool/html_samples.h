// What a log says over time, thinned out while it is read: exact as long as few things happen, then
// one sample for each interval of time, which doubles whenever there are too many samples.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace flexlom::tool {

// `Sample` has at_ns, the beginning of its interval, and absorb(later), which takes in the next
// one. Times may go back a little, as those of several threads do: they count as the newest. Not
// thread safe.
template <typename Sample>
class Samples {
 public:
  explicit Samples(size_t most) : most_(std::max<size_t>(most, 2)) {}

  // The sample that holds this time, a new one when it is the first of its interval.
  Sample& at(uint64_t at_ns) {
    uint64_t start = start_of(at_ns);
    if (!samples_.empty() && start <= samples_.back().at_ns) return samples_.back();
    while (samples_.size() >= most_) {
      thin_to(most_ / 2);
      start = start_of(at_ns);
      if (start <= samples_.back().at_ns) return samples_.back();
    }
    samples_.push_back({});
    samples_.back().at_ns = start;
    return samples_.back();
  }

  // Doubles the interval until there are at most `most` samples, at least one.
  void thin_to(size_t most) {
    while (samples_.size() > std::max<size_t>(most, 1) && shift_ < 63) {
      shift_++;
      size_t kept = 0;
      for (size_t i = 1; i < samples_.size(); i++) {
        if (start_of(samples_[i].at_ns) == start_of(samples_[kept].at_ns)) {
          samples_[kept].absorb(samples_[i]);
        } else {
          samples_[++kept] = samples_[i];
        }
      }
      samples_.resize(kept + 1);
      for (Sample& sample : samples_) sample.at_ns = start_of(sample.at_ns);
    }
  }

  const std::vector<Sample>& all() const { return samples_; }
  bool empty() const { return samples_.empty(); }
  uint64_t interval_ns() const { return uint64_t{1} << shift_; }  // 1: exact

 private:
  uint64_t start_of(uint64_t at_ns) const { return at_ns >> shift_ << shift_; }

  const size_t most_;
  std::vector<Sample> samples_;
  unsigned shift_ = 0;
};

// Two kinds of memory at one moment, in bytes: of a program's on the device and on the host, or in
// use and held but not in use.
struct Levels {
  uint64_t first_bytes = 0, second_bytes = 0;

  uint64_t sum() const { return first_bytes + second_bytes; }
  bool operator==(const Levels&) const = default;
};

// The moment with most, and the last one, of an interval; and a third level, its most and its last.
struct LevelSample {
  uint64_t at_ns = 0;
  Levels most, last;
  uint64_t held_most = 0, held_last = 0;

  void note(Levels now, uint64_t held_bytes) {
    if (now.sum() >= most.sum()) most = now;
    last = now;
    held_most = std::max(held_most, held_bytes);
    held_last = held_bytes;
  }
  void absorb(const LevelSample& later) {
    if (later.most.sum() >= most.sum()) most = later.most;
    last = later.last;
    held_most = std::max(held_most, later.held_most);
    held_last = later.held_last;
  }
};

// What was moved and refused in an interval.
struct TrafficSample {
  uint64_t at_ns = 0;
  uint64_t promoted_bytes = 0, copied_bytes = 0, clean_bytes = 0;  // the latter two: demoted
  uint64_t spilled_bytes = 0, spills = 0, given_up = 0;

  void absorb(const TrafficSample& later) {
    promoted_bytes += later.promoted_bytes;
    copied_bytes += later.copied_bytes;
    clean_bytes += later.clean_bytes;
    spilled_bytes += later.spilled_bytes;
    spills += later.spills;
    given_up += later.given_up;
  }
};

}  // namespace flexlom::tool
