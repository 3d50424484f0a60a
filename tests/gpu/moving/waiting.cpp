// Work that does not end by itself: it waits for the host, for another thread, for other work. No
// move may wait for it, and nothing may be held up that it waits for.
#include <condition_variable>
#include <thread>

#include "tests/gpu/moving/moving.h"

namespace moving {

namespace {

constexpr unsigned kBlocks = 16;
constexpr uint32_t kRounds = 3;

// Changes and rereads every `step`-th block from `first` on.
void work(const Program& program, CUstream stream, size_t first, size_t step, uint32_t addend,
          CUdeviceptr total) {
  for (size_t i = first; i < program.blocks.size(); i += step) {
    launch(program.kernels.add, stream, program.blocks[i], program.words, addend);
    program.reread(program.blocks[i], stream, total);
  }
}

}  // namespace

// A kernel that spins on a word of the host and changes its block each time the host allows it to,
// while other streams work and memory is asked for.
void persistent(Program& program) {
  program.add_blocks(kBlocks, kBlocks - 1);
  const Stream server, stream, other;
  program.sweeps(stream, 3);
  Flag flag, last;
  launch_shaped({64, 128}, program.kernels.serve, server, program.blocks[0], program.words,
                flag.address(), kRounds);
  launch_shaped({1, 1}, program.kernels.spin_until, server, last.address(), 1u);
  for (uint32_t round = 1; round <= kRounds; ++round) {
    const CUdeviceptr first = program.counter(), second = program.counter();
    work(program, stream, 1, 2, round, first);
    work(program, other, 2, 2, round, second);
    program.mix(program.value(first, stream));
    program.mix(program.value(second, other));
    if (round == 2) {
      CUdeviceptr late = 0;
      MUST(cuMemAlloc, &late, program.block_bytes);
      launch(program.kernels.fill, stream, late, program.words, 77u);
      program.blocks.push_back(late);
    }
    flag.set(round);
  }
  if (CU(cuStreamQuery)(server) != CUDA_ERROR_NOT_READY) wrong("the kernel did not wait");
  last.set(1);
  server.wait();
  program.sweeps(stream, 2);
  program.mix_blocks(stream);
}

// A stream that waits for a value which another thread writes, itself or by a stream of its own,
// after it has submitted more work.
void wait_value(Program& program) {
  program.add_blocks(kBlocks, kBlocks);
  const Stream waiting, stream, own;
  program.sweeps(stream, 3);
  Flag flag;
  const CUdeviceptr word = program.counter();
  for (uint32_t round = 1; round <= kRounds; ++round) {
    const bool by_stream = round % 2 == 0;
    const CUdeviceptr behind = program.counter(), beside = program.counter();
    MUST(cuStreamWaitValue32, waiting, by_stream ? word : flag.address(), round,
         CU_STREAM_WAIT_VALUE_GEQ);
    work(program, waiting, 0, 4, round, behind);
    uint64_t beside_sum = 0;
    std::thread writer([&] {
      MUST(cuCtxSetCurrent, program.context);
      work(program, own, 1, 4, round, beside);
      if (by_stream) MUST(cuStreamWriteValue32, own, word, round, 0);
      beside_sum = program.value(beside, own);
      if (!by_stream) flag.set(round);
    });
    program.mix(program.sweep(stream, 2, 4));
    writer.join();
    program.mix(beside_sum);
    program.mix(program.value(behind, waiting));
  }
  program.sweeps(stream, 2);
  program.mix_blocks(stream);
}

namespace {

// A function on a stream that waits until another thread has submitted its work.
struct Meeting {
  std::mutex mutex;  // guards the two
  std::condition_variable changed;
  bool entered = false, submitted = false;

  void set(bool Meeting::*what) {
    const std::lock_guard lock(mutex);
    this->*what = true;
    changed.notify_all();
  }
  void wait(bool Meeting::*what) {
    std::unique_lock lock(mutex);
    changed.wait(lock, [&] { return this->*what; });
  }
};

void CUDA_CB meet(void* data) {
  auto* const meeting = static_cast<Meeting*>(data);
  meeting->set(&Meeting::entered);
  meeting->wait(&Meeting::submitted);
}

}  // namespace

void host_func(Program& program) {
  program.add_blocks(kBlocks, kBlocks);
  const Stream waiting, stream;
  program.sweeps(stream, 3);
  for (uint32_t round = 1; round <= kRounds; ++round) {
    Meeting meeting;
    const CUdeviceptr behind = program.counter(), beside = program.counter();
    MUST(cuLaunchHostFunc, waiting, meet, &meeting);
    work(program, waiting, 0, 2, round, behind);
    std::thread other([&] {
      MUST(cuCtxSetCurrent, program.context);
      meeting.wait(&Meeting::entered);
      work(program, stream, 1, 2, round, beside);
      meeting.set(&Meeting::submitted);
    });
    program.mix(program.value(behind, waiting));
    other.join();
    program.mix(program.value(beside, stream));
  }
  program.sweeps(stream, 2);
  program.mix_blocks(stream);
}

}  // namespace moving
