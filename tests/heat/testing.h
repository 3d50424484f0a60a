// What the tests of this folder share. Every version of every driver call is declared here under
// its own name, as in the room they test.
#pragma once

#include <cuda.h>

#include <catch2/catch.hpp>
#include <cstdint>
#include <string>
#include <vector>

#include "interpose/doors/originals.h"
#include "interpose/heat/layout.h"
#include "interpose/heat/names.h"
#include "interpose/hooks/own.h"

#define REQUIRE_OK(call) REQUIRE((call) == CUDA_SUCCESS)
#define CHECK_OK(call) CHECK((call) == CUDA_SUCCESS)

namespace testing {

using flexlom::doors::Entry;
using flexlom::heat::Named;
using Words = std::vector<CUdeviceptr>;

// Stands for a pool's range; nothing is mapped there.
inline constexpr CUdeviceptr kPool = 0x5000'0000'0000;
inline constexpr size_t kPoolBytes = size_t{1} << 40;
inline constexpr size_t kMiB = size_t{1} << 20;
void note_pool();  // it alone

// The addresses in the order they were found.
Words words_of(const Named& named);

// names() for a call of this entry.
template <class... A>
Words words(Entry e, const A&... a) {
  Named named;
  flexlom::heat::names(e, named, a...);
  return words_of(named);
}

// Kernels that no driver has: while one of these exists, the two questions about parameters are
// answered here.
struct Param {
  size_t offset;
  size_t bytes;
};
class FakeKernels {
 public:
  FakeKernels();
  ~FakeKernels();
  FakeKernels(const FakeKernels&) = delete;
  // The handle may be used before, for something else.
  CUfunction function(uintptr_t handle, std::vector<Param> params);
  CUfunction kernel(uintptr_t handle, std::vector<Param> params);
  unsigned questions() const;

 private:
  void* func_info_;
  void* kernel_info_;
};

// Another implementation of a driver call, for the length of a scope.
class Replaced {
 public:
  Replaced(Entry e, void* call);
  ~Replaced();
  Replaced(const Replaced&) = delete;

 private:
  const Entry entry_;
  void* const before_;
};

// Whether the hooks find the library armed.
void arm(bool armed);

// A context on the simulated device, with the test kernels loaded.
struct Session {
  CUcontext context = nullptr;
  CUmodule module = nullptr;
  CUlibrary library = nullptr;
  Session();
  ~Session();
  CUfunction function(const char* name) const;  // a CUfunction
  CUfunction kernel(const char* name) const;    // a CUkernel, cast
};

}  // namespace testing
