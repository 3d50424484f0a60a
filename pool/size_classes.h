// Size classes of small objects: multiples of 512 bytes up to 4 KiB, then four to a doubling.
//
// Four to a doubling wastes at most a quarter of an object and keeps the number of partly filled
// 2 MiB pages a program can cause small. Every class is a multiple of 512, so every object has
// cuMemAlloc's alignment.
#pragma once

#include <array>
#include <bit>

#include "pool/types.h"

namespace flexlom::pool {

inline constexpr unsigned kLinearClasses = 8;  // 512, 1024, ... 4096
inline constexpr unsigned kSizeClasses = kLinearClasses + 4 * 8;

inline constexpr size_t class_bytes(unsigned c) {
  if (c < kLinearClasses) return (c + 1) * kAlignment;
  const unsigned step = c - kLinearClasses;
  const size_t base = size_t{4096} << (step / 4);
  return base + base / 4 * (step % 4 + 1);
}

// The smallest class that holds `bytes`; 1 <= bytes <= kSmallLimit.
inline constexpr unsigned class_of(size_t bytes) {
  if (bytes <= 4096) return static_cast<unsigned>((bytes + kAlignment - 1) / kAlignment) - 1;
  const unsigned doubling = static_cast<unsigned>(std::bit_width((bytes - 1) >> 12)) - 1;
  const size_t base = size_t{4096} << doubling;
  return kLinearClasses + doubling * 4 +
         static_cast<unsigned>((bytes - base + base / 4 - 1) / (base / 4)) - 1;
}

static_assert(class_bytes(kSizeClasses - 1) == kSmallLimit);
static_assert(class_bytes(class_of(4097)) == 5120 && class_bytes(class_of(5121)) == 6144);
static_assert(class_bytes(class_of(8192)) == 8192 && class_bytes(class_of(8193)) == 10240);
static_assert(class_bytes(class_of(1)) == 512 && class_bytes(class_of(4096)) == 4096);
static_assert(class_bytes(class_of(kSmallLimit)) == kSmallLimit);

}  // namespace flexlom::pool
