// Fault rules, call counters and the call trace.
#pragma once
#include "tests/simcuda/api.hpp"

namespace flexlom::sim {

// Applies the rules that match: may sleep; returns the code to fail with, or CUDA_SUCCESS.
CUresult inject(Site& site);

// Reads SIMCUDA_FAULT and SIMCUDA_TRACE. Called once, with the options.
void read_fault_environment();

// Counts the entry, links the site into the list on its first call, writes the trace line.
void record_entry(Site& site);

}  // namespace flexlom::sim
