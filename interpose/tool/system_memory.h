// How much host memory this process may count on: the machine's, and what its cgroup allows.
#pragma once

#include <cstdint>
#include <string>

namespace flexlom::tool {

struct SystemMemory {
  uint64_t total_bytes = 0;         // 0: not known
  uint64_t available_bytes = 0;     // MemAvailable of proc(5), and no more than the cgroup leaves
  uint64_t cgroup_limit_bytes = 0;  // the lowest of the cgroup and those above it; 0: no limit
  uint64_t cgroup_used_bytes = 0;   // of the cgroup with that limit
  int cgroup_version = 0;           // 1 or 2; 0: not found
};

// `root` stands for "/" and is there for tests.
SystemMemory read_system_memory(const std::string& root = "");

}  // namespace flexlom::tool
