// From launch arguments to a task, shared with graph nodes.
#pragma once
#include "tests/simcuda/task.hpp"

namespace flexlom::sim {

// Copies the parameters; throws INVALID_VALUE, INVALID_HANDLE.
KernelTask make_kernel_task(CUfunction function, const unsigned (&grid)[3],
                            const unsigned (&block)[3], unsigned shared_bytes, void** params,
                            void** extra);

}  // namespace flexlom::sim
