#include "tests/stress/segment.h"

namespace stress {

CUresult Segment::create(CUmemGenericAllocationHandle* frame) {
  CUmemAllocationProp props = {};
  props.type = CU_MEM_ALLOCATION_TYPE_PINNED;
  props.location = {CU_MEM_LOCATION_TYPE_DEVICE, 0};
  return CU(cuMemCreate)(frame, kFrameBytes, &props, 0);
}

bool Segment::make() {
  for (CUdeviceptr& range : ranges_) MUST(cuMemAddressReserve, &range, kRangeBytes, size_t{0}, CUdeviceptr{0}, 0ull);
  for (size_t i = 0; i < kFrames; ++i) {
    CUmemGenericAllocationHandle frame = 0;
    if (create(&frame) != CUDA_SUCCESS) break;
    frames_.push_back(frame);
    map(i);
  }
  if (frames_.size() == kFrames) return true;
  end();
  return false;
}

void Segment::map(size_t frame) {
  const CUdeviceptr p = ranges_[home_] + frame * kFrameBytes;
  const CUmemAccessDesc access = {{CU_MEM_LOCATION_TYPE_DEVICE, 0}, CU_MEM_ACCESS_FLAGS_PROT_READWRITE};
  MUST(cuMemMap, p, kFrameBytes, size_t{0}, frames_[frame], 0ull);
  MUST(cuMemSetAccess, p, kFrameBytes, &access, size_t{1});
}

void Segment::move() {
  MUST(cuMemUnmap, ranges_[home_], frames_.size() * kFrameBytes);
  home_ = 1 - home_;
  for (size_t i = 0; i < frames_.size(); ++i) map(i);
}

void Segment::renew(size_t frame) {
  CUmemGenericAllocationHandle other = 0;
  if (create(&other) != CUDA_SUCCESS) return;
  MUST(cuMemUnmap, ranges_[home_] + frame * kFrameBytes, kFrameBytes);
  MUST(cuMemRelease, frames_[frame]);
  frames_[frame] = other;
  map(frame);
}

void Segment::end() {
  if (!frames_.empty()) MUST(cuMemUnmap, ranges_[home_], frames_.size() * kFrameBytes);
  for (const CUmemGenericAllocationHandle frame : frames_) MUST(cuMemRelease, frame);
  frames_.clear();
  for (const CUdeviceptr range : ranges_) MUST(cuMemAddressFree, range, kRangeBytes);
}

}  // namespace stress
