// Two devices: pages of the first move while kernels of the second read and write them.
#include <thread>

#include "tests/gpu/moving/moving.h"

namespace moving {

void peers(Program& program) {
  constexpr unsigned kBlocks = 16, kRounds = 10;
  int count = 0, reaches = 0;
  MUST(cuDeviceGetCount, &count);
  if (count > 1) MUST(cuDeviceCanAccessPeer, &reaches, 1, 0);
  if (reaches == 0) {
    std::fprintf(stderr, "skipped: no second device that reaches the first\n");
    std::exit(77);
  }
  program.add_blocks(kBlocks, kBlocks / 2);
  const Program second(program.total_bytes, 1);
  MUST(cuCtxEnablePeerAccess, program.context, 0);
  MUST(cuCtxSetCurrent, program.context);
  program.add_blocks(kBlocks, kBlocks / 2);  // from before and from after the access

  // Even blocks are the first device's, odd ones the second's, at the same time.
  uint64_t of_second = 0;
  std::thread other([&] {
    MUST(cuCtxSetCurrent, second.context);
    const Stream stream;
    for (uint32_t round = 1; round <= kRounds; ++round) {
      const CUdeviceptr total = second.counter();
      for (size_t i = 1; i < program.blocks.size(); i += 2) {
        launch(second.kernels.add, stream, program.blocks[i], program.words, round);
        launch(second.kernels.reread, stream, program.blocks[i], program.words, Program::kPasses,
               total);
      }
      of_second = of_second * 31 + second.value(total, stream);
    }
  });
  {
    const Stream stream;
    for (unsigned round = 0; round < kRounds; ++round) program.mix(program.sweep(stream, 0, 2));
    other.join();
    program.mix(of_second);
    program.sweeps(stream, 2);
  }
  program.mix_blocks(nullptr);
}

}  // namespace moving
