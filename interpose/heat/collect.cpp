#include "interpose/heat/collect.h"

#include <algorithm>

#include "interpose/doors/originals.h"
#include "interpose/heat/graphs.h"
#include "interpose/heat/launch.h"
#include "interpose/heat/layout.h"

namespace flexlom::heat {

namespace {

constexpr unsigned kGranuleShift = 21;
// Deeper nesting than any driver takes.
constexpr unsigned kMostDepth = 32;

// The driver's answer; NOT_SUPPORTED when it does not have the call.
template <class F, class... A>
CUresult ask(F call, A... a) noexcept {
  return call != nullptr ? call(a...) : CUDA_ERROR_NOT_SUPPORTED;
}

bool kernel(Named& named, CUgraphNode node) {
  CUDA_KERNEL_NODE_PARAMS_v2 p{};
  CUresult r = ask(FLEXLOM_ORIGINAL(cuGraphKernelNodeGetParams_v2), node, &p);
  if (r == CUDA_ERROR_NOT_SUPPORTED) {
    CUDA_KERNEL_NODE_PARAMS_v1 old{};
    r = ask(FLEXLOM_ORIGINAL(cuGraphKernelNodeGetParams), node, &old);
    if (r == CUDA_SUCCESS) name_node(named, old);
  } else if (r == CUDA_SUCCESS) {
    name_node(named, p);
  }
  // Such a node gets parameters from kernels.
  CUlaunchAttributeValue value{};
  if (ask(FLEXLOM_ORIGINAL(cuGraphKernelNodeGetAttribute), node,
          CU_LAUNCH_ATTRIBUTE_DEVICE_UPDATABLE_KERNEL_NODE, &value) == CUDA_SUCCESS &&
      value.deviceUpdatableKernelNode.deviceUpdatable != 0) {
    named.unknown = true;
  }
  return r == CUDA_SUCCESS;
}

bool copy(Named& named, CUgraphNode node) {
  CUDA_MEMCPY3D p{};
  if (ask(FLEXLOM_ORIGINAL(cuGraphMemcpyNodeGetParams), node, &p) != CUDA_SUCCESS) return false;
  name_copy(named, p);
  return true;
}

bool fill(Named& named, CUgraphNode node) {
  CUDA_MEMSET_NODE_PARAMS p{};
  if (ask(FLEXLOM_ORIGINAL(cuGraphMemsetNodeGetParams), node, &p) != CUDA_SUCCESS) return false;
  named.add(p.dst);
  return true;
}

bool operations(Named& named, CUgraphNode node) {
  CUDA_BATCH_MEM_OP_NODE_PARAMS_v1 p{};
  if (ask(FLEXLOM_ORIGINAL(cuGraphBatchMemOpNodeGetParams), node, &p) != CUDA_SUCCESS) return false;
  name_node(named, p);
  return true;
}

// A function of its own, so that the stack of nested graphs does not hold a Named each.
[[gnu::noinline]] void take_leaf(NodeWords& part, CUgraphNode node, CUgraphNodeType type) {
  Named named;
  bool asked = true;
  switch (type) {
    case CU_GRAPH_NODE_TYPE_KERNEL:
      asked = kernel(named, node);
      break;
    case CU_GRAPH_NODE_TYPE_MEMCPY:
      asked = copy(named, node);
      break;
    case CU_GRAPH_NODE_TYPE_MEMSET:
      asked = fill(named, node);
      break;
    case CU_GRAPH_NODE_TYPE_BATCH_MEM_OP:
      asked = operations(named, node);
      break;
    case CU_GRAPH_NODE_TYPE_HOST:
    case CU_GRAPH_NODE_TYPE_EMPTY:
    case CU_GRAPH_NODE_TYPE_WAIT_EVENT:
    case CU_GRAPH_NODE_TYPE_EVENT_RECORD:
    case CU_GRAPH_NODE_TYPE_EXT_SEMAS_SIGNAL:
    case CU_GRAPH_NODE_TYPE_EXT_SEMAS_WAIT:
    case CU_GRAPH_NODE_TYPE_MEM_ALLOC:  // the graph's own memory, not a pool's
    case CU_GRAPH_NODE_TYPE_MEM_FREE:
      return;
    default:
      asked = false;
  }
  part.take(named);
  part.complete &= asked;
}

bool list_nodes(CUgraph graph, std::vector<CUgraphNode>& list) {
  const auto get = FLEXLOM_ORIGINAL(cuGraphGetNodes);
  size_t count = 0;
  if (ask(get, graph, static_cast<CUgraphNode*>(nullptr), &count) != CUDA_SUCCESS) return false;
  list.resize(count);
  if (count > 0 && ask(get, graph, list.data(), &count) != CUDA_SUCCESS) return false;
  list.resize(std::min(count, list.size()));
  return true;
}

void take_graph(NodeWords& part, CUgraph graph, unsigned depth);

void take_node(NodeWords& part, CUgraphNode node, unsigned depth) {
  CUgraphNodeType type{};
  if (ask(FLEXLOM_ORIGINAL(cuGraphNodeGetType), node, &type) != CUDA_SUCCESS) {
    part.complete = false;
  } else if (type == CU_GRAPH_NODE_TYPE_GRAPH) {
    CUgraph child = nullptr;
    if (ask(FLEXLOM_ORIGINAL(cuGraphChildGraphNodeGetGraph), node, &child) == CUDA_SUCCESS) {
      take_graph(part, child, depth + 1);
    } else {
      part.complete = false;
    }
  } else if (type == CU_GRAPH_NODE_TYPE_CONDITIONAL) {
    std::vector<CUgraph> bodies;
    part.complete &= bodies_of(node, bodies);
    for (const CUgraph body : bodies) take_graph(part, body, depth + 1);
  } else {
    take_leaf(part, node, type);
  }
}

void take_graph(NodeWords& part, CUgraph graph, unsigned depth) {
  std::vector<CUgraphNode> list;
  if (depth > kMostDepth || !list_nodes(graph, list)) {
    part.complete = false;
    return;
  }
  for (const CUgraphNode node : list) take_node(part, node, depth);
}

template <class Kernel>
void name_kernel(Named& named, CUfunction function, const Kernel& p) noexcept {
  name_launch(named, function,
              {{p.gridDimX, p.gridDimY, p.gridDimZ}, {p.blockDimX, p.blockDimY, p.blockDimZ}},
              p.kernelParams, p.extra);
}

CUfunction handle_of(CUfunction function, CUkernel kernel) noexcept {
  return function != nullptr ? function : reinterpret_cast<CUfunction>(kernel);
}

}  // namespace

void NodeWords::take(const Named& named) {
  words.insert(words.end(), named.words, named.words + named.count);
  complete &= !named.unknown && !named.overflow;
}

void NodeWords::take(NodeWords&& other) {
  words.insert(words.end(), other.words.begin(), other.words.end());
  complete &= other.complete;
}

void keep_one_per_granule(std::vector<CUdeviceptr>& words, std::vector<uint16_t>* times) {
  const auto key = [](CUdeviceptr w) {
    const bool inside = (w & ((CUdeviceptr{1} << kGranuleShift) - 1)) != 0;
    return (w >> kGranuleShift) * 2 + (inside ? 1 : 0);
  };
  std::sort(words.begin(), words.end());
  const auto same = [&](CUdeviceptr a, CUdeviceptr b) { return key(a) == key(b); };
  if (times != nullptr) {
    times->clear();
    for (size_t i = 0; i < words.size(); ++i) {
      const bool another = i > 0 && same(words[i - 1], words[i]);
      if (!another) times->push_back(0);
      if (times->back() < UINT16_MAX) ++times->back();
    }
  }
  words.erase(std::unique(words.begin(), words.end(), same), words.end());
  words.shrink_to_fit();
}

std::vector<CUgraphNode> collect(CUgraph graph, NodeMap& nodes) {
  std::vector<CUgraphNode> list;
  if (!list_nodes(graph, list)) {
    nodes[nullptr].complete = false;
    list.clear();
    return list;
  }
  for (const CUgraphNode node : list) {
    NodeWords part;
    take_node(part, node, 0);
    if (part.words.empty() && part.complete) continue;
    keep_one_per_granule(part.words);
    nodes[node] = std::move(part);
  }
  return list;
}

void name_node(Named& named, const CUDA_KERNEL_NODE_PARAMS_v1& p) noexcept {
  name_kernel(named, p.func, p);
}

void name_node(Named& named, const CUDA_KERNEL_NODE_PARAMS_v2& p) noexcept {
  name_kernel(named, handle_of(p.func, p.kern), p);
}

void name_node(Named& named, const CUDA_BATCH_MEM_OP_NODE_PARAMS_v1& p) noexcept {
  name_operations(named, p.paramArray, p.count);
}

void name_node(Named& named, const CUgraphNodeParams& p) noexcept {
  switch (p.type) {
    case CU_GRAPH_NODE_TYPE_KERNEL:
      name_kernel(named, handle_of(p.kernel.func, p.kernel.kern), p.kernel);
      break;
    case CU_GRAPH_NODE_TYPE_MEMCPY:
      name_copy(named, p.memcpy.copyParams);
      break;
    case CU_GRAPH_NODE_TYPE_MEMSET:
      named.add(p.memset.dst);
      break;
    case CU_GRAPH_NODE_TYPE_BATCH_MEM_OP:
      name_operations(named, p.memOp.paramArray, p.memOp.count);
      break;
    default:
      break;
  }
}

}  // namespace flexlom::heat
