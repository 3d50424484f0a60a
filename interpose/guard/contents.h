// What lies in guarded memory: the pattern that new memory is filled with, and the canaries around
// an allocation, which are of the same pattern.
//
// The pages of an allocation end with it but for less than 256 bytes, where a wrong write does not
// fault, and begin up to 2 MiB before it. Both gaps are filled with the allocation, the one before
// it as far as kBefore_bytes, and looked at when it is freed and at the end of the process.
//
// All of it runs on streams of our own that no default stream waits for, in the relaxed capture
// mode, in which nothing that we do here disturbs a capture that is open elsewhere (CUDA Driver API
// 6.17, cuThreadExchangeStreamCaptureMode).
#pragma once

#include <cuda.h>

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <optional>
#include <unordered_map>
#include <unordered_set>

#include "pool/types.h"

namespace flexlom::guard {

// Memory as two halves would hold it: 0x7fff is a NaN as fp16 and as bf16, both together one as
// fp32, two of it one as fp64; either byte is a NaN as fp8; as a pointer it faults.
inline constexpr uint32_t kNanPattern = 0x7fff7fff;

// A damaged canary.
struct Damage {
  int64_t first = 0, last = 0;  // bytes from the end of the allocation on; before it from its
                                // start, negative
  bool behind = false;
  size_t bytes = 0;  // how many differ
  unsigned char found[8];
  unsigned shown = 0;  // of `found`: the bytes from `first` on
};

class Contents {
 public:
  static constexpr size_t kBefore_bytes = 4096;

  // `fill`: whether the allocation itself is filled, not the canaries alone.
  Contents(uint32_t pattern, bool fill) : pattern_(pattern), fill_(fill) {}

  uint32_t pattern() const { return pattern_; }
  bool fills() const { return fill_; }
  // Whether memory that holds the pattern was never written. Four bytes alike are what a memset
  // leaves, and prove nothing.
  bool is_telling() const { return fill_ && pattern_ != (pattern_ & 0xff) * uint32_t{0x01010101}; }

  // Fills, and waits until every stream would see it. NOT_READY: the device did not get to it in
  // time, and it may still happen; the memory must not be used. Another error: the driver's. While
  // the device is kept by somebody memory is left as it is.
  CUresult fill(CUcontext context, CUdeviceptr base, size_t bytes) noexcept;
  // The same in the order of a stream, for memory that exists in that order. Does not wait.
  void fill_in_order(CUdeviceptr base, size_t bytes, CUstream stream, bool per_thread) noexcept;
  // This memory has no canaries: check() says nothing of it.
  void leave(CUdeviceptr base) noexcept;
  // Only of memory that no work touches now. Nothing when it cannot be read; `error` says why.
  std::optional<Damage> check(CUcontext context, CUdeviceptr base, size_t bytes,
                              CUresult* error) noexcept;

  // Whether all `bytes` at `host`, copied from the device address, are pattern.
  bool is_pattern(const void* host, CUdeviceptr from, size_t bytes) const noexcept;

  void context_ended(CUcontext context) noexcept;  // before the driver's own end of it
  void context_born(CUcontext context) noexcept;

 private:
  struct Lane {
    CUstream stream = nullptr;
    bool stuck = false;  // the device did not get to what is in it
  };
  Lane* lane_of(CUcontext context);  // mutex_ held, the context current
  bool must_not_check(CUdeviceptr base);
  template <class Words, class Bytes>
  CUresult fill_both(CUdeviceptr base, size_t bytes, Words words, Bytes single) const;

  const uint32_t pattern_;
  const bool fill_;
  std::mutex mutex_;  // guards all below, and is held while our streams work
  std::unordered_map<CUcontext, Lane> lanes_;
  std::unordered_set<CUcontext> ended_;
  std::mutex left_mutex_;
  std::unordered_set<CUdeviceptr> left_;  // guarded by left_mutex_: bases of what is not filled
};

}  // namespace flexlom::guard
