// What flexlom replay takes from a trace log: allocations and frees, in order.
#pragma once

#include <cstdint>
#include <string>
#include <unordered_map>
#include <vector>

#include "interpose/trace/summary.h"

namespace flexlom::tool {

struct ReplayStep {
  uint64_t bytes = 0;     // to allocate; 0: a free
  uint32_t block = 0;     // which one
  uint16_t stream = 0;    // 0: the default one; a number for each that the log names
  bool in_order = false;  // of a stream: cuMemAllocAsync, cuMemFreeAsync
};

struct ReplayTrace {
  std::vector<ReplayStep> steps;
  uint32_t blocks = 0;
  uint16_t streams = 0;     // beside the default one
  uint64_t peak_bytes = 0;  // asked for, at one time
  uint64_t left_out = 0;    // records that cannot be replayed
};

// Reads the allocations of one device; -1: of the one with most. False, with the reason in `error`,
// when there is nothing to replay.
bool read_replay(const std::string& file, int device, ReplayTrace* trace, std::string* error);

}  // namespace flexlom::tool
