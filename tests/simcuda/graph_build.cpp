// Building graphs: creation, edges, and what they are asked about their shape.
#include <algorithm>

#include "tests/simcuda/graph.hpp"
#include "tests/simcuda/stream.hpp"

namespace flexlom::sim {
namespace {

CUresult graph_create(Call&, CUgraph* out, unsigned flags) {
  require(out && !flags);
  std::lock_guard guard(state().submit_lock);
  *out = publish(std::make_shared<Graph>());
  return CUDA_SUCCESS;
}
CUresult graph_destroy(Call&, CUgraph handle) {
  std::shared_ptr<Graph> last;  // deleted after the lock: its memory nodes take another
  std::lock_guard guard(state().submit_lock);
  last = graph_of(handle);
  unpublish(handle);
  return CUDA_SUCCESS;
}
CUresult graph_clone(Call&, CUgraph* out, CUgraph handle) {
  require(out);
  std::lock_guard guard(state().submit_lock);
  *out = publish(graph_of(handle)->copy());
  return CUDA_SUCCESS;
}
CUresult node_find_in_clone(Call&, CUgraphNode* out, CUgraphNode original, CUgraph clone) {
  require(out);
  std::lock_guard guard(state().submit_lock);
  const Node& wanted = node_of(original);
  for (const auto& node : graph_of(clone)->nodes) {
    if (node->original != &wanted) continue;
    *out = handle_of(node.get());
    return CUDA_SUCCESS;
  }
  return CUDA_ERROR_INVALID_VALUE;
}

CUresult node_get_type(Call&, CUgraphNode handle, CUgraphNodeType* out) {
  require(out);
  std::lock_guard guard(state().submit_lock);
  *out = type_of(node_of(handle).task);
  return CUDA_SUCCESS;
}
CUresult destroy_node(Call&, CUgraphNode handle) {
  std::lock_guard guard(state().submit_lock);
  Node& node = node_of(handle);
  node.graph->remove(&node);
  return CUDA_SUCCESS;
}

// The driver's way of returning lists: without a buffer the count, with one as many as fit.
template <class Get>
void give_list(size_t available, size_t* count, bool wanted, Get get) {
  require(count);
  if (!wanted) {
    *count = available;
    return;
  }
  for (size_t i = 0; i < *count; ++i) get(i, i < available);
  *count = std::min(*count, available);
}
void give_nodes(const std::vector<const Node*>& list, CUgraphNode* out, size_t* count) {
  give_list(list.size(), count, out != nullptr,
            [&](size_t i, bool exists) { out[i] = exists ? handle_of(list[i]) : nullptr; });
}

CUresult get_nodes(Call&, CUgraph handle, CUgraphNode* out, size_t* count) {
  std::lock_guard guard(state().submit_lock);
  std::vector<const Node*> list;
  for (const auto& node : graph_of(handle)->nodes) list.push_back(node.get());
  give_nodes(list, out, count);
  return CUDA_SUCCESS;
}
CUresult get_root_nodes(Call&, CUgraph handle, CUgraphNode* out, size_t* count) {
  std::lock_guard guard(state().submit_lock);
  std::vector<const Node*> list;
  for (const auto& node : graph_of(handle)->nodes)
    if (node->after.empty()) list.push_back(node.get());
  give_nodes(list, out, count);
  return CUDA_SUCCESS;
}

CUresult get_edges_v2(Call&, CUgraph handle, CUgraphNode* from, CUgraphNode* to,
                      CUgraphEdgeData* data, size_t* count) {
  std::lock_guard guard(state().submit_lock);
  std::vector<std::pair<const Node*, const Node*>> edges;
  for (const auto& node : graph_of(handle)->nodes)
    for (const Node* before : node->after) edges.emplace_back(before, node.get());
  require((from != nullptr) == (to != nullptr));
  give_list(edges.size(), count, from != nullptr, [&](size_t i, bool exists) {
    from[i] = exists ? handle_of(edges[i].first) : nullptr;
    to[i] = exists ? handle_of(edges[i].second) : nullptr;
    if (data) data[i] = {};
  });
  return CUDA_SUCCESS;
}
CUresult get_edges(Call& c, CUgraph handle, CUgraphNode* from, CUgraphNode* to, size_t* count) {
  return get_edges_v2(c, handle, from, to, nullptr, count);
}

CUresult get_dependencies_v2(Call&, CUgraphNode handle, CUgraphNode* out, CUgraphEdgeData* data,
                             size_t* count) {
  std::lock_guard guard(state().submit_lock);
  const Node& node = node_of(handle);
  if (data && count) std::fill(data, data + *count, CUgraphEdgeData{});
  give_nodes({node.after.begin(), node.after.end()}, out, count);
  return CUDA_SUCCESS;
}
CUresult get_dependencies(Call& c, CUgraphNode handle, CUgraphNode* out, size_t* count) {
  return get_dependencies_v2(c, handle, out, nullptr, count);
}
CUresult get_dependents_v2(Call&, CUgraphNode handle, CUgraphNode* out, CUgraphEdgeData* data,
                           size_t* count) {
  std::lock_guard guard(state().submit_lock);
  Node& node = node_of(handle);
  std::vector<const Node*> list;
  for (const auto& other : node.graph->nodes)
    if (std::find(other->after.begin(), other->after.end(), &node) != other->after.end())
      list.push_back(other.get());
  if (data && count) std::fill(data, data + *count, CUgraphEdgeData{});
  give_nodes(list, out, count);
  return CUDA_SUCCESS;
}
CUresult get_dependents(Call& c, CUgraphNode handle, CUgraphNode* out, size_t* count) {
  return get_dependents_v2(c, handle, out, nullptr, count);
}

CUresult add_dependencies_v2(Call&, CUgraph handle, const CUgraphNode* from, const CUgraphNode* to,
                             const CUgraphEdgeData*, size_t count) {
  std::lock_guard guard(state().submit_lock);
  std::shared_ptr<Graph> graph = graph_of(handle);
  const std::vector<Node*> before = nodes_of(*graph, from, count);
  const std::vector<Node*> after = nodes_of(*graph, to, count);
  for (size_t i = 0; i < count; ++i) {
    auto& list = after[i]->after;
    require(before[i] != after[i] && std::find(list.begin(), list.end(), before[i]) == list.end());
    list.push_back(before[i]);
  }
  return CUDA_SUCCESS;
}
CUresult add_dependencies(Call& c, CUgraph handle, const CUgraphNode* from, const CUgraphNode* to,
                          size_t count) {
  return add_dependencies_v2(c, handle, from, to, nullptr, count);
}
CUresult remove_dependencies_v2(Call&, CUgraph handle, const CUgraphNode* from,
                                const CUgraphNode* to, const CUgraphEdgeData*, size_t count) {
  std::lock_guard guard(state().submit_lock);
  std::shared_ptr<Graph> graph = graph_of(handle);
  const std::vector<Node*> before = nodes_of(*graph, from, count);
  const std::vector<Node*> after = nodes_of(*graph, to, count);
  for (size_t i = 0; i < count; ++i) require(std::erase(after[i]->after, before[i]) == 1);
  return CUDA_SUCCESS;
}
CUresult remove_dependencies(Call& c, CUgraph handle, const CUgraphNode* from,
                             const CUgraphNode* to, size_t count) {
  return remove_dependencies_v2(c, handle, from, to, nullptr, count);
}

}  // namespace

CUgraphNodeType type_of(const Task& task) {
  constexpr CUgraphNodeType types[] = {
      CU_GRAPH_NODE_TYPE_KERNEL,     CU_GRAPH_NODE_TYPE_MEMCPY,
      CU_GRAPH_NODE_TYPE_MEMSET,     CU_GRAPH_NODE_TYPE_HOST,
      CU_GRAPH_NODE_TYPE_EMPTY,      CU_GRAPH_NODE_TYPE_EVENT_RECORD,
      CU_GRAPH_NODE_TYPE_WAIT_EVENT, CU_GRAPH_NODE_TYPE_BATCH_MEM_OP,
      CU_GRAPH_NODE_TYPE_GRAPH,      CU_GRAPH_NODE_TYPE_MEM_ALLOC,
      CU_GRAPH_NODE_TYPE_MEM_FREE};
  static_assert(std::size(types) == std::variant_size_v<Task>);
  return types[task.index()];
}

}  // namespace flexlom::sim

