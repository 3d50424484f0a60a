#include "interpose/fingerprints.h"

#include <algorithm>

#include "interpose/hooks/common.h"
#include "kernels/fingerprint.h"

namespace flexlom {

static_assert(sizeof(pool::Fingerprint) == sizeof(kernels::Fingerprint));

bool Fingerprints::load() noexcept {
  if (kernel_ != nullptr) return true;
  if (refused_) return false;
  refused_ = true;
  if (FORWARD(cuLibraryLoadData, &library_, flexlom_fingerprint_fatbin, nullptr, nullptr, 0,
              nullptr, nullptr, 0) != CUDA_SUCCESS)
    return false;
  if (FORWARD(cuLibraryGetKernel, &kernel_, library_, kernels::kFingerprintName) != CUDA_SUCCESS) {
    kernel_ = nullptr;
    return false;
  }
  refused_ = false;
  return true;
}

pool::Fingerprint* Fingerprints::results(CUcontext context, size_t* count) noexcept {
  *count = kResults;
  if (const auto known = results_.find(context); known != results_.end()) return known->second;
  void* memory = nullptr;
  try {
    if (load() && FORWARD(cuMemHostAlloc, &memory, kResults * sizeof(pool::Fingerprint),
                          CU_MEMHOSTALLOC_DEVICEMAP) == CUDA_SUCCESS)
      return results_[context] = static_cast<pool::Fingerprint*>(memory);
  } catch (...) {
    FORWARD(cuMemFreeHost, memory);
  }
  *count = 0;
  return nullptr;
}

void Fingerprints::release_context(CUcontext context) noexcept {
  cleared_.clear();  // frames come and go with contexts, at addresses used before
  const auto known = results_.find(context);
  if (known == results_.end()) return;
  FORWARD(cuMemFreeHost, known->second);
  results_.erase(known);
}

// The kernel leaves its scratch zeroed, so it is cleared once.
bool Fingerprints::clear_once(CUdeviceptr scratch, CUstream stream) noexcept {
  static_assert(kernels::kFingerprintMaxPages * sizeof(kernels::FingerprintScratch) <=
                pool::Driver::kFingerprintScratchBytes);
  try {
    if (cleared_.count(scratch) > 0) return true;
    if (FORWARD(cuMemsetD8Async, scratch, 0, pool::Driver::kFingerprintScratchBytes, stream) !=
        CUDA_SUCCESS)
      return false;
    cleared_.insert(scratch);
    return true;
  } catch (...) {
    return false;
  }
}

CUresult Fingerprints::run(CUstream stream, const pool::PageRange* pages, size_t count,
                           CUdeviceptr scratch, pool::Fingerprint* results) noexcept {
  if (!load()) return CUDA_ERROR_NOT_SUPPORTED;
  if (!clear_once(scratch, stream)) return CUDA_ERROR_OUT_OF_MEMORY;
  for (size_t done = 0; done < count;) {
    kernels::FingerprintLaunch launch{};
    launch.scratch = scratch;
    launch.results = reinterpret_cast<uintptr_t>(results + done);
    uint64_t largest = 0;
    while (launch.count < kernels::kFingerprintMaxPages && done < count) {
      launch.pages[launch.count++] = {pages[done].address, pages[done].bytes};
      largest = std::max<uint64_t>(largest, pages[done].bytes);
      ++done;
    }
    void* parameters[] = {&launch};
    // A CUkernel may be launched as a function of the current context.
    const CUresult r = FORWARD(cuLaunchKernel, reinterpret_cast<CUfunction>(kernel_),
                               kernels::fingerprint_blocks(largest), launch.count, 1u,
                               kernels::kFingerprintThreads, 1u, 1u, 0u, stream,
                               static_cast<void**>(parameters), static_cast<void**>(nullptr));
    if (r != CUDA_SUCCESS) return r;
  }
  return CUDA_SUCCESS;
}

}  // namespace flexlom
