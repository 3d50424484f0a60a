// The pattern that flex_fill writes, for host code and device code alike.
#ifndef FLEXLOM_KERNELS_TESTING_HOST_H
#define FLEXLOM_KERNELS_TESTING_HOST_H

#include <stdint.h>

#ifdef __CUDACC__
#define FLEXLOM_TESTING_BOTH __host__ __device__
#else
#define FLEXLOM_TESTING_BOTH
#endif

// Word i of the pattern of this seed. Well mixed, so that a shifted or stale page never matches.
FLEXLOM_TESTING_BOTH static inline uint32_t flexlom_testing_hash(uint32_t seed, uint64_t i) {
  uint32_t x = seed ^ (uint32_t)i * 0x9E3779B1u ^ (uint32_t)(i >> 32) * 0x85EBCA77u;
  x ^= x >> 16;
  x *= 0x7feb352du;
  x ^= x >> 15;
  x *= 0x846ca68bu;
  x ^= x >> 16;
  return x;
}

#endif