using namespace flexlom::sim;
SIM_EXPORT(cuGraphCreate, graph_create);
SIM_EXPORT(cuGraphDestroy, graph_destroy);
SIM_EXPORT(cuGraphClone, graph_clone);
SIM_EXPORT(cuGraphNodeFindInClone, node_find_in_clone);
SIM_EXPORT(cuGraphNodeGetType, node_get_type);
SIM_EXPORT(cuGraphDestroyNode, destroy_node);
SIM_EXPORT(cuGraphGetNodes, get_nodes);
SIM_EXPORT(cuGraphGetRootNodes, get_root_nodes);
SIM_EXPORT(cuGraphGetEdges, get_edges);
SIM_EXPORT(cuGraphGetEdges_v2, get_edges_v2);
SIM_EXPORT(cuGraphNodeGetDependencies, get_dependencies);
SIM_EXPORT(cuGraphNodeGetDependencies_v2, get_dependencies_v2);
SIM_EXPORT(cuGraphNodeGetDependentNodes, get_dependents);
SIM_EXPORT(cuGraphNodeGetDependentNodes_v2, get_dependents_v2);
SIM_EXPORT(cuGraphAddDependencies, add_dependencies);
SIM_EXPORT(cuGraphAddDependencies_v2, add_dependencies_v2);
SIM_EXPORT(cuGraphRemoveDependencies, remove_dependencies);
SIM_EXPORT(cuGraphRemoveDependencies_v2, remove_dependencies_v2);
