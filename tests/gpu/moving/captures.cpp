// A capture that stays open for a while: no page may move until it has ended, and what is done
// meanwhile must not break it.
#include <atomic>
#include <chrono>
#include <thread>

#include "tests/gpu/moving/moving.h"

namespace moving {

namespace {

constexpr unsigned kBlocks = 16, kLate = 2;

void wait_for(const std::atomic<bool>& flag) {
  while (!flag.load()) std::this_thread::sleep_for(std::chrono::microseconds(200));
}

// What another thread does meanwhile: more memory than there is, and work on it and on every other
// block. In the global mode a thread must say that it knows what it does.
uint64_t meanwhile(Program& program, CUstreamCaptureMode mode, CUdeviceptr (&late)[kLate]) {
  CUstreamCaptureMode own_mode = CU_STREAM_CAPTURE_MODE_RELAXED;
  if (mode == CU_STREAM_CAPTURE_MODE_GLOBAL) MUST(cuThreadExchangeStreamCaptureMode, &own_mode);
  const Stream stream;
  uint64_t result = 0;
  for (unsigned i = 0; i < kLate; ++i) {
    MUST(cuMemAlloc, &late[i], program.block_bytes);
    launch(program.kernels.fill, stream, late[i], program.words, 1000 + i);
    const CUdeviceptr total = program.counter();
    program.reread(late[i], stream, total);
    result = result * 31 + program.value(total, stream);
    result = result * 31 + program.sweep(stream, 1, 2);
  }
  return result;
}

void capture_beside(Program& program, CUstreamCaptureMode mode) {
  const Stream stream;
  const CUdeviceptr total = program.counter();
  std::atomic<bool> open{false}, done{false};
  CUdeviceptr late[kLate] = {};
  uint64_t beside = 0;
  std::thread other([&] {
    MUST(cuCtxSetCurrent, program.context);
    wait_for(open);
    beside = meanwhile(program, mode, late);
    done = true;
  });

  MUST(cuStreamBeginCapture, stream, mode);
  for (size_t i = 0; i < kBlocks; i += 2)
    launch(program.kernels.add, stream, program.blocks[i], program.words, 7u);
  open = true;
  wait_for(done);
  for (size_t i = 0; i < kBlocks; i += 2) program.reread(program.blocks[i], stream, total);
  CUgraph graph = nullptr;
  MUST(cuStreamEndCapture, stream, &graph);
  other.join();
  if (graph == nullptr) wrong("the capture was broken");
  size_t nodes = 0;
  MUST(cuGraphGetNodes, graph, nullptr, &nodes);
  program.mix(nodes);
  program.mix(beside);

  CUgraphExec exec = nullptr;
  MUST(cuGraphInstantiate, &exec, graph, 0);
  for (int replay = 0; replay < 2; ++replay) {
    MUST(cuGraphLaunch, exec, stream);
    program.mix(program.sweep(stream, 1, 2));
    program.mix(program.value(total, stream));
  }
  MUST(cuGraphExecDestroy, exec);
  MUST(cuGraphDestroy, graph);
  for (const CUdeviceptr block : late) MUST(cuMemFree, block);
}

}  // namespace

void capture_open(Program& program) {
  program.add_blocks(kBlocks, kBlocks);
  const Stream stream;
  program.sweeps(stream, 3);
  for (const CUstreamCaptureMode mode :
       {CU_STREAM_CAPTURE_MODE_GLOBAL, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL,
        CU_STREAM_CAPTURE_MODE_RELAXED}) {
    capture_beside(program, mode);
    program.sweeps(stream, 1);
  }
  program.mix_blocks(stream);
}

}  // namespace moving
