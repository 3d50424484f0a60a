// Where the buffers lie in an allocation that holds many of them, told from the addresses that
// submissions name.
//
// An arena (XLA's, ONNX Runtime's, the one buffer that llama.cpp keeps a model in) is one
// allocation and always in use; what is hot or cold are the buffers that the program cuts out of
// it, of which nobody tells us. But a submission names each by its beginning. So every address
// named is taken for the beginning of a buffer that reaches to the next one, as long as that goes
// on being named: cuts of long ago would hide what lies behind them.
//
// A guess about heat, no more: what it gets wrong costs time (law 1). Positions and sizes are in
// granules from the beginning of the allocation; buffers that begin in one granule are one.
//
// Plain data; the caller sees to it that one object is used by one thread at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace flexlom::pool::policy {

class Buffers {
 public:
  struct Extent {
    uint32_t begin, end;
    bool is_last;  // nothing is known behind it: where it ends is a guess
  };

  // May throw std::bad_alloc.
  explicit Buffers(uint32_t granules);

  // A submission names an address in that granule. Returns the buffer that it means.
  Extent name(uint32_t granule) noexcept;

  // Whether this is an arena: several buffers are used in turn.
  bool many() const noexcept { return in_turn_ >= kMany; }
  // Beginnings known.
  uint32_t count() const noexcept { return count_; }

 private:
  static constexpr uint32_t kMany = 4;

  struct Begin {
    uint32_t last = 0;      // the naming, counted in the whole allocation
    uint32_t interval = 0;  // about the longest between two; 0: named once
  };

  bool known(uint32_t granule) const noexcept {
    return (bits_[granule / 64] >> (granule % 64) & 1) != 0;
  }
  bool stale(const Begin& begin) const noexcept;
  bool takes_turns(const Begin& begin) const noexcept { return begin.interval >= kMany; }
  uint32_t next_known(uint32_t from) const noexcept;
  uint32_t next_begin(uint32_t from) noexcept;
  void forget(uint32_t granule) noexcept;

  const uint32_t granules_;
  uint32_t named_ = 0, count_ = 0, in_turn_ = 0;
  uint32_t largest_ = 0;        // of the buffers whose end is known
  std::vector<uint64_t> bits_;  // of the granules where one begins
  std::vector<Begin> begins_;
};

}  // namespace flexlom::pool::policy
