// Runs the fingerprint kernel (kernels/fingerprint.h) in the program's contexts, on the mover's
// streams.
//
// Made at the first use, once for the process: the code (CUDA Driver API 6.11 "Library Management")
// and a buffer for results that the processor and every device can reach. The scratch memory is the
// pool's, within its budget.
//
// Calls come from the mover alone, one at a time, with the context current.
#pragma once

#include <set>

#include "pool/driver.h"

namespace flexlom {

class Fingerprints {
 public:
  // Null when the driver refused it once: there are no fingerprints then.
  pool::Fingerprint* results(size_t* count) noexcept;
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
  std::set<CUdeviceptr> cleared_;  // scratch areas that are zero between launches
};

}  // namespace flexlom
