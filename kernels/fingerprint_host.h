// The fingerprint function itself, for host code and device code alike.
//
// A page is cut into units of 4 KiB, a unit into 32 strips: strip s is the 16-byte vectors s, s +
// 32, s + 64, ... so that 32 threads side by side read a unit in whole lines. Then
//   1. each strip (8 vectors, 16 pairs of 32-bit words) goes through four lanes of NH, the hash of
//      UMAC (RFC 4418, 5.2): sum of (a + key) * (b + key') in 64 bits. The keys do not depend on
//      the data; of two strips that differ, a lane tells them apart but for 1 in 2^32 keys, and
//      lanes whose keys are shifted fail independently: 2^-128 for the four (Toeplitz
//      construction);
//   2. the four sums and the strip's number in the page are mixed into two 64-bit words;
//   3. the words of all strips are added up, which makes the order and the number of threads
//      irrelevant, and mixed once more with the length of the page.
// One changed word in a strip is certain to change three sums at least; everything else is a matter
// of chance in 2^-100 or less. It is no cryptographic hash: who knows the keys can make collisions.
#pragma once
#include <cstddef>
#include <cstdint>

#include "kernels/fingerprint.h"

#ifdef __CUDACC__
#define FLEXLOM_BOTH __host__ __device__ __forceinline__
#else
#define FLEXLOM_BOTH inline
#endif

namespace flexlom::kernels {

inline constexpr unsigned kStrips = 32;       // per unit
inline constexpr unsigned kStripVectors = 8;  // of 16 bytes, 512 bytes apart
inline constexpr unsigned kStripPairs = 2 * kStripVectors;
inline constexpr unsigned kLanes = 4;
static_assert(kStrips * kStripVectors * 16 == kFingerprintUnitBytes);

// Word n of the key: SplitMix64 counted from the fraction of the golden ratio. Pair p of a strip,
// in lane l, has the words 2 (p + l) and 2 (p + l) + 1: each lane has the key of the one before,
// shifted.
FLEXLOM_BOTH constexpr uint32_t fingerprint_key(uint32_t n) {
  uint64_t x = (n + 1) * 0x9E3779B97F4A7C15u;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
  return static_cast<uint32_t>(x >> 32) ^ static_cast<uint32_t>(x);
}

// A bijection: the high half of the product depends on every bit of x, and is brought down.
FLEXLOM_BOTH uint64_t fingerprint_step(uint64_t x, uint64_t odd) {
  x *= odd;
  return x ^ (x >> 32);
}

struct FingerprintSums {
  uint64_t low = 0, high = 0;
};

// Takes up the four sums of strip number `strip` of the page. Each sum enters late in one of the
// two words and early in the other, and the words meet before the last two steps: so a change
// anywhere has gone through four steps in both. With fewer, changes of high bits in several strips
// could cancel far more often than chance has it.
FLEXLOM_BOTH void fingerprint_take(FingerprintSums& to, const uint64_t (&sums)[kLanes],
                                   uint64_t strip) {
  uint64_t x = sums[0] + (strip + 1) * 0xD1B54A32D192ED03u;
  uint64_t y = sums[2] + (strip + 1) * 0x8CB92BA72F3D8DD7u;
  x = fingerprint_step(x, 0xBF58476D1CE4E5B9u) + sums[1];
  y = fingerprint_step(y, 0x94D049BB133111EBu) + sums[3];
  x = fingerprint_step(x, 0xFF51AFD7ED558CCDu) + sums[2];
  y = fingerprint_step(y, 0xC4CEB9FE1A85EC53u) + sums[0];
  x = fingerprint_step(x, 0x9FB21C651E98DF25u) + sums[3];
  y = fingerprint_step(y, 0xD6E8FEB86659FD93u) + sums[1];
  x += y;
  y += x;
  x = fingerprint_step(x, 0xE7037ED1A0B428DBu);
  y = fingerprint_step(y, 0x8EBC6AF09C88C6E3u);
  to.low += fingerprint_step(x, 0xA0761D6478BD642Fu);
  to.high += fingerprint_step(y, 0x589965CC75374CC3u);
}

FLEXLOM_BOTH Fingerprint fingerprint_finish(const FingerprintSums& all, uint64_t bytes) {
  uint64_t x = fingerprint_step(all.low + bytes * 0x9E3779B97F4A7C15u, 0xBF58476D1CE4E5B9u);
  x = fingerprint_step(x, 0x94D049BB133111EBu);
  uint64_t y = fingerprint_step(all.high + x, 0xFF51AFD7ED558CCDu);
  y = fingerprint_step(y, 0xC4CEB9FE1A85EC53u);
  Fingerprint result;
  result.low = x == 0 && y == 0 ? 1 : x;
  result.high = y;
  return result;
}

#ifndef __CUDACC__

// The sums of a strip. Not instrumented by sanitizers: it works on its own arrays by fixed indices,
// and takes most of the time.
__attribute__((no_sanitize("address", "thread", "undefined"))) inline void fingerprint_strip(
    uint64_t (&sums)[kLanes], const uint64_t (&words)[kStripPairs]) {
  static constexpr auto keys = [] {
    struct {
      uint32_t at[2 * (kStripPairs + kLanes - 1)];
    } all{};
    for (uint32_t n = 0; n < 2 * (kStripPairs + kLanes - 1); ++n) all.at[n] = fingerprint_key(n);
    return all;
  }();
  uint64_t own[kLanes] = {};
  for (unsigned pair = 0; pair < kStripPairs; ++pair) {
    const auto a = static_cast<uint32_t>(words[pair]);
    const auto b = static_cast<uint32_t>(words[pair] >> 32);
    for (unsigned lane = 0; lane < kLanes; ++lane) {
      const uint32_t* const key = keys.at + 2 * (pair + lane);
      own[lane] += static_cast<uint64_t>(a + key[0]) * (b + key[1]);
    }
  }
  for (unsigned lane = 0; lane < kLanes; ++lane) sums[lane] = own[lane];
}

// load(offset) gives the little-endian 64-bit word at that byte offset of the page, a multiple
// of 8.
template <class Load>
Fingerprint fingerprint_of(uint64_t bytes, Load load) {
  FingerprintSums all;
  const uint64_t strips = bytes / kFingerprintUnitBytes * kStrips;
  for (uint64_t strip = 0; strip < strips; ++strip) {
    const uint64_t from = strip / kStrips * kFingerprintUnitBytes + strip % kStrips * 16;
    uint64_t words[kStripPairs], sums[kLanes];
    for (unsigned pair = 0; pair < kStripPairs; ++pair)
      words[pair] = load(from + pair / 2 * (kStrips * 16) + pair % 2 * 8);
    fingerprint_strip(sums, words);
    fingerprint_take(all, sums, strip);
  }
  return fingerprint_finish(all, bytes);
}

// Of host memory, 8-byte aligned; `bytes` is a multiple of kFingerprintUnitBytes.
inline Fingerprint fingerprint_of(const void* page, uint64_t bytes) {
  const auto* words = static_cast<const uint64_t*>(page);
  return fingerprint_of(bytes, [words](uint64_t offset) { return words[offset / 8]; });
}

#endif

}  // namespace flexlom::kernels
