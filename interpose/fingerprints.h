// Runs the fingerprint kernel (kernels/fingerprint.h) in the program's contexts, on the mover's
// streams.
//
// The code is loaded at the first use, once for the process (CUDA Driver API 6.11 "Library
// Management"). A buffer for results, which the processor can reach too, is pinned memory and so
// ends with the context it was made in: each context has its own. The scratch memory is the pool's,
// within its budget.
//
// Calls come from the mover alone, one at a time, with the context current.
#pragma once

#include <map>
#include <set>

#include "pool/driver.h"

namespace flexlom {

class Fingerprints {
 public:
  // Of this context; null when the driver refused it: there are no fingerprints then.
  pool::Fingerprint* results(CUcontext context, size_t* count) noexcept;
  // The context is about to be destroyed, and nothing writes to its results any more.
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
  std::map<CUcontext, pool::Fingerprint*> results_;
  std::set<CUdeviceptr> cleared_;  // scratch areas that are zero between launches
};

}  // namespace flexlom
