// What the replay of each executable graph touches.
//
// Collected when a graph is instantiated, kept right by the calls that change an executable graph,
// so that a launch only looks it up. The hooks in hooks/graph.cpp call these after the driver took
// the call (and `destroying` before it). Collecting asks the driver about the graph alone (CUDA
// Driver API 6.25, cuGraphGetNodes and the *GetParams): it needs no current context, is allowed
// while a capture is open, and changes nothing. Any thread; one executable graph is used by one
// thread at a time, as the driver asks.
#pragma once

#include <cuda.h>

#include <memory>

#include "interpose/heat/named.h"

namespace flexlom::heat {

// What `exec` names, for cuGraphLaunch. `unknown` when it was never seen or not seen whole.
void name_graph(Named& named, CUgraphExec exec) noexcept;

// A new executable graph, made of `graph`.
void exec_made(CUgraphExec exec, CUgraph graph) noexcept;
// cuGraphExecUpdate: taken over from `graph`, or, when the driver refused, perhaps partly.
void exec_updated(CUgraphExec exec, CUgraph graph, bool whole) noexcept;
// One node has new parameters: what it named before is dropped. A node inside a child graph is
// none of those that were collected by name, so what the child named before stays named as well.
void exec_node_set(CUgraphExec exec, CUgraphNode node, const Named& named) noexcept;
void exec_child_set(CUgraphExec exec, CUgraphNode node, CUgraph child) noexcept;

// Before cuGraphExecDestroy. When the driver then refuses, what was forgotten is given back.
struct ExecState;
std::shared_ptr<ExecState> exec_destroying(CUgraphExec exec) noexcept;
void exec_kept(CUgraphExec exec, std::shared_ptr<ExecState> state) noexcept;

// Conditional nodes: the driver tells the graphs of their bodies at creation only.
void conditional_made(CUgraph parent, CUgraphNode node, const CUgraph* bodies,
                      unsigned count) noexcept;
// Before cuGraphDestroy and cuGraphDestroyNode.
void graph_destroying(CUgraph graph) noexcept;
void node_destroying(CUgraphNode node) noexcept;

// What nodes name, whose parameters the caller has.
void name_node(Named& named, const CUDA_KERNEL_NODE_PARAMS_v1& p) noexcept;
void name_node(Named& named, const CUDA_KERNEL_NODE_PARAMS_v2& p) noexcept;
void name_node(Named& named, const CUDA_BATCH_MEM_OP_NODE_PARAMS_v1& p) noexcept;
// Any kind but graphs.
void name_node(Named& named, const CUgraphNodeParams& p) noexcept;

struct GraphCounts {
  uint64_t execs;       // collected
  uint64_t incomplete;  // of these, not seen whole
};
GraphCounts graph_counts() noexcept;

}  // namespace flexlom::heat
