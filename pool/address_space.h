// One device's reserved address range, handed out in granules, lowest address first.
//
// Lowest first makes addresses repeat from run to run, which is what makes a memory bug findable.
// Not thread safe: guarded by the device's mutex.
#pragma once

#include <map>

#include "pool/types.h"

namespace flexlom::pool {

class AddressSpace {
 public:
  static constexpr uint32_t kNone = ~uint32_t{0};

  AddressSpace(CUdeviceptr base, size_t bytes)
      : base_(base), granules_(static_cast<uint32_t>(bytes >> kGranuleShift)) {
    free_.emplace(0, granules_);
  }

  CUdeviceptr base() const noexcept { return base_; }
  uint32_t granules() const noexcept { return granules_; }
  size_t bytes() const noexcept { return size_t{granules_} << kGranuleShift; }
  CUdeviceptr address(uint32_t granule) const noexcept {
    return base_ + (CUdeviceptr{granule} << kGranuleShift);
  }

  // The first granule of a free run of `count`, or kNone. The run is the caller's until give().
  uint32_t take(uint32_t count);
  void give(uint32_t first, uint32_t count);

  // Every free range is non-empty, inside the space, and separated from the next by a used granule.
  bool is_valid() const;

 private:
  const CUdeviceptr base_;
  const uint32_t granules_;
  std::map<uint32_t, uint32_t> free_;  // first granule -> count
};

}  // namespace flexlom::pool
