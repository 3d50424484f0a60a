// The clock of the trace log: CLOCK_MONOTONIC in nanoseconds.
#pragma once

#include <time.h>

#include <cstdint>

namespace flexlom::trace {

inline uint64_t time_ns(clockid_t clock) noexcept {
  timespec time{};
  clock_gettime(clock, &time);
  return static_cast<uint64_t>(time.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(time.tv_nsec);
}

inline uint64_t monotonic_ns() noexcept { return time_ns(CLOCK_MONOTONIC); }

}  // namespace flexlom::trace
