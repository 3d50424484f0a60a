// What a submission names, and what that means for the memory of one device.
#pragma once

#include <cuda.h>

#include <cstddef>
#include <cstdint>

#include "pool/residency/history.h"

namespace flexlom::pool {

// The addresses that a submission names.
struct Names {
  const CUdeviceptr* words = nullptr;
  size_t count = 0;
  // Of a graph, in whose replay one word stands for all that its nodes say: how many of them name
  // it. The words ascend then.
  const uint16_t* times = nullptr;
  uint32_t steps = 1;  // the nodes of a graph: so many submissions it counts for
};

// What a submission touches of one device.
struct Touched {
  policy::Tick tick = 0;       // of the submission; 0: nothing
  uint64_t spilled_bytes = 0;  // of the allocations it names, in host frames
  uint64_t reading_bytes = 0;  // the same, counted as often as it names them
  uint64_t part_bytes = 0;     // what it is taken to name of arenas, wherever that lies
  double touches_ahead = 1;  // of the spilled ones, in the run of touches that this one is part of
  // Allocations that have turned out to be arenas: rates measured while all of them was charged to
  // every submission say nothing.
  uint32_t new_arenas = 0;
};

}  // namespace flexlom::pool
