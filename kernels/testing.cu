// Kernels for the test programs: fill memory with a known pattern, check it, keep the device busy.
// Every kernel strides over its grid, so any launch shape does the same work. The simulated driver
// carries host functions of the same names and parameters.
#include <cstdint>

#include "kernels/testing_host.h"

namespace {

__device__ uint64_t grid_thread() {
  return static_cast<uint64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
}

__device__ uint64_t grid_threads() { return static_cast<uint64_t>(gridDim.x) * blockDim.x; }

__device__ void add_to(uint64_t* total, uint64_t amount) {
  if (amount != 0) {
    atomicAdd(reinterpret_cast<unsigned long long*>(total), amount);
  }
}

}  // namespace

extern "C" {

__global__ void flex_fill(uint32_t* p, uint64_t words, uint32_t seed) {
  for (uint64_t i = grid_thread(); i < words; i += grid_threads()) {
    p[i] = flexlom_testing_hash(seed, i);
  }
}

__global__ void flex_check(const uint32_t* p, uint64_t words, uint32_t seed, uint64_t* mismatches) {
  uint64_t wrong = 0;
  for (uint64_t i = grid_thread(); i < words; i += grid_threads()) {
    wrong += p[i] != flexlom_testing_hash(seed, i);
  }
  add_to(mismatches, wrong);
}

__global__ void flex_add(uint32_t* p, uint64_t words, uint32_t addend) {
  for (uint64_t i = grid_thread(); i < words; i += grid_threads()) {
    p[i] += addend;
  }
}

__global__ void flex_copy(uint32_t* dst, const uint32_t* src, uint64_t words) {
  for (uint64_t i = grid_thread(); i < words; i += grid_threads()) {
    dst[i] = src[i];
  }
}

__global__ void flex_sum(const uint32_t* p, uint64_t words, uint64_t* total) {
  uint64_t sum = 0;
  for (uint64_t i = grid_thread(); i < words; i += grid_threads()) {
    sum += p[i];
  }
  add_to(total, sum);
}

// flag lies in pinned host memory; every thread spins, so launch it with one.
__global__ void flex_spin_until(volatile uint32_t* flag, uint32_t value) {
  while (*flag != value) {
    __nanosleep(200);
  }
}

__global__ void flex_spin_ns(uint64_t ns) {
  uint64_t begin;
  asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(begin));
  for (uint64_t now = begin; now - begin < ns;) {
    __nanosleep(200);
    asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(now));
  }
}

// Follows 64-bit device pointers, one thread; the address reached is stored in *last.
__global__ void flex_chase(uint64_t* start, uint64_t steps, uint64_t* last) {
  if (grid_thread() != 0) {
    return;
  }
  uint64_t* at = start;
  for (uint64_t i = 0; i < steps; ++i) {
    at = reinterpret_cast<uint64_t*>(*at);
  }
  *last = reinterpret_cast<uint64_t>(at);
}

__global__ void flex_empty() {}

}  // extern "C"
