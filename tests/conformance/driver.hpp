// The driver as the suite sees it: libcuda.so.1 opened by name, every entry found by dlsym, nothing
// linked, so that one binary meets the real driver, the simulated one, and either under flexlom.
#pragma once

#include <algorithm>
#include <concepts>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>

#include <cuda.h>
#include <fmt/format.h>

#include "tests/conformance/report.hpp"

namespace flexlom::conformance {

// Throws when the driver has no such symbol; the row then says so.
struct MissingEntry {
  std::string name;
};
void* driver_entry(const char* symbol);
bool driver_has(const char* symbol);
// Why libcuda.so.1 could not be opened; empty when it was.
std::string driver_problem();

// CU(cuMemAlloc)(&p, n) calls the symbol that cuda.h means by that name (cuMemAlloc_v2).
#define CU_SYMBOL(symbol) \
  reinterpret_cast<decltype(&::symbol)>(::flexlom::conformance::driver_entry(#symbol))
#define CU(name) CU_SYMBOL(name)
// CU_AS(cuMemAllocAsync, "cuMemAllocAsync_ptsz"): another symbol with the same parameters.
#define CU_AS(name, symbol) \
  reinterpret_cast<decltype(&::name)>(::flexlom::conformance::driver_entry(symbol))
// CU_TWIN(cuMemAlloc, true): the symbol that CU() would call, or its twin for programs that take
// the per-thread stream for the default one.
#define CU_TWIN_SYMBOL(symbol, per_thread)                                    \
  reinterpret_cast<decltype(&::symbol)>(::flexlom::conformance::driver_entry( \
      ::flexlom::conformance::twin_of(#symbol, per_thread).c_str()))
#define CU_TWIN(name, per_thread) CU_TWIN_SYMBOL(name, per_thread)
// The twin's suffix says whether a stream is among the parameters; the name does as well.
std::string twin_of(std::string_view symbol, bool per_thread);

std::string result_name(CUresult result);

// Prints a row; an answer that needs a symbol the driver lacks becomes "missing: symbol".
template <std::invocable Ask>
void row(std::string_view name, Ask&& ask) {
  std::string answer;
  try {
    if constexpr (std::is_same_v<decltype(ask()), CUresult>) {
      answer = result_name(ask());
    } else {
      answer = ask();
    }
  } catch (const MissingEntry& missing) {
    answer = "missing: " + missing.name;
  }
  say(name, answer);
}

inline void row(std::string_view name, CUresult result) { say(name, result_name(result)); }
inline void row(std::string_view name, const std::string& answer) { say(name, answer); }

// Ends the group when the result is not SUCCESS: later rows would mean nothing.
void must(CUresult result, const char* what);

// Joins with spaces. The calls in the braces run from left to right, which those around a `+` need
// not do.
std::string in_order(std::initializer_list<std::string> answers);

// The result and, after it, a text when the call succeeded.
inline std::string result_and(CUresult result, const std::string& text) {
  return result == CUDA_SUCCESS ? "SUCCESS " + text : result_name(result);
}

// "null", "base", "base+512", "base-16" or "elsewhere" (further than the size from the base).
std::string relation(CUdeviceptr p, CUdeviceptr base, uint64_t size_bytes);
// "current", "null" or "other", seen from the calling thread.
std::string context_name(CUcontext context);

inline CUdeviceptr device_address(const void* p) { return reinterpret_cast<CUdeviceptr>(p); }
inline void* host_address(CUdeviceptr p) { return reinterpret_cast<void*>(p); }

CUmemLocation device_location(int device);
CUmemLocation host_location();

constexpr uint64_t kKiB = 1024;
constexpr uint64_t kMiB = 1024 * kKiB;
constexpr uint64_t kGiB = 1024 * kMiB;
std::string size_name(uint64_t bytes);
// "asked" when the driver reports the size that was asked for, else the number it reports: keeps
// answers equal on devices of different capacity.
std::string reported_size(uint64_t reported_bytes, uint64_t asked_bytes);

// cuMemAlloc that ends the group when it fails.
CUdeviceptr allocate(uint64_t bytes);
// Zeroes device memory and waits: cuMemsetD8 alone may still run when a non-blocking stream starts.
void clear(CUdeviceptr p, uint64_t bytes);
// A size that has pages of its own in every pool, within capacity_bytes().
inline uint64_t large_bytes() { return std::min<uint64_t>(capacity_bytes() / 4, 64 * kMiB); }

// Initialised driver, primary context of device 0 current in the constructing thread. Leaves
// everything as it is at the end: the group's process ends too.
struct Gpu {
  Gpu();
  CUdevice device = 0;
  CUcontext context = nullptr;
  int attribute(CUdevice_attribute which) const;
};

// The testing kernels, loaded into the current context.
class Kernels {
 public:
  Kernels();
  template <typename... Args>
  CUresult launch(CUstream stream, const char* name, Args... args) const {
    void* params[] = {static_cast<void*>(&args)..., nullptr};
    return launch_raw(stream, name, params);
  }
  CUresult launch_raw(CUstream stream, const char* name, void** params) const;
  CUfunction function(const char* name) const;

  // Fills with the pattern of the seed and waits.
  CUresult fill(CUdeviceptr p, uint64_t bytes, uint32_t seed) const;
  // "right", "N words wrong", or the name of the error that kept it from looking.
  std::string contents(CUdeviceptr p, uint64_t bytes, uint32_t seed) const;

 private:
  CUmodule module_ = nullptr;
  CUdeviceptr counter_ = 0;
};

}  // namespace flexlom::conformance
