// How much host memory this process may count on: the machine's, or its control group's.
#pragma once

#include <cstdint>

namespace flexlom {

// Bytes available now: MemAvailable of /proc/meminfo, or what the memory control groups (v1 and v2,
// every level up to the root) leave, whichever is less. 0 when nothing can be read.
uint64_t available_host_bytes() noexcept;

}  // namespace flexlom
