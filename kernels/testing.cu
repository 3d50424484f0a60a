// Kernels for the test programs: fill memory with a known pattern, check it, keep the device busy.
// Every kernel strides over its grid, so any launch shape does the same work. The simulated driver
// carries host functions of the same names and parameters.
#include <cooperative_groups.h>

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

// Reads its data several times over: slow while the data lie on the host, worth bringing them here.
__global__ void flex_reread(const uint32_t* p, uint64_t words, uint32_t passes, uint64_t* total) {
  const volatile uint32_t* data = p;
  uint64_t sum = 0;
  for (uint32_t pass = 0; pass < passes; ++pass) {
    for (uint64_t i = grid_thread(); i < words; i += grid_threads()) {
      sum += data[i] * (2 * static_cast<uint64_t>(pass) + 1);
    }
  }
  add_to(total, sum);
}

// The data are found through a table in device memory: no parameter names them. One block per piece
// at a time.
__global__ void flex_gather(const uint64_t* table, uint64_t pieces, uint64_t piece_words,
                            uint64_t* total) {
  uint64_t sum = 0;
  for (uint64_t k = blockIdx.x; k < pieces; k += gridDim.x) {
    const uint32_t* piece = reinterpret_cast<const uint32_t*>(table[k]);
    for (uint64_t i = threadIdx.x; i < piece_words; i += blockDim.x) {
      sum += piece[i] * (k + 1);
    }
  }
  add_to(total, sum);
}

__global__ void flex_scatter_add(const uint64_t* table, uint64_t pieces, uint64_t piece_words,
                                 uint32_t addend) {
  for (uint64_t k = blockIdx.x; k < pieces; k += gridDim.x) {
    uint32_t* piece = reinterpret_cast<uint32_t*>(table[k]);
    for (uint64_t i = threadIdx.x; i < piece_words; i += blockDim.x) {
      piece[i] += addend + static_cast<uint32_t>(k);
    }
  }
}

// Walks a list of nodes {address of the next, value}, adds the values up and changes each. One
// thread.
__global__ void flex_visit(uint64_t* start, uint64_t steps, uint64_t* total) {
  if (grid_thread() != 0) {
    return;
  }
  uint64_t sum = 0;
  uint64_t* at = start;
  for (uint64_t i = 0; i < steps; ++i) {
    sum += at[1];
    at[1] = at[1] * 6364136223846793005u + 1;
    at = reinterpret_cast<uint64_t*>(at[0]);
  }
  add_to(total, sum);
}

// A persistent kernel: round r begins when *flag, in pinned host memory, has reached r, and adds r
// to every word. All blocks must fit on the device at once.
__global__ void flex_serve(uint32_t* p, uint64_t words, const volatile uint32_t* flag,
                           uint32_t rounds) {
  for (uint32_t round = 1; round <= rounds; ++round) {
    if (threadIdx.x == 0) {
      while (*flag < round) {
        __nanosleep(200);
      }
    }
    __syncthreads();
    for (uint64_t i = grid_thread(); i < words; i += grid_threads()) {
      p[i] += round;
    }
  }
}

// Each step takes one array to the other, and reads what other blocks wrote in the step before:
// launch it with cuLaunchCooperativeKernel.
__global__ void flex_grid_steps(uint32_t* a, uint32_t* b, uint64_t words, uint32_t steps) {
  const cooperative_groups::grid_group grid = cooperative_groups::this_grid();
  for (uint32_t step = 0; step < steps; ++step) {
    for (uint64_t i = grid_thread(); i < words; i += grid_threads()) {
      b[i] = a[i] + a[words - 1 - i] + step;
    }
    grid.sync();
    uint32_t* other = a;
    a = b;
    b = other;
  }
}

__global__ void flex_empty() {}

}  // extern "C"
