#include "pool/frames.h"

namespace flexlom::pool {

// Spare frames count as free: they go back to the driver when that makes room.
bool Frames::reserve(Where where, uint64_t bytes, uint64_t keep_free_bytes) {
  Budget& b = budget(where);
  const uint64_t keep = where == Where::device ? keep_free_bytes : 0;
  if (b.room() + spare_bytes(where) < bytes + keep) return false;
  while (!b.take(bytes)) {
    const uint64_t room = b.room();
    if (release_spare(where, bytes > room ? bytes - room : bytes) == 0) return false;
  }
  return true;
}

CUresult Frames::take(Where where, unsigned order, uint64_t keep_free_bytes, Frame* frame) {
  if (where == Where::host && !host_vmm_) return CUDA_ERROR_OUT_OF_MEMORY;
  if (take_spare(where, order, frame)) return CUDA_SUCCESS;
  const uint64_t bytes = page_bytes(order);
  *frame = {};
  if (!reserve(where, bytes, keep_free_bytes)) return CUDA_ERROR_OUT_OF_MEMORY;
  CUresult r = driver_.create(device_, where, bytes, &frame->handle);
  if (r == CUDA_ERROR_OUT_OF_MEMORY && release_spare(where, bytes) > 0) {
    r = driver_.create(device_, where, bytes, &frame->handle);
  }
  if (r != CUDA_SUCCESS) {
    budget(where).give(bytes);
    ++refusals_;
  }
  return r;
}

bool Frames::take_spare(Where where, unsigned order, Frame* frame) {
  Kept& kept = spare(where)[order];
  if (kept.empty()) return false;
  *frame = kept.back();
  kept.pop_back();
  if (where == Where::host) host_surplus_ = std::min(host_surplus_, spare_bytes(where));
  return true;
}

void Frames::put(Where where, unsigned order, const Frame& frame) {
  spare(where)[order].push_back(frame);
}

void Frames::give_back(Where where, unsigned order, Frame frame) {
  // What the driver did not take back is still held, though nobody can use it any more.
  if (windows_.close(order, &frame) && driver_.release(frame.handle) == CUDA_SUCCESS)
    budget(where).give(page_bytes(order));
}

uint64_t Frames::release_spare(Where where, uint64_t want_bytes) {
  uint64_t released = 0;
  for (unsigned order = kPageSizes; order-- > 0 && released < want_bytes;) {
    Kept& kept = spare(where)[order];
    while (!kept.empty() && released < want_bytes) {
      Frame frame = kept.back();
      kept.pop_back();
      const bool gone =
          windows_.close(order, &frame) && driver_.release(frame.handle) == CUDA_SUCCESS;
      // What the driver did not take back is still held, though nobody can use it any more.
      if (!gone) continue;
      budget(where).give(page_bytes(order));
      released += page_bytes(order);
    }
  }
  if (where == Where::host) host_surplus_ = std::min(host_surplus_, spare_bytes(where));
  return released;
}

uint64_t Frames::spare_bytes(Where where) const {
  uint64_t sum = 0;
  for (unsigned order = 0; order < kPageSizes; ++order) {
    sum += spare(where)[order].size() * page_bytes(order);
  }
  return sum;
}

}  // namespace flexlom::pool
