// Copies the pool's numbers onto the page that others read, a few times a second, on the keeper's
// thread.
//
// The counters are those that exist anyway; nothing is counted for this. The largest allocation is
// looked for only when something was allocated or freed since, and so seldom that it takes no more
// than a two-thousandth of the time: it holds the pool's lock for the length of a walk over the
// large allocations, which is 1.5 ms for 20,000 of them.
#pragma once

#include <array>
#include <cstdint>

#include "interpose/live/file.h"
#include "pool/pool.h"

namespace flexlom::live {

class Publisher {
 public:
  static constexpr uint64_t kPeriod_ms = 500;

  // `active_since_ns`: CLOCK_MONOTONIC.
  explicit Publisher(uint64_t active_since_ns) noexcept : active_since_ns_(active_since_ns) {}

  // One thread at a time, with no lock of the pool held.
  void publish(pool::Pool& pool) noexcept;

 private:
  static constexpr size_t kKept = 4;  // totals of as many publications ago: rates over two seconds
  static constexpr uint64_t kLookPause_ns = 2'000'000'000;
  static constexpr uint64_t kLookShare = 2000;

  void name_device(Device* device) noexcept;
  void find_largest(pool::Pool& pool, uint64_t changes) noexcept;

  const uint64_t active_since_ns_;
  File file_;
  Sample sample_{};
  std::array<Totals, kKept> kept_{};
  uint64_t count_ = 0;
  uint64_t seen_changes_ = 0;  // allocations and frees when the largest was looked for
  uint64_t look_at_ns_ = 0;    // not before
  std::array<bool, kDevices> named_{};
};

}  // namespace flexlom::live
