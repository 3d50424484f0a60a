// Checks that copies and memsets share with graph nodes.
#pragma once
#include "tests/simcuda/api.hpp"

namespace flexlom::sim {

// The copy with both sides resolved to addresses in srcDevice and dstDevice, offsets applied and
// pitches filled in. Throws INVALID_VALUE for addresses that are not mapped, NOT_SUPPORTED for
// arrays.
CUDA_MEMCPY3D checked_copy(const CUDA_MEMCPY3D& what);
// Throws INVALID_VALUE.
void check_memset(const CUDA_MEMSET_NODE_PARAMS& what);

}  // namespace flexlom::sim
