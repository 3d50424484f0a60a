// Memory that a thread maps itself, as an expandable segment: frames of its own, in one of two ranges,
// cut into blocks that do not end where frames do.
//
// One thread's. The memory must be unused when it is moved or given back.
#pragma once

#include <vector>

#include "tests/stress/driver.h"

namespace stress {

class Segment {
 public:
  static constexpr size_t kFrames = 3, kFrameBytes = 8u << 20, kBlocks = 2, kBlockBytes = kFrames * kFrameBytes / kBlocks;

  // False: there is no memory for it, and nothing was kept.
  bool make();
  // Maps the frames in the other range: the contents come along.
  void move();
  // One frame less, and a new one in its place, whose contents are anything.
  void renew(size_t frame);
  void end();
  CUdeviceptr block(size_t i) const { return ranges_[home_] + i * kBlockBytes; }
  bool exists() const { return !frames_.empty(); }

 private:
  static constexpr size_t kRangeBytes = kFrames * kFrameBytes + (16u << 20);

  CUresult create(CUmemGenericAllocationHandle* frame);
  void map(size_t frame);

  CUdeviceptr ranges_[2] = {0, 0};
  size_t home_ = 0;
  std::vector<CUmemGenericAllocationHandle> frames_;
};

}  // namespace stress
