#include "tests/simcuda/kernels.hpp"

#include <time.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <tuple>
#include <utility>

#include "kernels/fingerprint_host.h"
#include "tests/simcuda/raw_memory.hpp"
#include "tests/simcuda/state.hpp"

namespace flexlom::sim {
namespace {

// A parameter list laid out as the CUDA compiler does it: each at its natural alignment.
template <class... A>
constexpr std::array<Param, sizeof...(A)> layout() {
  std::array<Param, sizeof...(A)> list{};
  [[maybe_unused]] size_t index = 0, offset = 0;
  [[maybe_unused]] const auto add = [&](size_t bytes, size_t alignment) {
    offset = (offset + alignment - 1) / alignment * alignment;
    list[index++] = {offset, bytes};
    offset += bytes;
  };
  (add(sizeof(A), alignof(A)), ...);
  return list;
}

template <auto function>
struct Entry;
template <class... A, void (*function)(A...)>
struct Entry<function> {
  template <size_t... index>
  static void call([[maybe_unused]] const std::byte* params, std::index_sequence<index...>) {
    [[maybe_unused]] constexpr auto list = layout<A...>();
    std::tuple<A...> values{};
    ((void)memcpy(&std::get<index>(values), params + list[index].offset, sizeof(A)), ...);
    std::apply(function, values);
  }
  static void run(const std::byte* params) { call(params, std::index_sequence_for<A...>{}); }
  static Kernel make(const char* name) {
    constexpr auto list = layout<A...>();
    Kernel kernel{name, {list.begin(), list.end()}, 0, run};
    if (!kernel.params.empty())
      kernel.param_bytes = kernel.params.back().offset + kernel.params.back().bytes;
    return kernel;
  }
};

void pause_ns(long ns) {
  const timespec t{0, ns};
  nanosleep(&t, nullptr);
}

SIM_RAW uint32_t hash(uint32_t seed, uint64_t i) {
  uint32_t x = seed ^ (static_cast<uint32_t>(i) * 0x9E3779B1u) ^
               (static_cast<uint32_t>(i >> 32) * 0x85EBCA77u);
  x ^= x >> 16;
  x *= 0x7feb352du;
  x ^= x >> 15;
  x *= 0x846ca68bu;
  x ^= x >> 16;
  return x;
}

SIM_RAW void flex_fill(uint32_t* p, uint64_t words, uint32_t seed) {
  for (uint64_t i = 0; i < words; ++i) p[i] = hash(seed, i);
}

SIM_RAW void flex_check(const uint32_t* p, uint64_t words, uint32_t seed, uint64_t* mismatches) {
  uint64_t wrong = 0;
  for (uint64_t i = 0; i < words; ++i) wrong += p[i] != hash(seed, i);
  if (wrong) raw_atomic_add(mismatches, wrong);
}

SIM_RAW void flex_add(uint32_t* p, uint64_t words, uint32_t addend) {
  for (uint64_t i = 0; i < words; ++i) p[i] += addend;
}

void flex_copy(uint32_t* dst, const uint32_t* src, uint64_t words) {
  raw_copy(dst, src, words * 4);
}

SIM_RAW void flex_sum(const uint32_t* p, uint64_t words, uint64_t* total) {
  uint64_t sum = 0;
  for (uint64_t i = 0; i < words; ++i) sum += p[i];
  if (sum) raw_atomic_add(total, sum);
}

SIM_RAW void flex_spin_until(volatile uint32_t* flag, uint32_t value) {
  while (*flag != value) pause_ns(20000);
}

// A sleep, so that simulated streams do not fight over the few real processors.
void flex_spin_ns(uint64_t ns) {
  const uint64_t end = now_ns() + ns;
  for (uint64_t now = now_ns(); now < end; now = now_ns())
    pause_ns(static_cast<long>(std::min<uint64_t>(end - now, 1000000)));
}

SIM_RAW void flex_chase(uint64_t* start, uint64_t steps, uint64_t* last) {
  uint64_t at = reinterpret_cast<uint64_t>(start);
  for (uint64_t i = 0; i < steps; ++i) at = *reinterpret_cast<const uint64_t*>(at);
  *last = at;
}

SIM_RAW void flex_reread(const uint32_t* p, uint64_t words, uint32_t passes, uint64_t* total) {
  const volatile uint32_t* data = p;
  uint64_t sum = 0;
  for (uint32_t pass = 0; pass < passes; ++pass)
    for (uint64_t i = 0; i < words; ++i) sum += data[i] * (2 * uint64_t{pass} + 1);
  if (sum) raw_atomic_add(total, sum);
}

SIM_RAW void flex_gather(const uint64_t* table, uint64_t pieces, uint64_t piece_words,
                         uint64_t* total) {
  uint64_t sum = 0;
  for (uint64_t k = 0; k < pieces; ++k) {
    const auto* piece = reinterpret_cast<const uint32_t*>(table[k]);
    for (uint64_t i = 0; i < piece_words; ++i) sum += piece[i] * (k + 1);
  }
  if (sum) raw_atomic_add(total, sum);
}

SIM_RAW void flex_scatter_add(const uint64_t* table, uint64_t pieces, uint64_t piece_words,
                              uint32_t addend) {
  for (uint64_t k = 0; k < pieces; ++k) {
    auto* piece = reinterpret_cast<uint32_t*>(table[k]);
    for (uint64_t i = 0; i < piece_words; ++i) piece[i] += addend + static_cast<uint32_t>(k);
  }
}

SIM_RAW void flex_visit(uint64_t* start, uint64_t steps, uint64_t* total) {
  uint64_t sum = 0;
  for (uint64_t *at = start, i = 0; i < steps; ++i) {
    sum += at[1];
    at[1] = at[1] * 6364136223846793005u + 1;
    at = reinterpret_cast<uint64_t*>(at[0]);
  }
  if (sum) raw_atomic_add(total, sum);
}

SIM_RAW void flex_serve(uint32_t* p, uint64_t words, const volatile uint32_t* flag,
                        uint32_t rounds) {
  for (uint32_t round = 1; round <= rounds; ++round) {
    while (*flag < round) pause_ns(20000);
    for (uint64_t i = 0; i < words; ++i) p[i] += round;
  }
}

SIM_RAW void flex_grid_steps(uint32_t* a, uint32_t* b, uint64_t words, uint32_t steps) {
  for (uint32_t step = 0; step < steps; ++step) {
    for (uint64_t i = 0; i < words; ++i) b[i] = a[i] + a[words - 1 - i] + step;
    std::swap(a, b);
  }
}

void flex_empty() {}

// Touches its scratch as the real one does, so that a wrong or unmapped one is a fault here too.
// One that is not zero makes the real kernel's results wrong, or keep them back.
void flexlom_fingerprint(kernels::FingerprintLaunch launch) {
  for (uint64_t i = 0; i < launch.count; ++i) {
    const uint64_t scratch = launch.scratch + i * sizeof(kernels::FingerprintScratch);
    const uint64_t from = launch.pages[i].address;
    kernels::Fingerprint result =
        kernels::fingerprint_of(launch.pages[i].bytes, [from](uint64_t offset) {
          return raw_load64(reinterpret_cast<const void*>(from + offset));
        });
    result.low += raw_load64(reinterpret_cast<const void*>(scratch));
    result.high += raw_load64(reinterpret_cast<const void*>(scratch + 8));
    raw_atomic_add(reinterpret_cast<uint64_t*>(scratch + 16), 0);
    const uint64_t to = launch.results + i * sizeof result;
    raw_store64(reinterpret_cast<void*>(to), result.low);
    raw_store64(reinterpret_cast<void*>(to + 8), result.high);
  }
}

}  // namespace

const std::vector<Kernel>& kernels() {
  static const auto* const all = new std::vector<Kernel>{
      Entry<flex_fill>::make("flex_fill"),
      Entry<flex_check>::make("flex_check"),
      Entry<flex_add>::make("flex_add"),
      Entry<flex_copy>::make("flex_copy"),
      Entry<flex_sum>::make("flex_sum"),
      Entry<flex_spin_until>::make("flex_spin_until"),
      Entry<flex_spin_ns>::make("flex_spin_ns"),
      Entry<flex_chase>::make("flex_chase"),
      Entry<flex_reread>::make("flex_reread"),
      Entry<flex_gather>::make("flex_gather"),
      Entry<flex_scatter_add>::make("flex_scatter_add"),
      Entry<flex_visit>::make("flex_visit"),
      Entry<flex_serve>::make("flex_serve"),
      Entry<flex_grid_steps>::make("flex_grid_steps"),
      Entry<flex_empty>::make("flex_empty"),
      Entry<flexlom_fingerprint>::make(kernels::kFingerprintName),
  };
  return *all;
}

const Kernel* find_kernel(std::string_view name) {
  for (const Kernel& kernel : kernels())
    if (name == kernel.name) return &kernel;
  return nullptr;
}

}  // namespace flexlom::sim
