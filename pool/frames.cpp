#include "pool/frames.h"

namespace flexlom::pool {

bool Frames::reserve(Where where, uint64_t bytes, uint64_t keep_free_bytes) {
  Budget& b = budget(where);
  const uint64_t keep = where == Where::device ? keep_free_bytes : 0;
  if (b.room() >= bytes + keep && b.take(bytes)) return true;
  if (release_spare(where, bytes) == 0) return false;
  return b.room() >= bytes + keep && b.take(bytes);
}

CUresult Frames::take(Where where, unsigned order, uint64_t keep_free_bytes,
                      CUmemGenericAllocationHandle* frame) {
  if (where == Where::host && !host_vmm_) return CUDA_ERROR_OUT_OF_MEMORY;
  Handles& kept = spare(where)[order];
  if (!kept.empty()) {
    *frame = kept.back();
    kept.pop_back();
    return CUDA_SUCCESS;
  }
  const uint64_t bytes = page_bytes(order);
  if (!reserve(where, bytes, keep_free_bytes)) return CUDA_ERROR_OUT_OF_MEMORY;
  CUresult r = driver_.create(device_, where, bytes, frame);
  if (r == CUDA_ERROR_OUT_OF_MEMORY && release_spare(where, bytes) > 0) {
    r = driver_.create(device_, where, bytes, frame);
  }
  if (r != CUDA_SUCCESS) {
    budget(where).give(bytes);
    ++refusals_;
  }
  return r;
}

void Frames::put(Where where, unsigned order, CUmemGenericAllocationHandle frame) {
  spare(where)[order].push_back(frame);
}

uint64_t Frames::release_spare(Where where, uint64_t want_bytes) {
  uint64_t released = 0;
  for (unsigned order = kPageOrders; order-- > 0 && released < want_bytes;) {
    Handles& kept = spare(where)[order];
    while (!kept.empty() && released < want_bytes) {
      const bool gone = driver_.release(kept.back()) == CUDA_SUCCESS;
      kept.pop_back();
      // What the driver did not take back is still held, though nobody can use it any more.
      if (!gone) continue;
      budget(where).give(page_bytes(order));
      released += page_bytes(order);
    }
  }
  return released;
}

uint64_t Frames::spare_bytes(Where where) const {
  uint64_t sum = 0;
  for (unsigned order = 0; order < kPageOrders; ++order) {
    sum += spare(where)[order].size() * page_bytes(order);
  }
  return sum;
}

}  // namespace flexlom::pool
