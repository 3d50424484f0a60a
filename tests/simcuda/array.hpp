// CUDA arrays: here plain device memory with tight rows, which no address of the program's names.
#pragma once
#include <cstdint>

#include "tests/simcuda/context.hpp"

namespace flexlom::sim {

// Guarded by memory_lock.
struct Array {
  CUDA_ARRAY3D_DESCRIPTOR shape{};
  size_t row_bytes = 0;
  CUdeviceptr address = 0;
  uint64_t allocation_id = 0;  // its context may have taken the memory with it
  Context* context = nullptr;
};

// By value: another thread may destroy it. Throws INVALID_HANDLE.
Array array_of(CUarray handle);

}  // namespace flexlom::sim
