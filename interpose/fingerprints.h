// Runs the fingerprint kernel (kernels/fingerprint.h) in the program's contexts, on the mover's
// streams.
//
// What it needs is made at the first use in a context and goes back with it: the code (loaded once
// for the process, CUDA Driver API 6.11 "Library Management"), a scratch area for each stream, and
// one buffer for results that the processor and every device can reach.
//
// Calls come from the mover alone, one at a time, with the context current.
#pragma once

#include <map>

#include "pool/driver.h"

namespace flexlom {

class Fingerprints {
 public:
  // Null when the driver refused it once: there are no fingerprints then.
  pool::Fingerprint* results(size_t* count) noexcept;
  CUresult run(CUcontext context, CUstream stream, const pool::PageRange* pages, size_t count,
               pool::Fingerprint* results) noexcept;
  // The stream is about to be destroyed; its context is current.
  void release_stream(CUstream stream) noexcept;

 private:
  static constexpr size_t kResults = 4096;

  bool load() noexcept;
  CUdeviceptr scratch_of(CUstream stream) noexcept;

  bool refused_ = false;
  CUlibrary library_ = nullptr;
  CUkernel kernel_ = nullptr;
  pool::Fingerprint* results_ = nullptr;
  std::map<CUstream, CUdeviceptr> scratch_;
};

}  // namespace flexlom
