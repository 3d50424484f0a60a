// Nanoseconds for timing single calls: the time-stamp counter where there is one, calibrated once.
#pragma once

#include <chrono>
#include <thread>

#ifdef __x86_64__
#include <x86intrin.h>
#endif

namespace bench {

class Clock {
 public:
  Clock() {
#ifdef __x86_64__
    using Steady = std::chrono::steady_clock;
    const auto begin = Steady::now();
    const unsigned long long first = ticks();
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    const unsigned long long last = ticks();
    const std::chrono::duration<double, std::nano> elapsed = Steady::now() - begin;
    ns_per_tick_ = elapsed.count() / static_cast<double>(last - first);
    origin_ = first;
#endif
  }

  double now_ns() const {
#ifdef __x86_64__
    return static_cast<double>(ticks() - origin_) * ns_per_tick_;
#else
    return std::chrono::duration<double, std::nano>(
               std::chrono::steady_clock::now().time_since_epoch())
        .count();
#endif
  }

 private:
#ifdef __x86_64__
  // rdtscp waits for earlier instructions; the fence keeps later ones from starting before it.
  static unsigned long long ticks() {
    unsigned core;
    const unsigned long long now = __rdtscp(&core);
    _mm_lfence();
    return now;
  }

  double ns_per_tick_ = 1;
  unsigned long long origin_ = 0;
#endif
};

}  // namespace bench
