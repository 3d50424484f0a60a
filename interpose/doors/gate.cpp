#include "interpose/doors/gate.h"

namespace flexlom::doors {

std::atomic<uint32_t> work_submitted{0};
CounterGroup counters[kCounterGroups];
pool::Gate gate;
std::atomic<bool> watching{false};
std::atomic<bool> tracking{false};
constinit thread_local unsigned thread_slot __attribute__((tls_model("initial-exec"))) = 0;

constinit thread_local unsigned Submission::inside_ __attribute__((tls_model("initial-exec"))) = 0;

unsigned assign_thread_slot() noexcept {
  static std::atomic<unsigned> next{0};
  // 0 means "none yet", so slots start at one group's worth.
  thread_slot = next.fetch_add(1, std::memory_order_relaxed) + kCounterGroups;
  return thread_slot;
}

uint64_t calls_of(Entry e) noexcept {
  uint64_t sum = 0;
  for (const CounterGroup& g : counters)
    sum += g.calls[index_of(e)].load(std::memory_order_relaxed);
  return sum;
}

}  // namespace flexlom::doors

// For tools that look at the library: which flexlom this is. The string lives as long as the
// process.
extern "C" __attribute__((visibility("default"))) const char* flexlom_version() {
  return FLEXLOM_VERSION;
}
