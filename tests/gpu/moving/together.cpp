// Much at once: blocks of a grid that wait for each other, threads with streams of their own,
// copies that block their thread.
#include <algorithm>
#include <atomic>
#include <thread>

#include "tests/gpu/moving/moving.h"

namespace moving {

// All blocks of the grid run at once and wait for each other at every step.
void cooperative(Program& program) {
  constexpr unsigned kBlocks = 16, kRounds = 4;
  constexpr uint32_t kSteps = 4;
  program.add_blocks(kBlocks, kBlocks);
  int processors = 0;
  MUST(cuDeviceGetAttribute, &processors, CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, program.device);
  const Stream streams[2];
  for (unsigned round = 0; round < kRounds; ++round) {
    for (size_t i = 0; i < kBlocks; i += 2) {
      CUdeviceptr a = program.blocks[i], b = program.blocks[i + 1];
      uint64_t words = program.words;
      uint32_t steps = kSteps + round % 2;
      void* list[] = {&a, &b, &words, &steps};
      MUST(cuLaunchCooperativeKernel, program.kernels.grid_steps, static_cast<unsigned>(processors),
           1, 1, 256, 1, 1, 0, streams[i / 2 % 2], list);
    }
    for (const Stream& stream : streams) stream.wait();
    program.mix(program.sweep(streams[0]));
  }
  program.mix_blocks(streams[0]);
}

namespace {

// One thread's share of the blocks and its way to the device: a stream of its own and the usual
// entries, or stream 0 of the per-thread entries.
class Share {
 public:
  Share(const Program& program, unsigned index, unsigned count, bool per_thread)
      : program_(program), per_thread_(per_thread) {
    for (size_t i = index; i < program.blocks.size(); i += count)
      blocks_.push_back(program.blocks[i]);
  }

  uint64_t run(unsigned rounds) const {
    MUST(cuCtxSetCurrent, program_.context);
    return per_thread_ ? run_on(nullptr, rounds) : run_on(Stream(), rounds);
  }

 private:
  template <class... A>
  void launch_on(CUstream stream, CUfunction function, A... arguments) const {
    static const auto own_stream = twin(&::cuLaunchKernel, "cuLaunchKernel_ptsz");
    void* list[] = {static_cast<void*>(&arguments)..., nullptr};
    must((per_thread_ ? own_stream : CU(cuLaunchKernel))(function, 264, 1, 1, 256, 1, 1, 0, stream,
                                                         list, nullptr),
         "cuLaunchKernel");
  }

  void wait(CUstream stream) const {
    static const auto own_stream = twin(&::cuStreamSynchronize, "cuStreamSynchronize_ptsz");
    must((per_thread_ ? own_stream : CU(cuStreamSynchronize))(stream), "cuStreamSynchronize");
  }

  // `blocking`: the copy itself waits for the work before it.
  uint64_t read(CUdeviceptr counter, CUstream stream, bool blocking) const {
    static const auto copy = twin(&::cuMemcpyDtoH, "cuMemcpyDtoH_v2_ptds");
    if (!per_thread_) return program_.value(counter, stream);
    if (!blocking) wait(stream);
    uint64_t result = 0;
    must(copy(&result, counter, sizeof result), "cuMemcpyDtoH_v2_ptds");
    return result;
  }

  void duplicate(CUdeviceptr to, CUdeviceptr from, CUstream stream) const {
    static const auto own_stream = twin(&::cuMemcpyDtoDAsync, "cuMemcpyDtoDAsync_v2_ptsz");
    must((per_thread_ ? own_stream : CU(cuMemcpyDtoDAsync))(to, from, program_.block_bytes / 2,
                                                            stream),
         "cuMemcpyDtoDAsync");
  }

  uint64_t run_on(CUstream stream, unsigned rounds) const {
    uint64_t result = 0;
    for (uint32_t round = 1; round <= rounds; ++round) {
      for (const CUdeviceptr block : blocks_) {
        const CUdeviceptr total = program_.counter();
        launch_on(stream, program_.kernels.add, block, program_.words, round);
        launch_on(stream, program_.kernels.reread, block, program_.words, Program::kPasses, total);
        result = result * 31 + read(total, stream, round % 4 == 0);
      }
      duplicate(blocks_.front(), blocks_.back(), stream);
    }
    wait(stream);
    return result;
  }

  const Program& program_;
  const bool per_thread_;
  std::vector<CUdeviceptr> blocks_;
};

}  // namespace

void many_streams(Program& program) {
  constexpr unsigned kThreads = 8, kBlocks = 32, kRounds = 8;
  // A block must be of two granules of 2 MiB at least, or it would never move.
  const unsigned parts = program.total_bytes / kBlocks < (4u << 20) ? kBlocks / 2 : kBlocks;
  program.add_blocks(parts, parts);
  uint64_t results[kThreads] = {};
  std::vector<std::thread> threads;
  for (unsigned i = 0; i < kThreads; ++i)
    threads.emplace_back(
        [&, i] { results[i] = Share(program, i, kThreads, i % 2 != 0).run(kRounds); });
  for (std::thread& thread : threads) thread.join();
  for (const uint64_t result : results) program.mix(result);
  program.mix_blocks(nullptr);
}

// Copies between the device and pageable memory behind kernels that take their time: their threads
// are inside the driver all the while, when others would have pages moved.
void blocking_copies(Program& program) {
  constexpr unsigned kBlocks = 16, kRounds = 12;
  constexpr uint64_t kBusy_ns = 20'000'000;
  program.add_blocks(kBlocks, kBlocks);
  const Stream stream;
  // The first two are the copying threads' own.
  const uint64_t expected = program.sweep(stream, 2);
  program.mix(expected);

  std::atomic<unsigned> copying{2};
  uint64_t out_sum = 0;
  std::thread out([&] {
    MUST(cuCtxSetCurrent, program.context);
    std::vector<uint32_t> host(program.words);
    for (uint32_t round = 1; round <= kRounds; ++round) {
      launch_shaped({1, 1}, program.kernels.spin_ns, nullptr, kBusy_ns);
      launch(program.kernels.add, nullptr, program.blocks[0], program.words, round);
      MUST(cuMemcpyDtoH, host.data(), program.blocks[0], program.block_bytes);
      for (const uint32_t word : host) out_sum = out_sum * 31 + word;
    }
    --copying;
  });
  std::thread in([&] {
    MUST(cuCtxSetCurrent, program.context);
    std::vector<uint32_t> host(program.words);
    for (uint32_t round = 1; round <= kRounds; ++round) {
      for (size_t i = 0; i < host.size(); ++i) host[i] = static_cast<uint32_t>(i) * round;
      launch_shaped({1, 1}, program.kernels.spin_ns, nullptr, kBusy_ns);
      MUST(cuMemcpyHtoD, program.blocks[1], host.data(), program.block_bytes);
      // May be changed as soon as the call is over.
      std::fill(host.begin(), host.end(), ~0u);
    }
    --copying;
  });
  while (copying.load() > 0) {
    if (program.sweep(stream, 2) != expected) wrong("memory that nobody changes has changed");
  }
  out.join();
  in.join();
  // A copy to the device may still be under way when the call is over.
  MUST(cuStreamSynchronize, nullptr);
  program.mix(out_sum);
  program.sweeps(stream, 2);
  program.mix_blocks(stream);
}

}  // namespace moving
