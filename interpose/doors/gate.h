// The gate at the doors: what every submission of work passes.
//
// It counts, holds the submission back while the gate is shut (pool/residency/gate.h), and tells
// the pool's fence that work was submitted. No cache line that other threads write is written.
#pragma once

#include <atomic>
#include <cstdint>

#include "interpose/doors/entries.h"
#include "pool/residency/gate.h"

namespace flexlom::doors {

// What a thread needs when it submits, in one place: between two launches the program fills the
// caches with other things. The number is the same for a thread's life: its lane, its counters, its
// shard.
struct ThreadState {
  unsigned number = 0;  // 0: none yet
  unsigned inside = 0;  // submissions it is inside of
};
extern constinit thread_local ThreadState thread_state __attribute__((tls_model("initial-exec")));
unsigned assign_thread_slot() noexcept;
[[gnu::always_inline]] inline unsigned slot() noexcept {
  const unsigned s = thread_state.number;
  return s != 0 ? s : assign_thread_slot();
}

extern pool::Gate gate;

inline constexpr unsigned kCounterGroups = 16;
struct alignas(64) CounterGroup {
  std::atomic<uint64_t> calls[kEntryCount];
};
extern CounterGroup counters[kCounterGroups];

[[gnu::always_inline]] inline void count(Entry e) noexcept {
  if (gate.beside.counting.load(std::memory_order_relaxed)) [[unlikely]]
    counters[slot() % kCounterGroups].calls[index_of(e)].fetch_add(1, std::memory_order_relaxed);
}

[[gnu::always_inline]] inline void note_submission() noexcept {
  // Between the driver taking the work and the look at the word; the fence relies on it.
  gate.light_fence();
  if (gate.beside.work_submitted.load(std::memory_order_relaxed) == 0) {
    gate.beside.work_submitted.store(1, std::memory_order_release);
  }
}

// In a forked child a shut gate would stay shut: its closer does not exist there.
bool gate_abandoned() noexcept;

// One submission: outlives the call of the driver, and nothing else.
class Submission {
 public:
  [[gnu::always_inline]] Submission() noexcept : lane_(slot() - 1) {
    gate.enter(lane_, &gate_abandoned);
    ++thread_state.inside;
  }
  [[gnu::always_inline]] ~Submission() {
    note_submission();
    --thread_state.inside;
    gate.leave(lane_);
  }
  // Whether this thread is inside one: it must move nothing then, the gate would wait for it.
  static bool open() noexcept { return thread_state.inside > 0; }
  Submission(const Submission&) = delete;
  Submission& operator=(const Submission&) = delete;

 private:
  const unsigned lane_;
};

uint64_t calls_of(Entry e) noexcept;

}  // namespace flexlom::doors
