// The driver API through dlopen, for the test programs of this folder and of tests/faults: every entry
// is found by name when it is first used, as programs without a CUDA dependency do it.
//
// CU(cuMemAlloc)(&p, n) calls the symbol that cuda.h means by that name (cuMemAlloc_v2). A missing
// driver ends the program with 77; a missing symbol is an error of the test.
#pragma once

#include <cuda.h>
#include <dlfcn.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>

#include "kernels/testing.h"
#include "tests/simcuda/simcuda.h"

namespace stress {

inline void* library() {
  static void* const handle = [] {
    void* h = dlopen("libcuda.so.1", RTLD_NOW);
    if (h == nullptr) {
      std::fprintf(stderr, "skipped: cannot load the driver: %s\n", dlerror());
      std::exit(77);
    }
    return h;
  }();
  return handle;
}

// dlsym, or that of the flexlom library named by STRESS_LIBRARY: a sanitizer's runtime asks for names
// before it is ready to run the code of a library that is preloaded.
inline void* look_up(const char* symbol) {
  static const auto from = [] {
    const char* const path = std::getenv("STRESS_LIBRARY");
    if (path == nullptr) return &dlsym;
    void* const flexlom = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (flexlom == nullptr) {
      std::fprintf(stderr, "cannot load %s: %s\n", path, dlerror());
      std::exit(1);
    }
    return reinterpret_cast<decltype(&dlsym)>(dlsym(flexlom, "dlsym"));
  }();
  return from(library(), symbol);
}

inline void* entry(const char* symbol) {
  void* const address = look_up(symbol);
  if (address == nullptr) {
    std::fprintf(stderr, "the driver lacks %s\n", symbol);
    std::exit(1);
  }
  return address;
}

// Expanded first, so that cuda.h's own #define of a name to its current version takes effect.
#define CU_TEXT(symbol) #symbol
#define CU_SYMBOL(symbol)                                                                       \
  ([] {                                                                                         \
    static const auto cu_entry_ = reinterpret_cast<decltype(&::symbol)>(::stress::entry(CU_TEXT(symbol))); \
    return cu_entry_;                                                                           \
  }())
#define CU(name) CU_SYMBOL(name)
// The simulated driver's own functions.
#define SIM(name) CU_SYMBOL(name)

inline bool is_simulated() { return dlsym(library(), "simcuda_fault") != nullptr; }

[[noreturn]] inline void fail(const char* what, CUresult result) {
  const char* name = nullptr;
  CU(cuGetErrorName)(result, &name);
  std::fprintf(stderr, "FAILED: %s: %s (%d)\n", what, name != nullptr ? name : "?", static_cast<int>(result));
  std::_Exit(1);
}

inline void must(CUresult result, const char* what) {
  if (result != CUDA_SUCCESS) fail(what, result);
}
#define MUST(name, ...) ::stress::must(CU(name)(__VA_ARGS__), #name)

struct Kernels {
  CUmodule module = nullptr;
  CUfunction fill = nullptr, check = nullptr, copy = nullptr, spin_ns = nullptr;

  // Of the current context.
  void load() {
    MUST(cuModuleLoadData, &module, flexlom_testing_fatbin);
    MUST(cuModuleGetFunction, &fill, module, "flex_fill");
    MUST(cuModuleGetFunction, &check, module, "flex_check");
    MUST(cuModuleGetFunction, &copy, module, "flex_copy");
    MUST(cuModuleGetFunction, &spin_ns, module, "flex_spin_ns");
  }
};

// Every argument must have exactly the type of the kernel's parameter.
template <class... A>
CUresult launch(CUfunction function, CUstream stream, A... arguments) {
  void* list[] = {static_cast<void*>(&arguments)..., nullptr};
  return CU(cuLaunchKernel)(function, 64, 1, 1, 128, 1, 1, 0, stream, list, nullptr);
}

// xorshift: small, and the same everywhere.
struct Random {
  uint64_t state;
  explicit Random(uint64_t seed) : state(seed * 0x9E3779B97F4A7C15u + 0x2545F4914F6CDD1Du) {
    for (int i = 0; i < 4; ++i) next();
  }
  uint64_t next() {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state * 0x2545F4914F6CDD1Du;
  }
  uint32_t below(uint32_t n) { return static_cast<uint32_t>((next() >> 33) % n); }
  bool one_in(uint32_t n) { return below(n) == 0; }
};

}  // namespace stress
