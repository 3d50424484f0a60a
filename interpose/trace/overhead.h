// What flexlom's records take of the program's time: writing them, and walking the stacks in them.
//
// One use in 61 of each thread is timed, which costs two readings of the clock. A prime number, so
// that a program which repeats itself is not timed at the same of its calls every time.
//
// Thread safe; a use is timed in the thread that makes it. Uses may not be nested.
#pragma once

#include <atomic>
#include <cstdint>

#include "interpose/trace/clock.h"

namespace flexlom::trace {

class Overhead {
 public:
  static constexpr uint32_t kEvery = 61;

  // Held around one use.
  class Use {
   public:
    Use() noexcept : since_ns_(++turn_ % kEvery == 0 ? monotonic_ns() : 0) {}
    ~Use() {
      if (since_ns_ != 0) [[unlikely]]
        timed_ns_.fetch_add(monotonic_ns() - since_ns_, std::memory_order_relaxed);
    }
    Use(const Use&) = delete;
    Use& operator=(const Use&) = delete;

   private:
    const uint64_t since_ns_;
  };

  // Of all uses so far, from those that were timed. 0: too few to say.
  static uint64_t estimate_ns() noexcept {
    return timed_ns_.load(std::memory_order_relaxed) * kEvery;
  }
  // In a forked child: what came before was the parent's.
  static void forget() noexcept { timed_ns_.store(0, std::memory_order_relaxed); }

 private:
  // Not zero at first: the first use of a thread is slow for reasons of its own.
  static inline constinit thread_local uint32_t turn_ __attribute__((tls_model("initial-exec"))) =
      kEvery / 2;
  static inline constinit std::atomic<uint64_t> timed_ns_{0};
};

}  // namespace flexlom::trace
