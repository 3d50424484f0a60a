// Host functions in streams and graphs.
#pragma once
#include "tests/simcuda/task.hpp"

namespace flexlom::sim {

HostTask make_host_task(CUhostFn fn, void* user_data);
// Is the calling thread inside a host function? Driver calls are not permitted there.
bool inside_host_callback();

}  // namespace flexlom::sim
