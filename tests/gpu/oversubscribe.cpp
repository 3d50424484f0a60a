// Allocates more than the device has in blocks, keeps them all, and proves every word of them.
//
//   oversubscribe BYTES [BLOCK_BYTES]      (BLOCK_BYTES: 1 GiB)
//
// All blocks are filled with a pattern of their own before the first is checked, then changed by a
// second kernel and summed, so that a block that lost its memory or shares it cannot pass. Prints
// "RESULT digest=<sum of all words> peak_bytes=BYTES".
#include "kernels/testing.h"
#include "kernels/testing_host.h"
#include "tests/gpu/driver.h"

#include <cinttypes>
#include <vector>

namespace {

constexpr unsigned kBlocks = 1024, kThreads = 256;
constexpr std::uint32_t kAddend = 7;

std::size_t number(const char* text) {
  char* end = nullptr;
  std::size_t value = std::strtoull(text, &end, 10);
  if (end == text || *end != '\0' || value == 0) {
    std::fprintf(stderr, "oversubscribe: '%s' is not a number of bytes\n", text);
    std::exit(2);
  }
  return value;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2 && argc != 3) {
    std::fprintf(stderr, "usage: oversubscribe BYTES [BLOCK_BYTES]\n");
    return 2;
  }
  const std::size_t wanted = number(argv[1]);
  const std::size_t block_bytes = argc == 3 ? number(argv[2]) : std::size_t{1} << 30;
  const std::uint64_t words = block_bytes / sizeof(std::uint32_t);

  driver::Driver cuda = driver::Driver::load();
  cuda.use_first_device();
  CUmodule module = nullptr;
  cuda.check(cuda.cuModuleLoadData_(&module, flexlom_testing_fatbin), "cuModuleLoadData");
  CUfunction fill = cuda.kernel(module, "flex_fill"), check = cuda.kernel(module, "flex_check");
  CUfunction add = cuda.kernel(module, "flex_add"), sum = cuda.kernel(module, "flex_sum");
  CUdeviceptr counters = 0;  // [0] mismatches, [1] sum
  cuda.check(cuda.cuMemAlloc_(&counters, 16), "cuMemAlloc");
  cuda.check(cuda.cuMemsetD8_(counters, 0, 16), "cuMemsetD8");

  std::vector<CUdeviceptr> blocks;
  for (std::size_t total = 0; total < wanted; total += block_bytes) {
    CUdeviceptr block = 0;
    if (CUresult error = cuda.cuMemAlloc_(&block, block_bytes); error != CUDA_SUCCESS) {
      std::fprintf(stderr, "block %zu of %zu bytes, after %zu MiB: ", blocks.size(), block_bytes,
                   total >> 20);
      cuda.check(error, "cuMemAlloc");
    }
    blocks.push_back(block);
    cuda.launch(fill, kBlocks, kThreads, nullptr, block, words,
                static_cast<std::uint32_t>(blocks.size()));
  }
  for (std::size_t i = 0; i < blocks.size(); ++i) {
    cuda.launch(check, kBlocks, kThreads, nullptr, blocks[i], words,
                static_cast<std::uint32_t>(i + 1), counters);
    cuda.launch(add, kBlocks, kThreads, nullptr, blocks[i], words, kAddend);
  }
  for (CUdeviceptr block : blocks)
    cuda.launch(sum, kBlocks, kThreads, nullptr, block, words, counters + 8);
  std::uint64_t results[2] = {};
  cuda.check(cuda.cuMemcpyDtoH_(results, counters, sizeof results), "cuMemcpyDtoH");
  if (results[0] != 0) {
    std::fprintf(stderr, "FAILED: %" PRIu64 " words are wrong\n", results[0]);
    return 1;
  }
  // The sum is known for one word of the first block; checking it here would need the processor
  // to make every word, so that is left to the comparison of two runs.
  std::uint32_t first = 0;
  cuda.check(cuda.cuMemcpyDtoH_(&first, blocks.front(), sizeof first), "cuMemcpyDtoH");
  if (first != flexlom_testing_hash(1, 0) + kAddend) {
    std::fprintf(stderr, "FAILED: the first word is wrong\n");
    return 1;
  }
  for (CUdeviceptr block : blocks) cuda.check(cuda.cuMemFree_(block), "cuMemFree");
  std::printf("%zu blocks, every word right\n", blocks.size());
  std::printf("RESULT digest=%016" PRIx64 " peak_bytes=%zu\n", results[1],
              blocks.size() * block_bytes);
  return 0;
}
