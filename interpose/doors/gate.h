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

// Set after every submission (see pool/residency/fence.h for why after), cleared by the fence.
extern std::atomic<uint32_t> work_submitted;

inline constexpr unsigned kCounterGroups = 16;
struct alignas(64) CounterGroup {
  std::atomic<uint64_t> calls[kEntryCount];
};
extern CounterGroup counters[kCounterGroups];

// A small number, the same for a thread's life: which counters and which shard it uses.
extern constinit thread_local unsigned thread_slot __attribute__((tls_model("initial-exec")));
unsigned assign_thread_slot() noexcept;
inline unsigned slot() noexcept {
  const unsigned s = thread_slot;
  return s != 0 ? s : assign_thread_slot();
}

inline void count(Entry e) noexcept {
  counters[slot() % kCounterGroups].calls[index_of(e)].fetch_add(1, std::memory_order_relaxed);
}

inline void note_submission() noexcept {
  // Orders the load below after the driver took the work; the fence relies on it.
  std::atomic_thread_fence(std::memory_order_seq_cst);
  if (work_submitted.load(std::memory_order_relaxed) == 0) {
    work_submitted.store(1, std::memory_order_release);
  }
}

extern pool::Gate gate;
// Memory has been short: submissions say what they name before they enter (watch.h).
extern std::atomic<bool> watching;
// Tracked mode: data that submissions copy to a device is looked at for addresses.
extern std::atomic<bool> tracking;
// In a forked child a shut gate would stay shut: its closer does not exist there.
bool gate_abandoned() noexcept;

// One submission: outlives the call of the driver, and nothing else.
class Submission {
 public:
  Submission() noexcept : lane_(slot()) {
    gate.enter(lane_, &gate_abandoned);
    ++inside_;
  }
  ~Submission() {
    note_submission();
    --inside_;
    gate.leave(lane_);
  }
  // Whether this thread is inside one: it must move nothing then, the gate would wait for it.
  static bool open() noexcept { return inside_ > 0; }
  Submission(const Submission&) = delete;
  Submission& operator=(const Submission&) = delete;

 private:
  static constinit thread_local unsigned inside_ __attribute__((tls_model("initial-exec")));
  const unsigned lane_;
};

uint64_t calls_of(Entry e) noexcept;

}  // namespace flexlom::doors
