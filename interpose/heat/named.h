// What one submission names: the device addresses found in its arguments.
#pragma once

#include <cuda.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <vector>

#include "interpose/heat/range.h"

namespace flexlom::heat {

// What the replay of an executable graph names: immutable, ascending. Of the words within one 2 MiB
// granule one stands for all, because no two spillable allocations share a granule; a word at the
// very start of a granule is kept beside it, because it may be the end of what lies before.
struct GraphWords {
  std::vector<CUdeviceptr> words;
  std::vector<uint16_t> times;  // how many nodes name each, in the order of `words`
  uint32_t nodes = 0;           // that name anything
  bool complete = true;         // false: it touches more than could be told
};

// Filled by heat::names(), read by the caller, on the stack of the submitting thread.
//
// A word w is an address in the hull of the pools, no more. The consumer looks up the allocation
// that holds w AND the one that holds w - 1: programs pass pointers to the end of what they mean.
// One allocation may be named many times. For a graph launch the addresses are in `graph` and
// `words` is empty.
struct Named {
  static constexpr unsigned kMost = 512;

  Named() noexcept : filter(hull()) {}
  Named(const Named&) = delete;
  Named& operator=(const Named&) = delete;

  void add(CUdeviceptr w) noexcept {
    if (filter.holds(w)) push(w);
  }
  void add(const void* p) noexcept { add(reinterpret_cast<CUdeviceptr>(p)); }
  void push(CUdeviceptr w) noexcept {
    if (count < kMost) {
      words[count++] = w;
    } else {
      overflow = true;
    }
  }

  const Hull filter;
  unsigned count = 0;
  bool overflow = false;      // more was named than `words` holds
  bool unknown = false;       // its arguments could not be read: it may touch anything
  bool many_streams = false;  // it goes to several
  uint64_t work = 0;          // threads launched, grid times block, saturated; 0: not a launch
  // CUfunction or CUkernel, as the program gave it; CUgraphExec; for copies and fills the name of
  // the entry point (doors::EntryInfo::name). Tells one kind of work from another, nothing else.
  const void* function = nullptr;
  std::shared_ptr<const GraphWords> graph;  // graph launches only
  CUdeviceptr words[kMost];                 // the first `count`, the rest is left as it was
};

// fn(CUdeviceptr) for every address named, from whichever of the two places.
template <class F>
inline void for_each_word(const Named& named, F fn) {
  std::for_each_n(named.words, named.count, fn);
  if (named.graph != nullptr)
    std::for_each(named.graph->words.begin(), named.graph->words.end(), fn);
}

}  // namespace flexlom::heat
