// The keeper: one background thread that gives idle frames back, makes host frames ahead, and calls
// whoever wants to be called at times.
//
// Started at the first allocation, never in a process that only looks. All signals are blocked in
// it, so that the program's handlers run on the program's threads.
#pragma once

#include <pthread.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <vector>

namespace flexlom::pool {

// What the keeper calls every `period_ms` (0: never), with no lock held, later when what it does
// besides takes longer.
struct Beat {
  std::function<void()> call;
  uint64_t period_ms = 0;
};

class Keeper {
 public:
  // `sweep(ticks)` runs once per period; `ticks` periods make up `idle_ms`. idle_ms < 0: idle
  // memory is kept for good. `ahead()` runs after every sweep and after every nudge.
  Keeper(std::function<void(uint64_t)> sweep, std::function<void()> ahead, int64_t idle_ms,
         std::vector<Beat> beats = {});
  ~Keeper() { stop(); }

  void start() noexcept;
  void stop() noexcept;  // joins; safe to call twice and before start()
  // For the end of the process: waits that long at most. What it then still does is its own affair.
  void stop_within(uint64_t timeout_ms) noexcept;
  // The same for a caller that was interrupted anywhere: takes no lock, waits for nothing.
  void leave() noexcept { stop_.store(true, std::memory_order_relaxed); }
  void nudge() noexcept;  // work now instead of at the end of the period
  bool idle() const noexcept { return !started_.load(std::memory_order_relaxed); }
  bool stopping() const noexcept { return stop_.load(std::memory_order_relaxed); }

 private:
  bool ask_to_stop() noexcept;
  static void* run(void* self);
  void loop();

  const std::function<void(uint64_t)> sweep_;
  const std::function<void()> ahead_;
  const std::vector<Beat> beats_;
  std::vector<std::chrono::steady_clock::time_point> due_;  // of each beat; the thread's own
  const uint64_t ticks_;
  const uint64_t period_ms_;
  std::atomic<bool> started_{false};
  std::atomic<bool> stop_{false};
  bool running_ = false;  // guarded by mutex_
  bool nudged_ = false;   // guarded by mutex_
  pthread_t thread_{};
  std::mutex mutex_;
  std::condition_variable wake_;
};

}  // namespace flexlom::pool
