// A library whose constructor and destructor use CUDA; preloaded before and after flexlom, where
// the one's constructors run before the other's.
#include <cuda.h>
#include <dlfcn.h>
#include <stdio.h>

namespace {

CUdeviceptr kept = 0;

template <class F>
F call(const char* name) {
  return reinterpret_cast<F>(dlsym(dlopen("libcuda.so.1", RTLD_NOW), name));
}

__attribute__((constructor)) void start() {
  CUcontext context = nullptr;
  const int init = call<decltype(&cuInit)>("cuInit")(0);
  call<decltype(&cuDevicePrimaryCtxRetain)>("cuDevicePrimaryCtxRetain")(&context, 0);
  call<decltype(&cuCtxSetCurrent)>("cuCtxSetCurrent")(context);
  printf("library constructor: init %d alloc %d\n", init,
         call<decltype(&cuMemAlloc)>("cuMemAlloc_v2")(&kept, 1 << 20));
}

__attribute__((destructor)) void stop() {
  CUdeviceptr p = 0;
  const int alloc = call<decltype(&cuMemAlloc)>("cuMemAlloc_v2")(&p, 1 << 20);
  printf("library destructor: free %d alloc %d\n", call<decltype(&cuMemFree)>("cuMemFree_v2")(kept),
         alloc);
  fflush(stdout);
}

}  // namespace
