// A small training loop on the driver API: layers of weights, every step of which reads all of them
// (forward) and changes all of them (update). It knows nothing of flexlom.
//
//   layers LAYERS LAYER_MIB STEPS
//
// Prints one checksum a step, made of every word of every layer, and at the end
// "result HEX": a hash of the bytes of all layers as copied back to the processor.
#include "kernels/testing.h"
#include "tests/gpu/driver.h"

#include <cinttypes>
#include <vector>

namespace {

constexpr unsigned kBlocks = 512, kThreads = 256;

std::uint64_t number(const char* text, std::uint64_t most) {
  char* end = nullptr;
  std::uint64_t value = std::strtoull(text, &end, 10);
  if (end == text || *end != '\0' || value == 0 || value > most) {
    std::fprintf(stderr, "layers: '%s' is not a number from 1 to %" PRIu64 "\n", text, most);
    std::exit(2);
  }
  return value;
}

std::uint64_t hash(const std::vector<std::uint64_t>& words, std::uint64_t state) {
  for (std::uint64_t word : words) {
    state = (state ^ word) * 0x9E3779B97F4A7C15u;
    state ^= state >> 29;
  }
  return state;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) {
    std::fprintf(stderr, "usage: layers LAYERS LAYER_MIB STEPS\n");
    return 2;
  }
  const std::uint64_t layers = number(argv[1], 4096), steps = number(argv[3], 1000000);
  const std::uint64_t layer_bytes = number(argv[2], 65536) << 20;
  const std::uint64_t words = layer_bytes / sizeof(std::uint32_t);

  driver::Driver cuda = driver::Driver::load();
  cuda.use_first_device();
  CUmodule module = nullptr;
  cuda.check(cuda.cuModuleLoadData_(&module, flexlom_testing_fatbin), "cuModuleLoadData");
  CUfunction fill = cuda.kernel(module, "flex_fill"), add = cuda.kernel(module, "flex_add");
  CUfunction sum = cuda.kernel(module, "flex_sum");

  CUdeviceptr total = 0;
  cuda.check(cuda.cuMemAlloc_(&total, sizeof(std::uint64_t)), "cuMemAlloc");
  std::vector<CUdeviceptr> weights(layers);
  for (std::uint64_t i = 0; i < layers; ++i) {
    if (CUresult error = cuda.cuMemAlloc_(&weights[i], layer_bytes); error != CUDA_SUCCESS) {
      std::fprintf(stderr, "layer %" PRIu64 " of %" PRIu64 ": ", i + 1, layers);
      cuda.check(error, "cuMemAlloc");
    }
    cuda.launch(fill, kBlocks, kThreads, nullptr, weights[i], words, static_cast<std::uint32_t>(i));
  }
  for (std::uint64_t step = 1; step <= steps; ++step) {
    cuda.check(cuda.cuMemsetD8_(total, 0, sizeof(std::uint64_t)), "cuMemsetD8");
    for (std::uint64_t i = 0; i < layers; ++i)
      cuda.launch(sum, kBlocks, kThreads, nullptr, weights[i], words, total);
    for (std::uint64_t i = 0; i < layers; ++i)
      cuda.launch(add, kBlocks, kThreads, nullptr, weights[i], words,
                  static_cast<std::uint32_t>(step * 31 + i));
    std::uint64_t checksum = 0;
    cuda.check(cuda.cuMemcpyDtoH_(&checksum, total, sizeof checksum), "cuMemcpyDtoH");
    std::printf("step %" PRIu64 ": checksum %016" PRIx64 "\n", step, checksum);
  }
  std::vector<std::uint64_t> copy(layer_bytes / sizeof(std::uint64_t));
  std::uint64_t state = 0;
  for (CUdeviceptr layer : weights) {
    cuda.check(cuda.cuMemcpyDtoH_(copy.data(), layer, layer_bytes), "cuMemcpyDtoH");
    state = hash(copy, state);
    cuda.check(cuda.cuMemFree_(layer), "cuMemFree");
  }
  std::printf("result %016" PRIx64 "\n", state);
  return 0;
}
