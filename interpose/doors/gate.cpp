#include "interpose/doors/gate.h"

namespace flexlom::doors {

CounterGroup counters[kCounterGroups];
pool::Gate gate;
constinit thread_local ThreadState thread_state __attribute__((tls_model("initial-exec")));

unsigned assign_thread_slot() noexcept {
  static std::atomic<unsigned> next{0};
  thread_state.number = next.fetch_add(1, std::memory_order_relaxed) + 1;
  return thread_state.number;
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
