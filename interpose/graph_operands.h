// Executable graphs and memory that is not where it was.
//
// A driver notes for every copy in a graph, when the node is made or its parameters are set,
// whether its operands lie on the device, on the host, or on both. Where an executable graph is
// changed (CUDA Driver API 6.25) it refuses a copy whose operands lie elsewhere than those of the
// copy that it takes the place of. Under flexlom that may be nothing but the placement of pages, of
// which the program knows nothing: it must not see such a refusal. Kernels and fills are not asked
// about it, and a replay finds its memory wherever it is then (all measured:
// tests/gpu/graph_operands.cpp).
//
// So a change that was refused is made again while the device is quiet and the pages of its copies
// are backed by what the driver wants to see (pool/stand_ins.h). A program that meets no refusal
// pays nothing. Where no quiet is to be had (a capture is open, a kernel does not end) the driver's
// refusal stands, which the documentation allows at any time: a program that handles it
// instantiates the graph anew.
//
// Only what lies on both cannot be shown of a smaller range later: such copies are made to look as
// on the device before their graph is instantiated.
//
// Any thread, outside the gate; the graphs are the caller's alone meanwhile, as the driver asks.
#pragma once

#include <cuda.h>

#include <functional>

#include "interpose/runtime.h"

namespace flexlom::operands {

// `graph` is about to be instantiated.
void prepare(Runtime& rt, CUgraph graph) noexcept;

// cuGraphExecUpdate to `graph` was refused, as `refusal` says. `update` asks the driver again and
// tells how that went. SUCCESS, or UPDATE_FAILURE as before; what the nodes of `graph` say about
// themselves does not change.
using Update = std::function<CUresult(CUgraphExecUpdateResultInfo*)>;
CUresult update_again(Runtime& rt, CUgraph graph, const CUgraphExecUpdateResultInfo& refusal,
                      const Update& update) noexcept;

// Setting the parameters of a copy in an executable graph was refused with INVALID_VALUE.
CUresult set_again(Runtime& rt, const CUDA_MEMCPY3D& copy,
                   const std::function<CUresult()>& set) noexcept;

}  // namespace flexlom::operands
