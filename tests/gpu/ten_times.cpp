// Keeps far more memory than fits on the device, and does everything at random with it: takes and
// gives back blocks, fills, copies, reads them again and again, and checks them, on two streams.
//
//   ten_times BYTES SECONDS [SEED]
//
// Each block holds the pattern of a seed (flex_fill); a copy takes over the pattern of its source.
// All blocks are checked as a whole at random times and once more at the end. Prints
// "RESULT steps=N checks=N blocks=N peak_bytes=BYTES"; ends at the first wrong word.
#include "kernels/testing.h"
#include "tests/gpu/driver.h"

#include <algorithm>
#include <chrono>
#include <cinttypes>
#include <random>
#include <vector>

namespace {

constexpr unsigned kBlocks = 512, kThreads = 256;
constexpr std::uint64_t kMiB = std::uint64_t{1} << 20;

struct Block {
  CUdeviceptr address = 0;
  std::uint64_t words = 0;
  std::uint32_t seed = 0;
};

std::uint64_t number(const char* text, const char* what) {
  char* end = nullptr;
  const std::uint64_t value = std::strtoull(text, &end, 10);
  if (end != text && *end == '\0' && value > 0) return value;
  std::fprintf(stderr, "ten_times: '%s' is not a number of %s\n", text, what);
  std::exit(2);
}

class Work {
 public:
  Work(std::uint64_t bytes, std::uint32_t seed) : random_(seed), wanted_(bytes) {
    cuda_.use_first_device();
    CUmodule module = nullptr;
    cuda_.check(cuda_.cuModuleLoadData_(&module, flexlom_testing_fatbin), "cuModuleLoadData");
    fill_ = cuda_.kernel(module, "flex_fill");
    check_ = cuda_.kernel(module, "flex_check");
    copy_ = cuda_.kernel(module, "flex_copy");
    reread_ = cuda_.kernel(module, "flex_reread");
    for (CUstream& stream : streams_)
      cuda_.check(cuda_.cuStreamCreate_(&stream, CU_STREAM_NON_BLOCKING), "cuStreamCreate");
    cuda_.check(cuda_.cuMemAlloc_(&counters_, 16), "cuMemAlloc");  // mismatches, a sum
    cuda_.check(cuda_.cuMemsetD8_(counters_, 0, 16), "cuMemsetD8");
    // The streams do not wait for the default one.
    cuda_.check(cuda_.cuCtxSynchronize_(), "cuCtxSynchronize");
  }

  void grow() {
    while (held_ < wanted_) take();
  }

  void step() {
    ++steps_;
    const unsigned choice = below(100);
    Block& block = blocks_[below(blocks_.size())];
    CUstream stream = streams_[below(2)];
    if (choice < 5) {
      give_back(below(blocks_.size()));
      grow();
    } else if (choice < 15) {
      fill(block, stream);
    } else if (choice < 30) {
      copy(block, stream);
    } else if (choice < 90) {
      // A few blocks are used much more than the others, as in any program.
      check(choice < 70 ? blocks_[below(std::min<std::size_t>(blocks_.size(), 8))] : block, stream);
    } else {
      settle();
      cuda_.launch(reread_, kBlocks, kThreads, stream, block.address, block.words, std::uint32_t{4},
                   counters_ + 8);
    }
    if (below(16) == 0) settle();
    if (steps_ % 256 == 0) prove();
  }

  void finish() {
    for (Block& block : blocks_) check(block, streams_[0]);
    prove();
    std::printf("RESULT steps=%" PRIu64 " checks=%" PRIu64 " blocks=%zu peak_bytes=%" PRIu64 "\n",
                steps_, checks_, blocks_.size(), peak_);
    while (!blocks_.empty()) give_back(blocks_.size() - 1);
  }

 private:
  std::uint64_t below(std::uint64_t count) { return random_() % count; }

  // Sizes from 1 to 129 MiB, small ones as often as large ones, hardly ever a multiple of a page.
  void take() {
    Block block;
    std::uint64_t sizes = 1;
    while (sizes < 8 && kMiB << sizes <= wanted_ / 32) ++sizes;
    const std::uint64_t bytes = (kMiB << below(sizes)) + below(kMiB);
    block.words = bytes / 4;
    cuda_.check(cuda_.cuMemAlloc_(&block.address, block.words * 4), "cuMemAlloc");
    held_ += block.words * 4;
    peak_ = std::max(peak_, held_);
    blocks_.push_back(block);
    fill(blocks_.back(), streams_[0]);
    settle();
  }

  void give_back(std::size_t index) {
    // The other stream may still use it: that is the program's to wait for.
    settle();
    cuda_.check(cuda_.cuMemFree_(blocks_[index].address), "cuMemFree");
    held_ -= blocks_[index].words * 4;
    blocks_[index] = blocks_.back();
    blocks_.pop_back();
  }

  void fill(Block& block, CUstream stream) {
    settle();
    block.seed = static_cast<std::uint32_t>(random_());
    cuda_.launch(fill_, kBlocks, kThreads, stream, block.address, block.words, block.seed);
    last_ = stream;
  }

  void copy(Block& to, CUstream stream) {
    const Block& from = blocks_[below(blocks_.size())];
    if (from.address == to.address || from.words < to.words) return;
    settle();
    cuda_.launch(copy_, kBlocks, kThreads, stream, to.address, from.address, to.words);
    to.seed = from.seed;
    last_ = stream;
  }

  // Checks may run beside each other on both streams, but not beside a writer.
  void check(const Block& block, CUstream stream) {
    if (last_ != nullptr && last_ != stream) settle();
    cuda_.launch(check_, kBlocks, kThreads, stream, block.address, block.words, block.seed,
                 counters_);
    ++checks_;
  }

  void settle() {
    for (CUstream stream : streams_)
      cuda_.check(cuda_.cuStreamSynchronize_(stream), "cuStreamSynchronize");
    last_ = nullptr;
  }

  void prove() {
    settle();
    std::uint64_t mismatches = 0;
    cuda_.check(cuda_.cuMemcpyDtoH_(&mismatches, counters_, sizeof mismatches), "cuMemcpyDtoH");
    if (mismatches == 0) return;
    std::fprintf(stderr, "FAILED: %" PRIu64 " words are wrong after %" PRIu64 " steps\n",
                 mismatches, steps_);
    std::exit(1);
  }

  driver::Driver cuda_ = driver::Driver::load();
  std::mt19937_64 random_;
  const std::uint64_t wanted_;
  CUfunction fill_ = nullptr, check_ = nullptr, copy_ = nullptr, reread_ = nullptr;
  CUstream streams_[2] = {};
  CUstream last_ = nullptr;  // the stream whose last work writes, while it may still run
  CUdeviceptr counters_ = 0;
  std::vector<Block> blocks_;
  std::uint64_t held_ = 0, peak_ = 0, steps_ = 0, checks_ = 0;
};

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3 && argc != 4) {
    std::fprintf(stderr, "usage: ten_times BYTES SECONDS [SEED]\n");
    return 2;
  }
  const std::uint64_t bytes = number(argv[1], "bytes"), seconds = number(argv[2], "seconds");
  const auto seed = static_cast<std::uint32_t>(argc == 4 ? number(argv[3], "a seed") : 1);
  Work work(bytes, seed);
  work.grow();
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(seconds);
  do {
    work.step();
  } while (std::chrono::steady_clock::now() < end);
  work.finish();
  return 0;
}
