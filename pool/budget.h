// A promise in bytes: what is held never exceeds the limit, not even for a moment (law 4).
//
// take() reserves before the memory is asked for, give() after it went back. Lock-free, any thread.
#pragma once

#include <atomic>
#include <cstdint>

namespace flexlom::pool {

class Budget {
 public:
  explicit Budget(uint64_t limit_bytes) : limit_(limit_bytes) {}

  bool take(uint64_t bytes) noexcept {
    uint64_t held = held_.load(std::memory_order_relaxed);
    do {
      const uint64_t limit = limit_.load(std::memory_order_relaxed);
      if (bytes > limit || held > limit - bytes) return false;
    } while (!held_.compare_exchange_weak(held, held + bytes, std::memory_order_relaxed));
    uint64_t peak = peak_.load(std::memory_order_relaxed);
    while (peak < held + bytes &&
           !peak_.compare_exchange_weak(peak, held + bytes, std::memory_order_relaxed)) {
    }
    return true;
  }

  void give(uint64_t bytes) noexcept { held_.fetch_sub(bytes, std::memory_order_relaxed); }

  uint64_t held() const noexcept { return held_.load(std::memory_order_relaxed); }
  uint64_t peak() const noexcept { return peak_.load(std::memory_order_relaxed); }
  uint64_t limit() const noexcept { return limit_.load(std::memory_order_relaxed); }
  uint64_t room() const noexcept {
    const uint64_t l = limit(), h = held();
    return h < l ? l - h : 0;
  }

 private:
  std::atomic<uint64_t> limit_;
  std::atomic<uint64_t> held_{0};
  std::atomic<uint64_t> peak_{0};
};

}  // namespace flexlom::pool
