// The stream captures that are open (CUDA Driver API 6.18 cuStreamBeginCapture), by the stream on
// which each began. A capture ends there and nowhere else: streams that were drawn into it also say
// that they are capturing, and may be destroyed before. The fence is told how many are open (law
// 3).
//
// Thread safe. None throws.
#pragma once

#include <cuda.h>

#include <mutex>
#include <vector>

#include "pool/residency/fence.h"
#include "pool/types.h"

namespace flexlom {

class Captures {
 public:
  explicit Captures(pool::Fence& fence) : fence_(fence) {}
  // Before the driver opens one, and what it answered.
  void opening() noexcept { fence_.capture_opening(); }
  void opened(pool::StreamKey stream, CUcontext context, bool succeeded) noexcept;
  // The stream captures no more: its capture was ended, or it was destroyed.
  void closed(pool::StreamKey stream) noexcept;
  void context_ended(CUcontext context) noexcept;

 private:
  struct Open {
    pool::StreamKey stream;
    CUcontext context;
  };
  pool::Fence& fence_;
  std::mutex mutex_;
  std::vector<Open> open_;  // guarded by mutex_
};

}  // namespace flexlom
