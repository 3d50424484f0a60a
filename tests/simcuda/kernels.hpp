// The kernels the simulated device knows, by name: see kernels/testing.cu for the real ones.
#pragma once
#include <cstddef>
#include <string_view>
#include <vector>

namespace flexlom::sim {

struct Param {
  size_t offset = 0;
  size_t bytes = 0;
};

struct Kernel {
  const char* name;
  std::vector<Param> params;
  size_t param_bytes;
  void (*run)(const std::byte* params);  // the whole grid, on the stream thread
};

const std::vector<Kernel>& kernels();
const Kernel* find_kernel(std::string_view name);  // null when unknown

}  // namespace flexlom::sim
