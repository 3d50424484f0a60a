// Node parameters to tasks and back. All throw INVALID_VALUE for what the driver refuses.
#pragma once
#include "tests/simcuda/graph.hpp"

namespace flexlom::sim {

Task task_from(const CUDA_KERNEL_NODE_PARAMS_v1& p);
Task task_from(const CUDA_KERNEL_NODE_PARAMS_v2& p);
Task task_from(const CUDA_MEMCPY3D& p);
Task task_from(const CUDA_MEMSET_NODE_PARAMS& p);
Task task_from(const CUDA_HOST_NODE_PARAMS_v1& p);
Task task_from(const CUDA_BATCH_MEM_OP_NODE_PARAMS_v1& p);
// Any kind. Takes submit_lock for events and child graphs: call without it. Memory of an allocation
// node is made here, and its address stored in the parameters.
Task task_from(CUgraphNodeParams& p);

// The task of a node, when it is of this kind.
template <class Kind>
Kind& part(Node& node) {
  Kind* found = std::get_if<Kind>(&node.task);
  require(found != nullptr);
  return *found;
}

}  // namespace flexlom::sim
