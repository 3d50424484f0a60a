// Checks that copies and memsets share with graph nodes.
#pragma once
#include "tests/simcuda/task.hpp"

namespace flexlom::sim {

// The copy with both sides resolved to addresses in srcDevice and dstDevice, offsets applied and
// pitches filled in. Throws INVALID_VALUE for addresses that are not mapped, NOT_SUPPORTED for
// arrays.
CUDA_MEMCPY3D checked_copy(const CUDA_MEMCPY3D& what);
// Notes in the task of a copy node, made or changed just now, what memory its operands are in: bits
// for device memory and for host-located frames, none for memory of the program's own. It goes by
// that for life, wherever the pages are mapped later (recorded on an H200).
void note_places(Task& task);
// Throws INVALID_VALUE.
void check_memset(const CUDA_MEMSET_NODE_PARAMS& what);

}  // namespace flexlom::sim
