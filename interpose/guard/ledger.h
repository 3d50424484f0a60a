// Who allocated and who freed: every live allocation, and as many of the freed ones as are worth
// keeping, by address.
//
// In guard mode no two allocations ever share pages, so an address in anybody's hands leads to one
// entry: the live one it lies in or beside, or the freed one it once belonged to.
#pragma once

#include <cuda.h>

#include <cstdint>
#include <deque>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "pool/types.h"

namespace flexlom::guard {

// Where call stacks come from, when something takes them. Thread safe.
class CallStacks {
 public:
  using Lines = std::vector<std::string>;  // one for each function, innermost first

  virtual ~CallStacks() = default;
  // Of the driver call that this thread is in, as its door took it; 0: none. Costs nothing.
  virtual uint32_t current() noexcept = 0;
  // Of this very moment, whatever it costs: for the call that is being reported. 0: none.
  virtual uint32_t here() noexcept = 0;
  // All at once, for one report. May take seconds; no lock may be held.
  virtual std::map<uint32_t, Lines> lines(const std::set<uint32_t>& stacks) = 0;
  // Whether they are cut where code was built without frame pointers.
  virtual bool may_end_early() const noexcept = 0;
};

struct Who {
  const char* call = nullptr;  // a literal: the driver entry point; null: nobody yet
  int tid = 0;
  uint64_t at_ns = 0;  // since the guard was made
  uint32_t stack = 0;  // CallStacks
};

struct Block {
  uint64_t number = 0;  // of all allocations of the process, from 1 on
  CUdeviceptr base = 0;
  size_t bytes = 0;
  int device = 0;
  CUcontext context = nullptr;
  Who allocated, freed;
  uint64_t launches = 0;  // Launches::last() when it was freed

  CUdeviceptr end() const { return base + bytes; }
  bool live() const { return freed.call == nullptr; }
};

// How an address lies to the nearest block.
enum class Beside : uint8_t { nothing, inside, before, behind };

struct Found {
  Beside beside = Beside::nothing;
  Block block;
  uint64_t distance_bytes = 0;  // from its start (inside), to its start (before), from its end
};

class Ledger {
 public:
  static constexpr size_t kFreedKept = 1u << 16;

  void allocated(const pool::AllocationInfo& info, const Who& who);
  void freed(const pool::AllocationInfo& info, const Who& who, uint64_t launches);

  // The block that holds the address, live or freed; else the nearest within a granule of it.
  Found find(CUdeviceptr address) const;
  std::vector<Block> live() const;  // by address
  uint64_t count() const;           // allocations so far

 private:
  using Blocks = std::map<CUdeviceptr, Block>;
  void forget_overlapped(const Block& block);

  mutable std::mutex mutex_;  // guards all below
  uint64_t next_ = 0;
  Blocks live_, freed_;
  std::deque<std::pair<CUdeviceptr, uint64_t>> order_;  // of freed_: base and number, oldest first
};

}  // namespace flexlom::guard
