// Executable graphs: a private copy of a graph, launched as one piece of work.
#include <algorithm>
#include <map>
#include <tuple>

#include "tests/simcuda/capture.hpp"
#include "tests/simcuda/copy.hpp"
#include "tests/simcuda/event.hpp"
#include "tests/simcuda/graph_node.hpp"
#include "tests/simcuda/pool.hpp"

namespace flexlom::sim {
namespace {

// Guarded by submit_lock. A launch keeps the graph it was given: changes go to a new copy while
// one is running.
struct Exec {
  std::shared_ptr<Graph> graph;
  uint64_t flags = 0;
  std::shared_ptr<Completion> last;  // launches of one graph do not overlap
};

std::map<CUgraphExec, std::shared_ptr<Exec>>& live() {  // guarded by submit_lock
  static auto* const all = new std::map<CUgraphExec, std::shared_ptr<Exec>>;
  return *all;
}
Exec& exec_of(CUgraphExec handle) {
  const auto found = live().find(handle);
  require(found != live().end());
  return *found->second;
}

Node& exec_node(Exec& exec, CUgraphNode original) {
  if (exec.graph.use_count() > 1) exec.graph = exec.graph->copy(true);
  for (const auto& node : exec.graph->nodes)
    if (handle_of(node->original) == original) return *node;
  fail(CUDA_ERROR_INVALID_VALUE);
}

bool is_mapped(const MemsetTask& task) {
  try {
    check_memset(task.what);
    return true;
  } catch (const Failure&) {
    return false;
  }
}

CUresult instantiate(CUgraphExec* out, CUgraph handle, uint64_t flags) {
  require(out);
  std::lock_guard guard(state().submit_lock);
  std::shared_ptr<Graph> graph = graph_of(handle);
  require(graph->nodes.empty() || !graph->ordered().empty());
  for (const auto& node : graph->nodes)
    if (const auto* set = std::get_if<MemsetTask>(&node->task)) require(is_mapped(*set));
  auto exec = std::make_shared<Exec>();
  exec->graph = graph->copy();
  exec->flags = flags;
  *out = reinterpret_cast<CUgraphExec>(exec.get());
  live()[*out] = std::move(exec);
  return CUDA_SUCCESS;
}
CUresult instantiate_logged(Call&, CUgraphExec* out, CUgraph graph, CUgraphNode* error_node, char*,
                            size_t) {
  if (error_node) *error_node = nullptr;
  return instantiate(out, graph, 0);
}
CUresult instantiate_with_flags(Call&, CUgraphExec* out, CUgraph graph, unsigned long long flags) {
  return instantiate(out, graph, flags);
}
CUresult instantiate_with_params(Call&, CUgraphExec* out, CUgraph graph,
                                 CUDA_GRAPH_INSTANTIATE_PARAMS* p) {
  require(p);
  p->hErrNode_out = nullptr;
  p->result_out = CUDA_GRAPH_INSTANTIATE_ERROR;
  const CUresult code = instantiate(out, graph, p->flags);
  p->result_out = CUDA_GRAPH_INSTANTIATE_SUCCESS;
  return code;
}

CUresult graph_launch(Call& c, CUgraphExec handle, CUstream stream_handle) {
  StreamRef stream = stream_of(c, stream_handle);
  std::lock_guard guard(state().submit_lock);
  Exec& exec = exec_of(handle);
  if (record_in_capture(*stream, ChildGraphTask{exec.graph})) return CUDA_SUCCESS;
  claim_graph_memory(*exec.graph);
  Completions after;
  if (exec.last && !exec.last->is_done()) after.push_back(exec.last);
  exec.last = enqueue(
      *stream, [graph = exec.graph] { run_graph(*graph); }, std::move(after));
  return CUDA_SUCCESS;
}
CUresult graph_upload(Call& c, CUgraphExec handle, CUstream stream) {
  stream_of(c, stream);
  std::lock_guard guard(state().submit_lock);
  exec_of(handle);
  return CUDA_SUCCESS;
}
CUresult exec_destroy(Call&, CUgraphExec handle) {
  std::shared_ptr<Exec> gone;  // deleted after the lock: its memory nodes take another
  std::lock_guard guard(state().submit_lock);
  const auto found = live().find(handle);
  require(found != live().end());
  gone = std::move(found->second);
  live().erase(found);
  return CUDA_SUCCESS;
}
CUresult exec_get_flags(Call&, CUgraphExec handle, cuuint64_t* out) {
  require(out);
  std::lock_guard guard(state().submit_lock);
  *out = exec_of(handle).flags;
  return CUDA_SUCCESS;
}

bool same(const CUDA_MEMCPY3D& a, const CUDA_MEMCPY3D& b) {
  const auto all = [](const CUDA_MEMCPY3D& w) {
    return std::tuple(w.srcDevice, w.dstDevice, w.WidthInBytes, w.Height, w.Depth, w.srcPitch,
                      w.dstPitch, w.srcHeight, w.dstHeight);
  };
  return all(a) == all(b);
}
// Whether an executable graph takes the new parameters of a copy, as an H200 decides it: what is
// the same is taken; else the operands must be in the kind of memory that they were in when the
// node was made, and several layers are never taken.
bool takes(const CopyTask& have, const CopyTask& want) {
  const CUDA_MEMCPY3D &a = have.what, &b = want.what;
  if (a.srcMemoryType != b.srcMemoryType || a.dstMemoryType != b.dstMemoryType) return false;
  if (same(a, b)) return true;
  return a.Depth == 1 && b.Depth == 1 && have.source == want.source && have.target == want.target;
}

// `node`: of the graph that was to be taken over, where it does not fit.
struct Verdict {
  CUgraphExecUpdateResult result = CU_GRAPH_EXEC_UPDATE_SUCCESS;
  const Node* node = nullptr;
};

CUgraphExecUpdateResult compare_parameters(const Task& have, const Task& want) {
  if (have.index() != want.index()) return CU_GRAPH_EXEC_UPDATE_ERROR_NODE_TYPE_CHANGED;
  if (const auto* copy = std::get_if<CopyTask>(&want);
      copy && !takes(std::get<CopyTask>(have), *copy))
    return CU_GRAPH_EXEC_UPDATE_ERROR_PARAMETERS_CHANGED;
  if (const auto* set = std::get_if<MemsetTask>(&want);
      set && set->what.dst != std::get<MemsetTask>(have).what.dst && !is_mapped(*set))
    return CU_GRAPH_EXEC_UPDATE_ERROR;
  return CU_GRAPH_EXEC_UPDATE_SUCCESS;
}

// Same number of nodes, pairwise the same kinds and the same edges, here and in child graphs.
Verdict compare(const Graph& have, const Graph& want) {
  if (have.nodes.size() != want.nodes.size())
    return {CU_GRAPH_EXEC_UPDATE_ERROR_TOPOLOGY_CHANGED, nullptr};
  const auto index = [](const Graph& graph, const Node* node) {
    const auto found = std::find_if(graph.nodes.begin(), graph.nodes.end(),
                                    [&](const auto& other) { return other.get() == node; });
    return found - graph.nodes.begin();
  };
  for (size_t i = 0; i < have.nodes.size(); ++i) {
    const Node& a = *have.nodes[i];
    const Node& b = *want.nodes[i];
    const CUgraphExecUpdateResult result = compare_parameters(a.task, b.task);
    if (result != CU_GRAPH_EXEC_UPDATE_SUCCESS) return {result, &b};
    bool alike = a.after.size() == b.after.size();
    for (size_t e = 0; alike && e < a.after.size(); ++e)
      alike = index(have, a.after[e]) == index(want, b.after[e]);
    if (!alike) return {CU_GRAPH_EXEC_UPDATE_ERROR_TOPOLOGY_CHANGED, &b};
    if (const auto* child = std::get_if<ChildGraphTask>(&a.task)) {
      const Verdict inner = compare(*child->graph, *std::get<ChildGraphTask>(b.task).graph);
      if (inner.result != CU_GRAPH_EXEC_UPDATE_SUCCESS) return inner;
    }
  }
  return {};
}

CUresult change(CUgraphExec handle, CUgraphNode original, Task task) {
  note_places(task);
  std::lock_guard guard(state().submit_lock);
  Node& node = exec_node(exec_of(handle), original);
  require(node.task.index() == task.index());
  if (const auto* copy = std::get_if<CopyTask>(&task))
    require(takes(std::get<CopyTask>(node.task), *copy));
  if (const auto* child = std::get_if<ChildGraphTask>(&task))  // the code is a guess
    require(compare(*std::get<ChildGraphTask>(node.task).graph, *child->graph).result ==
            CU_GRAPH_EXEC_UPDATE_SUCCESS);
  node.task = std::move(task);
  return CUDA_SUCCESS;
}
template <class Params, class... Context>
CUresult change_from(Call&, CUgraphExec exec, CUgraphNode node, const Params* p, Context...) {
  require(p);
  return change(exec, node, task_from(*p));
}
constexpr auto change_memcpy = change_from<CUDA_MEMCPY3D, CUcontext>;
constexpr auto change_memset = change_from<CUDA_MEMSET_NODE_PARAMS, CUcontext>;
CUresult exec_child(Call&, CUgraphExec exec, CUgraphNode node, CUgraph child) {
  CUgraphNodeParams p{};
  p.type = CU_GRAPH_NODE_TYPE_GRAPH;
  p.graph.graph = child;
  return change(exec, node, task_from(p));
}
template <class Kind>
CUresult set_event(Call&, CUgraphExec exec, CUgraphNode node, CUevent event) {
  return change(exec, node, Kind{event_of(event)});
}
CUresult exec_node_params(Call&, CUgraphExec exec, CUgraphNode node, CUgraphNodeParams* p) {
  require(p && p->type != CU_GRAPH_NODE_TYPE_MEM_ALLOC);
  require(p->type != CU_GRAPH_NODE_TYPE_MEMCPY || p->memcpy.copyCtx);
  return change(exec, node, task_from(*p));
}

CUresult set_enabled(Call&, CUgraphExec handle, CUgraphNode original, unsigned enabled) {
  std::lock_guard guard(state().submit_lock);
  Node& node = exec_node(exec_of(handle), original);
  require(std::holds_alternative<KernelTask>(node.task) ||
          std::holds_alternative<CopyTask>(node.task) ||
          std::holds_alternative<MemsetTask>(node.task));
  node.enabled = enabled != 0;
  return CUDA_SUCCESS;
}
CUresult get_enabled(Call&, CUgraphExec handle, CUgraphNode original, unsigned* out) {
  require(out);
  std::lock_guard guard(state().submit_lock);
  *out = exec_node(exec_of(handle), original).enabled;
  return CUDA_SUCCESS;
}

// The executable graph's copy keeps what its operands were: an equal node may have been made since.
void take_over(Task& have, const Task& want) {
  const auto* old = std::get_if<CopyTask>(&have);
  if (!old) {
    have = want;
    return;
  }
  CopyTask copy = std::get<CopyTask>(want);
  copy.source = old->source;
  copy.target = old->target;
  have = std::move(copy);
}

Verdict update(CUgraphExec exec_handle, CUgraph graph_handle) {
  std::lock_guard guard(state().submit_lock);
  Exec& exec = exec_of(exec_handle);
  std::shared_ptr<Graph> graph = graph_of(graph_handle);
  const Verdict verdict = compare(*exec.graph, *graph);
  if (verdict.result != CU_GRAPH_EXEC_UPDATE_SUCCESS) return verdict;
  if (exec.graph.use_count() > 1) exec.graph = exec.graph->copy(true);
  // Its nodes go on being named by those of the graph it was instantiated from.
  for (size_t i = 0; i < graph->nodes.size(); ++i)
    take_over(exec.graph->nodes[i]->task, graph->nodes[i]->task);
  return verdict;
}
CUresult exec_update_v2(Call&, CUgraphExec exec, CUgraph graph, CUgraphExecUpdateResultInfo* out) {
  const Verdict verdict = update(exec, graph);
  if (out) *out = {verdict.result, verdict.node ? handle_of(verdict.node) : nullptr, nullptr};
  return verdict.result == CU_GRAPH_EXEC_UPDATE_SUCCESS ? CUDA_SUCCESS
                                                        : CUDA_ERROR_GRAPH_EXEC_UPDATE_FAILURE;
}
CUresult exec_update(Call& c, CUgraphExec exec, CUgraph graph, CUgraphNode* error_node,
                     CUgraphExecUpdateResult* out) {
  CUgraphExecUpdateResultInfo info{CU_GRAPH_EXEC_UPDATE_ERROR, nullptr, nullptr};
  const CUresult code = exec_update_v2(c, exec, graph, &info);
  if (error_node) *error_node = info.errorNode;
  if (out) *out = info.result;
  return code;
}

// What graphs allocate is booked as ordinary allocations: nothing is held back to be trimmed.
CUresult graph_mem_trim(Call&, CUdevice dev) {
  device_at(dev);
  return CUDA_SUCCESS;
}
CUresult get_graph_mem_attribute(Call&, CUdevice dev, CUgraphMem_attribute attribute, void* out) {
  require(out && attribute >= CU_GRAPH_MEM_ATTR_USED_MEM_CURRENT &&
          attribute <= CU_GRAPH_MEM_ATTR_RESERVED_MEM_HIGH);
  device_at(dev);
  *static_cast<cuuint64_t*>(out) = 0;
  return CUDA_SUCCESS;
}
CUresult set_graph_mem_attribute(Call&, CUdevice dev, CUgraphMem_attribute, void* value) {
  require(value);
  device_at(dev);
  return CUDA_SUCCESS;
}

}  // namespace
}  // namespace flexlom::sim

