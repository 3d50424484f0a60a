// A driver opened with dlopen, device 0's context current, and a memory round trip on it.
#pragma once

#include <cuda.h>

#include <vector>

#include "tests/preload/check.hpp"

namespace preload {

// clang-format off
#define PRELOAD_CALLS(X)                                                                    \
  X(cuInit) X(cuDeviceGetCount) X(cuDevicePrimaryCtxRetain) X(cuCtxSetCurrent)              \
  X(cuMemAlloc_v2) X(cuMemFree_v2) X(cuMemGetInfo_v2) X(cuMemcpyHtoD_v2) X(cuMemcpyDtoH_v2) \
  X(cuMemsetD8_v2) X(cuCtxSynchronize)
// clang-format on

struct Cuda {
#define X(name) decltype(&::name) name##_;
  PRELOAD_CALLS(X)
#undef X

  explicit Cuda(void* handle) {
#define X(name) name##_ = look_up<decltype(&::name)>(handle, #name);
    PRELOAD_CALLS(X)
#undef X
  }

  void start() const {
    CHECK_OK(cuInit_(0));
    use_primary();
  }

  void use_primary() const {
    CUcontext context = nullptr;
    CHECK_OK(cuDevicePrimaryCtxRetain_(&context, 0));
    CHECK_OK(cuCtxSetCurrent_(context));
  }

  // Allocates, writes, reads back, frees. True when every step worked and the bytes were right.
  bool round_trip(size_t bytes, unsigned char value = 0x5a) const {
    CUdeviceptr p = 0;
    if (cuMemAlloc_v2_(&p, bytes) != CUDA_SUCCESS) return false;
    std::vector<unsigned char> out(bytes, 0);
    bool good = cuMemsetD8_v2_(p, value, bytes) == CUDA_SUCCESS &&
                cuMemcpyDtoH_v2_(out.data(), p, bytes) == CUDA_SUCCESS;
    for (unsigned char byte : out) good = good && byte == value;
    return cuMemFree_v2_(p) == CUDA_SUCCESS && good;
  }
};

}  // namespace preload
