// A library that wraps a plain function and a driver call, each in the customary way: define the
// name, look for the next one. Made twice under two names, so that wrappers stack.
//
// WRAPPER_LOOKUP=next uses dlsym(RTLD_NEXT), =handle uses dlsym on the driver's handle.
#include <cuda.h>
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

#include <atomic>

#define EXPORT extern "C" __attribute__((visibility("default")))
#ifndef WRAPPER_NAME
#error "WRAPPER_NAME is the letter that this copy adds to plain_name()"
#endif

namespace {

std::atomic<int> allocs{0}, frees{0};
// Depth of calls into this library on one thread: a wrapper that is handed itself never ends.
thread_local int depth = 0;

void* next(const char* name) {
  const char* how = getenv("WRAPPER_LOOKUP");
  if (how == nullptr || strcmp(how, "handle") != 0) {
    if (void* found = dlsym(RTLD_NEXT, name)) return found;
  }
  return dlsym(dlopen("libcuda.so.1", RTLD_NOW), name);
}

template <class F, class... A>
CUresult pass_on(const char* name, A... a) {
  if (depth > 8) abort();
  ++depth;
  const auto real = reinterpret_cast<F>(next(name));
  const CUresult r = real != nullptr ? real(a...) : CUDA_ERROR_NOT_FOUND;
  --depth;
  return r;
}

}  // namespace

EXPORT CUresult cuMemAlloc_v2(CUdeviceptr* p, size_t bytes) {
  ++allocs;
  return pass_on<CUresult (*)(CUdeviceptr*, size_t)>("cuMemAlloc_v2", p, bytes);
}
EXPORT CUresult cuMemFree_v2(CUdeviceptr p) {
  ++frees;
  return pass_on<CUresult (*)(CUdeviceptr)>("cuMemFree_v2", p);
}

#define JOIN2(a, b) a##b
#define JOIN(a, b) JOIN2(a, b)
EXPORT int JOIN(wrapper_allocs_, WRAPPER_NAME)() { return allocs; }
EXPORT int JOIN(wrapper_frees_, WRAPPER_NAME)() { return frees; }

#define TEXT2(x) #x
#define TEXT(x) TEXT2(x)
EXPORT const char* plain_name() {
  static char text[16];
  if (depth > 8) abort();
  ++depth;
  const auto real = reinterpret_cast<const char* (*)()>(dlsym(RTLD_NEXT, "plain_name"));
  --depth;
  strcpy(text, TEXT(WRAPPER_NAME));
  if (real != nullptr) strcat(text, real());
  return text;
}