using namespace flexlom::sim;
SIM_EXPORT(cuGraphInstantiate, instantiate_logged);
SIM_EXPORT(cuGraphInstantiate_v2, instantiate_logged);
SIM_EXPORT(cuGraphInstantiateWithFlags, instantiate_with_flags);
SIM_EXPORT_PTSZ(cuGraphInstantiateWithParams, instantiate_with_params);
SIM_EXPORT_PTSZ(cuGraphLaunch, graph_launch);
SIM_EXPORT_PTSZ(cuGraphUpload, graph_upload);
SIM_EXPORT(cuGraphExecDestroy, exec_destroy);
SIM_EXPORT(cuGraphExecGetFlags, exec_get_flags);
SIM_EXPORT(cuGraphExecKernelNodeSetParams, change_from<CUDA_KERNEL_NODE_PARAMS_v1>);
SIM_EXPORT(cuGraphExecKernelNodeSetParams_v2, change_from<CUDA_KERNEL_NODE_PARAMS_v2>);
SIM_EXPORT(cuGraphExecMemcpyNodeSetParams, change_memcpy);
SIM_EXPORT(cuGraphExecMemsetNodeSetParams, change_memset);
SIM_EXPORT(cuGraphExecHostNodeSetParams, change_from<CUDA_HOST_NODE_PARAMS_v1>);
SIM_EXPORT(cuGraphExecBatchMemOpNodeSetParams, change_from<CUDA_BATCH_MEM_OP_NODE_PARAMS_v1>);
SIM_EXPORT(cuGraphExecChildGraphNodeSetParams, exec_child);
SIM_EXPORT(cuGraphExecEventRecordNodeSetEvent, set_event<EventRecordTask>);
SIM_EXPORT(cuGraphExecEventWaitNodeSetEvent, set_event<EventWaitTask>);
SIM_EXPORT(cuGraphExecNodeSetParams, exec_node_params);
SIM_EXPORT(cuGraphNodeSetEnabled, set_enabled);
SIM_EXPORT(cuGraphNodeGetEnabled, get_enabled);
SIM_EXPORT(cuGraphExecUpdate, exec_update);
SIM_EXPORT(cuGraphExecUpdate_v2, exec_update_v2);
SIM_EXPORT(cuDeviceGraphMemTrim, graph_mem_trim);
SIM_EXPORT(cuDeviceGetGraphMemAttribute, get_graph_mem_attribute);
SIM_EXPORT(cuDeviceSetGraphMemAttribute, set_graph_mem_attribute);
