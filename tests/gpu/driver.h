// The CUDA driver API through dlopen, as programs that ship without a CUDA dependency use it.
//
// Driver::load() ends the program with exit code 77 and a reason when there is no usable driver, so
// that a machine without a GPU skips. Every function keeps the driver's own name and signature.
#pragma once

#include <cuda.h>

#include <dlfcn.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>

// clang-format off
#define DRIVER_FUNCTIONS(X) \
  X(cuInit) X(cuDriverGetVersion) X(cuDeviceGetCount) X(cuDeviceGet) X(cuDeviceGetName) \
  X(cuDeviceTotalMem) X(cuDevicePrimaryCtxRetain) X(cuCtxSetCurrent) X(cuCtxGetCurrent) \
  X(cuCtxSynchronize) \
  X(cuGetErrorName) X(cuMemGetInfo) X(cuMemAlloc) X(cuMemFree) X(cuMemAllocAsync) \
  X(cuMemFreeAsync) X(cuMemcpyHtoD) X(cuMemcpyDtoH) X(cuMemcpyDtoHAsync) \
  X(cuMemsetD8) X(cuMemsetD32) X(cuModuleLoadData) X(cuModuleGetFunction) X(cuLaunchKernel) \
  X(cuStreamCreate) X(cuStreamSynchronize) X(cuDeviceGetDefaultMemPool) X(cuMemPoolSetAttribute)
// clang-format on

namespace driver {

// Expanded first, so that cuda.h's own #define of a name to its current version takes effect.
#define DRIVER_STRING2(name) #name
#define DRIVER_STRING(name) DRIVER_STRING2(name)

struct Driver {
#define X(name) decltype(&::name) name##_ = nullptr;
  DRIVER_FUNCTIONS(X)
#undef X

  static Driver load() {
    Driver d;
    void* library = dlopen("libcuda.so.1", RTLD_NOW);
    if (library == nullptr) skip("cannot load the driver:", dlerror());
#define X(name)                                                                         \
  d.name##_ = reinterpret_cast<decltype(&::name)>(dlsym(library, DRIVER_STRING(name))); \
  if (d.name##_ == nullptr) skip("the driver lacks", DRIVER_STRING(name));
    DRIVER_FUNCTIONS(X)
#undef X
    if (CUresult error = d.cuInit_(0); error != CUDA_SUCCESS) {
      char text[32];
      std::snprintf(text, sizeof text, "error %d", static_cast<int>(error));
      skip("cuInit failed:", text);
    }
    return d;
  }

  // Makes device 0's primary context current and returns the device.
  CUdevice use_first_device() const {
    CUdevice device;
    CUcontext context;
    check(cuDeviceGet_(&device, 0), "cuDeviceGet");
    check(cuDevicePrimaryCtxRetain_(&context, device), "cuDevicePrimaryCtxRetain");
    check(cuCtxSetCurrent_(context), "cuCtxSetCurrent");
    return device;
  }

  void check(CUresult result, const char* what) const {
    if (result == CUDA_SUCCESS) return;
    const char* name = nullptr;
    cuGetErrorName_(result, &name);
    std::fprintf(stderr, "%s: %s (%d)\n", what, name != nullptr ? name : "unknown error",
                 static_cast<int>(result));
    std::exit(1);
  }

  // The kernel `name` of a module image, loaded into the current context.
  CUfunction kernel(CUmodule module, const char* name) const {
    CUfunction function = nullptr;
    check(cuModuleGetFunction_(&function, module, name), name);
    return function;
  }

  // Every argument must have exactly the type of the kernel's parameter.
  template <typename... Args>
  void launch(CUfunction function, unsigned blocks, unsigned threads, CUstream stream,
              Args... arguments) const {
    void* pointers[sizeof...(Args) + 1] = {&arguments..., nullptr};
    check(cuLaunchKernel_(function, blocks, 1, 1, threads, 1, 1, 0, stream, pointers, nullptr),
          "cuLaunchKernel");
  }

  [[noreturn]] static void skip(const char* what, const char* detail) {
    std::fprintf(stderr, "skipped: %s %s\n", what, detail);
    std::exit(77);
  }
};

}  // namespace driver
