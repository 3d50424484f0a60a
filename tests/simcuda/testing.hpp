// What the simulated driver's own tests share.
#pragma once
#include <cuda.h>

#include <catch2/catch.hpp>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "tests/simcuda/simcuda.h"

#define REQUIRE_OK(call) REQUIRE((call) == CUDA_SUCCESS)
#define CHECK_OK(call) CHECK((call) == CUDA_SUCCESS)

namespace testing {

constexpr size_t kPage = size_t{2} << 20;

// A current primary context of device 0 for the length of a test case, and no rules left after it.
struct Session {
  CUcontext context = nullptr;
  CUmodule module = nullptr;
  Session();
  ~Session();
  CUfunction function(const char* name) const;
};

// An allocation or a stream that goes with its scope.
struct Memory {
  CUdeviceptr address = 0;
  explicit Memory(size_t bytes) { REQUIRE_OK(cuMemAlloc(&address, bytes)); }
  ~Memory() { cuMemFree(address); }
};
struct Pinned {
  void* address = nullptr;
  explicit Pinned(size_t bytes) { REQUIRE_OK(cuMemAllocHost(&address, bytes)); }
  ~Pinned() { cuMemFreeHost(address); }
};
struct Stream {
  CUstream handle = nullptr;
  explicit Stream(unsigned flags = 0) { REQUIRE_OK(cuStreamCreate(&handle, flags)); }
  ~Stream() { cuStreamDestroy(handle); }
};

// A kernel launch with the arguments as they are.
template <class... A>
CUresult launch(CUfunction function, CUstream stream, A... arguments) {
  void* list[] = {static_cast<void*>(&arguments)..., nullptr};
  return cuLaunchKernel(function, 1, 1, 1, 1, 1, 1, 0, stream, list, nullptr);
}

// Holds a stream until released, through pinned memory that a kernel polls.
struct Hold {
  Pinned flag{64};
  Hold(const Session& session, CUstream stream);
  ~Hold() { release(); }
  void release() { __atomic_store_n(static_cast<uint32_t*>(flag.address), 1u, __ATOMIC_SEQ_CST); }
};

// Runs one hidden test case of this program in a process of its own with these variables set.
// Returns the exit status, or 128 and the signal that killed it.
int run_self(const std::string& test, const std::vector<std::string>& environment);

CUmemAllocationProp device_memory(int device = 0);
CUmemAccessDesc read_write(int device = 0);

}  // namespace testing
