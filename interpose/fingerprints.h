// Runs the fingerprint kernel (kernels/fingerprint.h) in the program's contexts, on the mover's
// streams.
//
// The code is loaded at the first use, once for the process (CUDA Driver API 6.11 "Library
// Management"). The buffer for results, which the processor and every device can reach, is pinned
// memory and so ends with the context it was made in; another is made then. The scratch memory is
// the pool's, within its budget.
//
// Calls come from the mover alone, one at a time, with the context current.
#pragma once

#include <set>

#include "pool/driver.h"

namespace flexlom {

class Fingerprints {
 public:
  // Null when the driver refused it: there are no fingerprints then.
  pool::Fingerprint* results(CUcontext context, size_t* count) noexcept;
  // The context is about to be destroyed.
  void release_context(CUcontext context) noexcept;
  CUresult run(CUstream stream, const pool::PageRange* pages, size_t count, CUdeviceptr scratch,
               pool::Fingerprint* results) noexcept;

 private:
  static constexpr size_t kResults = 4096;

  bool load() noexcept;
  bool clear_once(CUdeviceptr scratch, CUstream stream) noexcept;

  bool refused_ = false;
  CUlibrary library_ = nullptr;
  CUkernel kernel_ = nullptr;
  pool::Fingerprint* results_ = nullptr;
  CUcontext results_context_ = nullptr;  // whose memory results_ is
  std::set<CUdeviceptr> cleared_;        // scratch areas that are zero between launches
};

}  // namespace flexlom
