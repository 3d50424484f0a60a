// Graphs: what they touch is fixed when they are made, and used long after.
#include "tests/gpu/moving/moving.h"

namespace moving {

namespace {

constexpr unsigned kBlocks = 16, kInGraph = kBlocks / 2, kRounds = 6;

class Graph {
 public:
  Graph() = default;
  ~Graph() {
    if (graph_ != nullptr) MUST(cuGraphDestroy, graph_);
  }
  Graph(const Graph&) = delete;
  Graph& operator=(const Graph&) = delete;
  CUgraph* out() { return &graph_; }
  operator CUgraph() const { return graph_; }

 private:
  CUgraph graph_ = nullptr;
};

// For each of kInGraph blocks: changed on one stream, reread on a second one, a slice of it copied
// to its neighbour.
void capture(const Program& program, size_t first, uint32_t addend, CUdeviceptr total,
             CUgraph* graph) {
  const Stream main, side;
  CUevent fork = nullptr, join = nullptr;
  MUST(cuEventCreate, &fork, CU_EVENT_DISABLE_TIMING);
  MUST(cuEventCreate, &join, CU_EVENT_DISABLE_TIMING);
  MUST(cuStreamBeginCapture, main, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL);
  const CUdeviceptr* blocks = program.blocks.data() + first;
  for (size_t i = 0; i < kInGraph; ++i)
    launch(program.kernels.add, main, blocks[i], program.words, addend);
  for (size_t i = 0; i < kInGraph; ++i)
    MUST(cuMemcpyDtoDAsync, blocks[(i + 1) % kInGraph], blocks[i] + program.block_bytes / 2,
         program.block_bytes / 4, main);
  MUST(cuMemsetD32Async, blocks[0], addend, 1024, main);
  MUST(cuEventRecord, fork, main);
  MUST(cuStreamWaitEvent, side, fork, 0);
  for (size_t i = 0; i < kInGraph; ++i) program.reread(blocks[i], i % 2 == 0 ? main : side, total);
  MUST(cuEventRecord, join, side);
  MUST(cuStreamWaitEvent, main, join, 0);
  MUST(cuStreamEndCapture, main, graph);
  MUST(cuEventDestroy, fork);
  MUST(cuEventDestroy, join);
}

// The first launch gets another addend and another block, in `exec` only.
void change_first_add(const Program& program, CUgraph graph, CUgraphExec exec, CUdeviceptr block) {
  CUgraphNode node = nullptr;
  size_t count = 1;
  MUST(cuGraphGetRootNodes, graph, &node, &count);
  if (count != 1) wrong("the graph has not one beginning");
  CUDA_KERNEL_NODE_PARAMS params{};
  MUST(cuGraphKernelNodeGetParams, node, &params);
  uint64_t words = program.words;
  uint32_t addend = 1000;
  void* list[] = {&block, &words, &addend};
  params.kernelParams = list;
  params.extra = nullptr;
  MUST(cuGraphExecKernelNodeSetParams, exec, node, &params);
}

// Every second copy of the executable graph reads another slice and writes to another block.
void change_copies(CUgraph graph, CUgraphExec exec, CUcontext context, CUdeviceptr block) {
  size_t count = 0, copies = 0;
  MUST(cuGraphGetNodes, graph, nullptr, &count);
  std::vector<CUgraphNode> nodes(count);
  MUST(cuGraphGetNodes, graph, nodes.data(), &count);
  for (const CUgraphNode node : nodes) {
    CUgraphNodeType type{};
    MUST(cuGraphNodeGetType, node, &type);
    if (type != CU_GRAPH_NODE_TYPE_MEMCPY || copies++ % 2 != 0) continue;
    CUDA_MEMCPY3D params{};
    MUST(cuGraphMemcpyNodeGetParams, node, &params);
    params.srcDevice += 4096;
    params.dstDevice = block + copies * 4096;
    params.WidthInBytes = 4096;
    MUST(cuGraphExecMemcpyNodeSetParams, exec, node, &params, context);
  }
  if (copies != kInGraph) wrong("the graph has not one copy for each block");
}

void replay(Program& program, CUgraphExec exec, CUstream stream, CUdeviceptr total) {
  for (int i = 0; i < 2; ++i) MUST(cuGraphLaunch, exec, stream);
  program.mix(program.value(total, stream));
}

// The other way round: made when memory lies where it lies, changed to what was there first.
void late_graphs(Program& program, CUgraph early, CUgraph late, CUdeviceptr total,
                 CUstream stream) {
  CUgraphExec exec = nullptr;
  MUST(cuGraphInstantiate, &exec, late, 0);
  replay(program, exec, stream, total);
  CUgraphExecUpdateResultInfo info{};
  MUST(cuGraphExecUpdate, exec, early, &info);
  replay(program, exec, stream, total);
  change_copies(late, exec, program.context, program.blocks[kBlocks - 1]);
  replay(program, exec, stream, total);
  // By the name that programs built before CUDA 12 mean.
  using Old = CUresult (*)(CUgraphExec, CUgraph, CUgraphNode*, CUgraphExecUpdateResult*);
  CUgraphNode error = nullptr;
  CUgraphExecUpdateResult result = CU_GRAPH_EXEC_UPDATE_ERROR;
  must(reinterpret_cast<Old>(entry("cuGraphExecUpdate"))(exec, late, &error, &result),
       "cuGraphExecUpdate of CUDA 11");
  program.mix(result);
  replay(program, exec, stream, total);
  MUST(cuGraphExecDestroy, exec);

  // As a child of another graph. Whether a driver takes such a change is its own affair.
  Graph outer;
  CUgraphNode child = nullptr;
  MUST(cuGraphCreate, outer.out(), 0);
  MUST(cuGraphAddChildGraphNode, &child, outer, nullptr, 0, early);
  MUST(cuGraphInstantiate, &exec, outer, 0);
  replay(program, exec, stream, total);
  program.mix(static_cast<uint64_t>(CU(cuGraphExecChildGraphNodeSetParams)(exec, child, late)));
  replay(program, exec, stream, total);
  MUST(cuGraphExecDestroy, exec);
}

}  // namespace

// Captured and instantiated while its half of the memory is all there is; replayed when there is
// twice as much, beside other work that moves pages; then made to touch the other half.
void graphs(Program& program) {
  program.add_blocks(kBlocks, kInGraph);
  const Stream stream, beside;
  const CUdeviceptr total = program.counter();
  Graph graph;
  capture(program, 0, 3, total, graph.out());
  CUgraphExec exec = nullptr;
  MUST(cuGraphInstantiate, &exec, graph, 0);
  program.add_blocks(kBlocks, kBlocks - kInGraph);

  Graph other;
  capture(program, kInGraph, 5, total, other.out());
  size_t beside_first = kInGraph;  // the blocks that the graph does not change
  for (unsigned round = 0; round < kRounds; ++round) {
    if (round == 2) change_first_add(program, graph, exec, program.blocks[kInGraph - 1]);
    if (round == 3) {
      CUgraphExecUpdateResultInfo info{};
      MUST(cuGraphExecUpdate, exec, other, &info);
      beside_first = 0;
    }
    for (int replay = 0; replay < 2; ++replay) {
      MUST(cuGraphLaunch, exec, stream);
      const CUdeviceptr seen = program.counter();
      for (size_t i = beside_first; i < beside_first + kInGraph; ++i)
        program.reread(program.blocks[i], beside, seen);
      program.mix(program.value(seen, beside));
    }
    program.mix(program.value(total, stream));
    if (round % 2 == 1) program.mix(program.sweep(stream));
  }
  MUST(cuGraphExecDestroy, exec);
  late_graphs(program, graph, other, total, stream);
  program.mix_blocks(stream);
}

}  // namespace moving
