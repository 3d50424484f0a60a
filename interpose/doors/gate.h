// The gate: what every submission of work passes.
//
// Today it counts, and tells the pool's fence that work was submitted; nothing is ever held back.
// One relaxed increment on a counter of the thread's own group and one load, no shared line
// written.
#pragma once

#include <atomic>
#include <cstdint>

#include "interpose/doors/entries.h"

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

uint64_t calls_of(Entry e) noexcept;

}  // namespace flexlom::doors
