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
  program.mix_blocks(stream);
}

}  // namespace moving
