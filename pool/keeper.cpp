#include "pool/keeper.h"

#include <signal.h>
#include <time.h>

#include <algorithm>

namespace flexlom::pool {

namespace {
// Idle time is counted in this many sweeps: memory goes back between idle_ms and 1.25 times that.
constexpr uint64_t kTicks = 4;
constexpr uint64_t kShortestPeriod_ms = 20;
constexpr uint64_t kDefaultPeriod_ms = 250;
}  // namespace

Keeper::Keeper(std::function<void(uint64_t)> sweep, std::function<void()> ahead, int64_t idle_ms,
               std::vector<Beat> beats)
    : sweep_(std::move(sweep)),
      ahead_(std::move(ahead)),
      beats_(std::move(beats)),
      due_(beats_.size()),
      ticks_(idle_ms < 0    ? ~uint64_t{0}
             : idle_ms == 0 ? 0
                            : kTicks),
      period_ms_(idle_ms < 0 ? kDefaultPeriod_ms
                             : std::clamp<uint64_t>(static_cast<uint64_t>(idle_ms) / kTicks,
                                                    kShortestPeriod_ms, kDefaultPeriod_ms * 8)) {}

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

// True: the thread is the caller's to wait for.
bool Keeper::ask_to_stop() noexcept {
  {
    std::lock_guard lock(mutex_);
    stop_.store(true, std::memory_order_relaxed);
    if (!running_) return false;
    running_ = false;
  }
  wake_.notify_all();
  return true;
}

void Keeper::stop() noexcept {
  if (ask_to_stop()) pthread_join(thread_, nullptr);
}

void Keeper::stop_within(uint64_t timeout_ms) noexcept {
  if (!ask_to_stop()) return;
  timespec until{};
  clock_gettime(CLOCK_REALTIME, &until);
  const uint64_t ns = static_cast<uint64_t>(until.tv_nsec) + timeout_ms % 1000 * 1'000'000;
  until.tv_sec += static_cast<time_t>(timeout_ms / 1000 + ns / 1'000'000'000);
  until.tv_nsec = static_cast<long>(ns % 1'000'000'000);
  if (pthread_timedjoin_np(thread_, nullptr, &until) != 0) pthread_detach(thread_);
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
  const std::chrono::milliseconds period(period_ms_);
  const Clock::time_point start = Clock::now();
  Clock::time_point sweep_at = start + period;
  const auto after = [](Clock::time_point at, uint64_t period_ms) {
    return period_ms != 0 ? at + std::chrono::milliseconds(period_ms) : Clock::time_point::max();
  };
  Clock::time_point beat_at = Clock::time_point::max();  // the first of all
  for (size_t i = 0; i < due_.size(); ++i) {
    due_[i] = after(start, beats_[i].period_ms);
    beat_at = std::min(beat_at, due_[i]);
  }
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
      beat_at = Clock::time_point::max();
      for (size_t i = 0; i < due_.size(); ++i) {
        if (Clock::now() >= due_[i]) {
          try {
            beats_[i].call();
          } catch (...) {
          }
          // On the beat, less those that were missed.
          while (due_[i] <= Clock::now()) due_[i] = after(due_[i], beats_[i].period_ms);
        }
        beat_at = std::min(beat_at, due_[i]);
      }
    }
    lock.lock();
  }
}

}  // namespace flexlom::pool
