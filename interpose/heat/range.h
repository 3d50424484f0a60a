// The hull of all addresses the pools hand out: the cheap filter in front of every word looked at.
//
// It only ever grows, so a word outside it has never been a pool's. A word inside may belong to
// nobody, or to somebody else between two pools: the pools themselves decide.
#pragma once

#include <cuda.h>

#include <atomic>
#include <cstddef>

namespace flexlom::heat {

namespace detail {
inline std::atomic<CUdeviceptr> range_low{~CUdeviceptr{0}};
inline std::atomic<CUdeviceptr> range_high{0};
}  // namespace detail

// A pool will hand out addresses in [base, base + bytes). Before it hands out the first; any
// thread.
inline void note_range(CUdeviceptr base, size_t bytes) noexcept {
  // The upper end first: a reader that sees the new lower end sees the new upper end too.
  const CUdeviceptr end = base + bytes;
  CUdeviceptr high = detail::range_high.load(std::memory_order_relaxed);
  while (high < end && !detail::range_high.compare_exchange_weak(high, end)) {
  }
  CUdeviceptr low = detail::range_low.load(std::memory_order_relaxed);
  while (low > base && !detail::range_low.compare_exchange_weak(low, base)) {
  }
}

// The hull as a reader needs it: w - low <= span, the end included, because a pointer to the end of
// an allocation counts for it.
struct Hull {
  CUdeviceptr low;
  CUdeviceptr span;
  bool empty;
  bool holds(CUdeviceptr w) const noexcept { return w - low <= span && !empty; }
};

inline Hull hull() noexcept {
  const CUdeviceptr low = detail::range_low.load(std::memory_order_acquire);
  const CUdeviceptr high = detail::range_high.load(std::memory_order_relaxed);
  // Empty: from the highest address on, which no word is.
  return high > low ? Hull{low, high - low, false} : Hull{~CUdeviceptr{0}, 0, true};
}

}  // namespace flexlom::heat
