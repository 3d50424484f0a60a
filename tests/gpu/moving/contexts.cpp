// Contexts that come and go: what is made in one for the moves ends with it, while pages move for
// the others.
#include <thread>

#include "tests/gpu/moving/moving.h"

namespace moving {

namespace {

constexpr unsigned kThreads = 3, kBlocks = 4, kRounds = 8, kSweeps = 3;

// A context with blocks of its own, which end with it.
uint64_t one_context(uint64_t bytes) {
  CUcontext context = nullptr;
  MUST(cuCtxCreate, &context, nullptr, 0, 0);
  Program program(bytes, 0, context);
  program.add_blocks(kBlocks, kBlocks);
  {
    const Stream stream;
    program.sweeps(stream, kSweeps);
    program.mix_blocks(stream);
  }
  MUST(cuCtxDestroy, context);
  return program.digest();
}

}  // namespace

void contexts(Program& program) {
  uint64_t results[kThreads] = {};
  std::vector<std::thread> threads;
  for (unsigned i = 0; i < kThreads; ++i)
    threads.emplace_back([&, i] {
      for (unsigned round = 0; round < kRounds; ++round)
        results[i] = results[i] * 31 + one_context(program.total_bytes / kThreads);
    });
  for (std::thread& thread : threads) thread.join();
  for (const uint64_t result : results) program.mix(result);
}

}  // namespace moving
