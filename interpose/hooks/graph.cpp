// Executable graphs: what a replay names is collected when the graph is made and when it changes
// (CUDA Driver API 6.25). The program gets the driver's own answer, except a refusal for nothing
// but where flexlom put its memory: graph_operands.h.
#include "interpose/heat/graphs.h"

#include <functional>
#include <optional>

#include "interpose/graph_operands.h"
#include "interpose/heat/launch.h"
#include "interpose/hooks/common.h"

namespace flexlom {

namespace {

// The driver first: only what it took is collected.
template <class Real, class Then>
CUresult then_note(Entry entry, Real real, Then then) {
  Runtime* rt = enter(entry);
  const CUresult r = real();
  if (rt != nullptr && r == CUDA_SUCCESS) then();
  return r;
}

template <class Real>
CUresult instantiate(Entry entry, CUgraphExec* exec, CUgraph graph, Real real) {
  return then_note(
      entry,
      [&] {
        if (Runtime* rt = InsidePool::already() ? nullptr : runtime())
          operands::prepare(*rt, graph);
        return real();
      },
      [&] { heat::exec_made(*exec, graph); });
}

// Uploading with the instantiation is work for the device.
CUresult instantiate_with_params(Entry entry, CUgraphExec* exec, CUgraph graph,
                                 CUDA_GRAPH_INSTANTIATE_PARAMS* params) {
  using F = decltype(&::cuGraphInstantiateWithParams);
  const auto ask = [&] {
    std::optional<doors::Submission> submission;
    if (params != nullptr && (params->flags & CUDA_GRAPH_INSTANTIATE_FLAG_UPLOAD) != 0)
      submission.emplace();
    return forward<F>(entry, exec, graph, params);
  };
  return instantiate(entry, exec, graph, [&] {
    const CUresult r = ask();
    return room::made_after(r) ? ask() : r;  // outside the gate
  });
}

// `ask`: the driver's call. A refusal that the program must not see is asked again. Passed on by
// reference, so that nothing is allocated here, where nothing may be thrown.
template <class Ask>
CUresult update(Entry entry, CUgraphExec exec, CUgraph graph, CUgraphExecUpdateResultInfo* info,
                Ask ask) {
  Runtime* rt = enter(entry);
  CUresult r = ask(info);
  if (rt == nullptr) return r;
  if (r == CUDA_ERROR_GRAPH_EXEC_UPDATE_FAILURE) {
    // Who does not want to know why gets the same help.
    const CUgraphExecUpdateResultInfo unknown{CU_GRAPH_EXEC_UPDATE_ERROR_PARAMETERS_CHANGED,
                                              nullptr, nullptr};
    r = operands::update_again(*rt, graph, info != nullptr ? *info : unknown, std::ref(ask));
    if (r == CUDA_SUCCESS && info != nullptr) *info = {};
  }
  if (r == CUDA_SUCCESS || r == CUDA_ERROR_GRAPH_EXEC_UPDATE_FAILURE)
    heat::exec_updated(exec, graph, r == CUDA_SUCCESS);
  return r;
}

// The graph in a node is another one. An H200 refuses copies in it with UPDATE_FAILURE; setting one
// copy it refuses with INVALID_VALUE.
template <class Real>
CUresult set_child(CUgraph child, Real real) {
  const CUresult r = real();
  if (r != CUDA_ERROR_INVALID_VALUE && r != CUDA_ERROR_GRAPH_EXEC_UPDATE_FAILURE) return r;
  Runtime* rt = child != nullptr && !InsidePool::already() ? runtime() : nullptr;
  if (rt == nullptr) return r;
  const CUgraphExecUpdateResultInfo unknown{CU_GRAPH_EXEC_UPDATE_ERROR_PARAMETERS_CHANGED, nullptr,
                                            nullptr};
  const CUresult again = operands::update_again(
      *rt, child, unknown, [&](CUgraphExecUpdateResultInfo*) { return real(); });
  return again == CUDA_SUCCESS ? again : r;
}

// A copy of an executable graph gets other parameters.
template <class Real>
CUresult set_copy(const CUDA_MEMCPY3D* copy, Real real) {
  const CUresult r = real();
  Runtime* rt = r == CUDA_ERROR_INVALID_VALUE && copy != nullptr && !InsidePool::already()
                    ? runtime()
                    : nullptr;
  return rt != nullptr ? operands::set_again(*rt, *copy, std::ref(real)) : r;
}

// `name(named)`: what the node names from now on.
template <class Real, class Name>
CUresult set(Entry entry, CUgraphExec exec, CUgraphNode node, Real real, Name name) {
  return then_note(entry, real, [&] {
    heat::Named named;
    name(named);
    heat::exec_node_set(exec, node, named);
  });
}

template <class Real>
CUresult add_node(Entry entry, CUgraphNode* node, CUgraph graph, const CUgraphNodeParams* params,
                  Real real) {
  return then_note(entry, real, [&] {
    if (params->type == CU_GRAPH_NODE_TYPE_CONDITIONAL)
      heat::conditional_made(graph, *node, params->conditional.phGraph_out,
                             params->conditional.size);
  });
}

}  // namespace

namespace own {

CUresult cuGraphInstantiate(CUgraphExec* exec, CUgraph graph, CUgraphNode* error_node, char* log,
                            size_t log_bytes) {
  return instantiate(Entry::cuGraphInstantiate, exec, graph, [&] {
    return FORWARD(cuGraphInstantiate, exec, graph, error_node, log, log_bytes);
  });
}
CUresult cuGraphInstantiate_v2(CUgraphExec* exec, CUgraph graph, CUgraphNode* error_node, char* log,
                               size_t log_bytes) {
  return instantiate(Entry::cuGraphInstantiate_v2, exec, graph, [&] {
    return FORWARD(cuGraphInstantiate_v2, exec, graph, error_node, log, log_bytes);
  });
}
CUresult cuGraphInstantiateWithFlags(CUgraphExec* exec, CUgraph graph, unsigned long long flags) {
  return instantiate(Entry::cuGraphInstantiateWithFlags, exec, graph,
                     [&] { return FORWARD(cuGraphInstantiateWithFlags, exec, graph, flags); });
}
CUresult cuGraphInstantiateWithParams(CUgraphExec* exec, CUgraph graph,
                                      CUDA_GRAPH_INSTANTIATE_PARAMS* params) {
  return instantiate_with_params(Entry::cuGraphInstantiateWithParams, exec, graph, params);
}
CUresult cuGraphInstantiateWithParams_ptsz(CUgraphExec* exec, CUgraph graph,
                                           CUDA_GRAPH_INSTANTIATE_PARAMS* params) {
  return instantiate_with_params(Entry::cuGraphInstantiateWithParams_ptsz, exec, graph, params);
}

CUresult cuGraphExecUpdate(CUgraphExec exec, CUgraph graph, CUgraphNode* error_node,
                           CUgraphExecUpdateResult* result) {
  CUgraphExecUpdateResultInfo info{CU_GRAPH_EXEC_UPDATE_ERROR_PARAMETERS_CHANGED, nullptr, nullptr};
  if (error_node != nullptr) info.errorNode = *error_node;
  if (result != nullptr) info.result = *result;
  const auto ask = [&](CUgraphExecUpdateResultInfo* out) {
    return FORWARD(cuGraphExecUpdate, exec, graph,
                   error_node != nullptr ? &out->errorNode : nullptr,
                   result != nullptr ? &out->result : nullptr);
  };
  const CUresult r = update(Entry::cuGraphExecUpdate, exec, graph, &info, ask);
  if (error_node != nullptr) *error_node = info.errorNode;
  if (result != nullptr) *result = info.result;
  return r;
}
CUresult cuGraphExecUpdate_v2(CUgraphExec exec, CUgraph graph,
                              CUgraphExecUpdateResultInfo* result) {
  return update(Entry::cuGraphExecUpdate_v2, exec, graph, result,
                [&](CUgraphExecUpdateResultInfo* out) {
                  return FORWARD(cuGraphExecUpdate_v2, exec, graph, out);
                });
}

CUresult cuGraphExecDestroy(CUgraphExec exec) {
  Runtime* rt = enter(Entry::cuGraphExecDestroy);
  // Before: once destroyed, the handle may at once be another graph's.
  std::shared_ptr<heat::ExecState> state;
  if (rt != nullptr) state = heat::exec_destroying(exec);
  const CUresult r = FORWARD(cuGraphExecDestroy, exec);
  if (r != CUDA_SUCCESS) heat::exec_kept(exec, std::move(state));
  return r;
}

CUresult cuGraphExecKernelNodeSetParams(CUgraphExec exec, CUgraphNode node,
                                        const CUDA_KERNEL_NODE_PARAMS_v1* params) {
  return set(
      Entry::cuGraphExecKernelNodeSetParams, exec, node,
      [&] { return FORWARD(cuGraphExecKernelNodeSetParams, exec, node, params); },
      [&](heat::Named& named) { heat::name_node(named, *params); });
}
CUresult cuGraphExecKernelNodeSetParams_v2(CUgraphExec exec, CUgraphNode node,
                                           const CUDA_KERNEL_NODE_PARAMS_v2* params) {
  return set(
      Entry::cuGraphExecKernelNodeSetParams_v2, exec, node,
      [&] { return FORWARD(cuGraphExecKernelNodeSetParams_v2, exec, node, params); },
      [&](heat::Named& named) { heat::name_node(named, *params); });
}
CUresult cuGraphExecMemcpyNodeSetParams(CUgraphExec exec, CUgraphNode node,
                                        const CUDA_MEMCPY3D* copy, CUcontext context) {
  return set(
      Entry::cuGraphExecMemcpyNodeSetParams, exec, node,
      [&] {
        return set_copy(copy, [&] {
          return FORWARD(cuGraphExecMemcpyNodeSetParams, exec, node, copy, context);
        });
      },
      [&](heat::Named& named) { heat::name_copy(named, *copy); });
}
CUresult cuGraphExecMemsetNodeSetParams(CUgraphExec exec, CUgraphNode node,
                                        const CUDA_MEMSET_NODE_PARAMS* params, CUcontext context) {
  return set(
      Entry::cuGraphExecMemsetNodeSetParams, exec, node,
      [&] { return FORWARD(cuGraphExecMemsetNodeSetParams, exec, node, params, context); },
      [&](heat::Named& named) { named.add(params->dst); });
}
CUresult cuGraphExecBatchMemOpNodeSetParams(CUgraphExec exec, CUgraphNode node,
                                            const CUDA_BATCH_MEM_OP_NODE_PARAMS* params) {
  return set(
      Entry::cuGraphExecBatchMemOpNodeSetParams, exec, node,
      [&] { return FORWARD(cuGraphExecBatchMemOpNodeSetParams, exec, node, params); },
      [&](heat::Named& named) { heat::name_node(named, *params); });
}
CUresult cuGraphExecChildGraphNodeSetParams(CUgraphExec exec, CUgraphNode node, CUgraph child) {
  return then_note(
      Entry::cuGraphExecChildGraphNodeSetParams,
      [&] {
        return set_child(
            child, [&] { return FORWARD(cuGraphExecChildGraphNodeSetParams, exec, node, child); });
      },
      [&] { heat::exec_child_set(exec, node, child); });
}
CUresult cuGraphExecNodeSetParams(CUgraphExec exec, CUgraphNode node, CUgraphNodeParams* params) {
  return then_note(
      Entry::cuGraphExecNodeSetParams,
      [&] {
        const auto real = [&] { return FORWARD(cuGraphExecNodeSetParams, exec, node, params); };
        const bool child = params != nullptr && params->type == CU_GRAPH_NODE_TYPE_GRAPH;
        const bool copy = params != nullptr && params->type == CU_GRAPH_NODE_TYPE_MEMCPY;
        return child ? set_child(params->graph.graph, real)
                     : set_copy(copy ? &params->memcpy.copyParams : nullptr, real);
      },
      [&] {
        if (params->type == CU_GRAPH_NODE_TYPE_GRAPH) {
          heat::exec_child_set(exec, node, params->graph.graph);
        } else {
          heat::Named named;
          heat::name_node(named, *params);
          heat::exec_node_set(exec, node, named);
        }
      });
}

CUresult cuGraphAddNode(CUgraphNode* node, CUgraph graph, const CUgraphNode* after, size_t count,
                        CUgraphNodeParams* params) {
  return add_node(Entry::cuGraphAddNode, node, graph, params,
                  [&] { return FORWARD(cuGraphAddNode, node, graph, after, count, params); });
}
CUresult cuGraphAddNode_v2(CUgraphNode* node, CUgraph graph, const CUgraphNode* after,
                           const CUgraphEdgeData* edges, size_t count, CUgraphNodeParams* params) {
  return add_node(Entry::cuGraphAddNode_v2, node, graph, params, [&] {
    return FORWARD(cuGraphAddNode_v2, node, graph, after, edges, count, params);
  });
}
CUresult cuGraphDestroy(CUgraph graph) {
  if (enter(Entry::cuGraphDestroy) != nullptr) heat::graph_destroying(graph);
  return FORWARD(cuGraphDestroy, graph);
}
CUresult cuGraphDestroyNode(CUgraphNode node) {
  if (enter(Entry::cuGraphDestroyNode) != nullptr) heat::node_destroying(node);
  return FORWARD(cuGraphDestroyNode, node);
}

}  // namespace own
}  // namespace flexlom
