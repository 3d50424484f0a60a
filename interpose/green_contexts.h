// Green contexts (CUDA Driver API, Green Contexts): a share of a device's multiprocessors, with
// streams of its own. Everything else is the primary context's: memory made while a green context
// is current outlives it, and an event of the primary context covers the work of its green ones
// (cuCtxRecordEvent), while one of a green context covers nothing else. So the pool and its fence
// know the primary context only.
//
// Thread safe. A program that makes none pays a look at a flag where a thread meets a context for
// the first time.
#pragma once

#include <cuda.h>

#include <atomic>

namespace flexlom {

// The device's primary context, or null while nobody holds it.
CUcontext primary_context(int device) noexcept;

class GreenContexts {
 public:
  void made() noexcept { any_.store(true, std::memory_order_relaxed); }
  bool any() const noexcept { return any_.load(std::memory_order_relaxed); }
  // The context that memory belongs to which is made while `context` is current, as it is now, on
  // that device. CUDA_ERROR_CONTEXT_IS_DESTROYED when it was a green one and is no more.
  CUresult owner_of_current(int device, CUcontext* context) const noexcept;
  // The same for the context of a stream, which is no default stream.
  CUcontext owner_of(CUstream stream, CUcontext context) const noexcept;

 private:
  std::atomic<bool> any_{false};
};

}  // namespace flexlom
