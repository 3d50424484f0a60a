#include "pool/keeper.h"

#include <signal.h>

#include <algorithm>
#include <chrono>

namespace flexlom::pool {

namespace {
// Idle time is counted in this many sweeps: memory goes back between idle_ms and 1.25 times that.
constexpr uint64_t kTicks = 4;
constexpr uint64_t kShortestPeriod_ms = 20;
constexpr uint64_t kDefaultPeriod_ms = 250;
}  // namespace

Keeper::Keeper(std::function<void(uint64_t)> sweep, std::function<void()> ahead, int64_t idle_ms,
               std::function<void()> beat, uint64_t beat_ms)
    : sweep_(std::move(sweep)),
      ahead_(std::move(ahead)),
      beat_(std::move(beat)),
      ticks_(idle_ms < 0    ? ~uint64_t{0}
             : idle_ms == 0 ? 0
                            : kTicks),
      period_ms_(idle_ms < 0 ? kDefaultPeriod_ms
                             : std::clamp<uint64_t>(static_cast<uint64_t>(idle_ms) / kTicks,
                                                    kShortestPeriod_ms, kDefaultPeriod_ms * 8)),
      beat_ms_(beat_ != nullptr ? beat_ms : 0) {}

void Keeper::start() noexcept {
  std::lock_guard lock(mutex_);
  if (started_.load(std::memory_order_relaxed) || stopping()) return;
  started_.store(true, std::memory_order_relaxed);
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  running_ = pthread_create(&thread_, nullptr, &Keeper::run, this) == 0;
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  if (running_) pthread_setname_np(thread_, "flexlom-keeper");
}

void Keeper::stop() noexcept {
  {
    std::lock_guard lock(mutex_);
    stop_.store(true, std::memory_order_relaxed);
    if (!running_) return;
    running_ = false;
  }
  wake_.notify_all();
  pthread_join(thread_, nullptr);
}

void Keeper::nudge() noexcept {
  {
    std::lock_guard lock(mutex_);
    nudged_ = true;
  }
  wake_.notify_one();
}

void* Keeper::run(void* self) {
  static_cast<Keeper*>(self)->loop();
  return nullptr;
}

void Keeper::loop() {
  using Clock = std::chrono::steady_clock;
  const std::chrono::milliseconds period(period_ms_), beat_period(beat_ms_);
  Clock::time_point sweep_at = Clock::now() + period;
  Clock::time_point beat_at = beat_ms_ != 0 ? Clock::now() + beat_period : Clock::time_point::max();
  std::unique_lock lock(mutex_);
  while (!stopping()) {
    wake_.wait_until(lock, std::min(sweep_at, beat_at), [&] { return nudged_ || stopping(); });
    const bool nudged = nudged_;
    nudged_ = false;
    if (stopping()) break;
    lock.unlock();
    const Clock::time_point now = Clock::now();
    try {
      if (now >= sweep_at) sweep_(ticks_);
      if (now >= sweep_at || nudged) ahead_();
    } catch (...) {
      // Out of host memory: what was to be done ahead is done when it is needed.
    }
    // A period from the end of the work: sweeps that take long must not follow each other at once.
    if (now >= sweep_at) sweep_at = Clock::now() + period;
    if (Clock::now() >= beat_at) {
      try {
        beat_();
      } catch (...) {
      }
      // On the beat, less those that were missed.
      while (beat_at <= Clock::now()) beat_at += beat_period;
    }
    lock.lock();
  }
}

}  // namespace flexlom::pool
