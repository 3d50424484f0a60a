// The CUDA runtime linked statically and cuBLAS dynamically, as many C++ programs ship: an input
// goes forward through 40 layers of 64 MiB of weights each, every layer one GEMM, twice.
//
// Prints "RESULT digest=<64-bit FNV-1a of the outputs> peak_bytes=<bytes asked for>".
#include <cublas_v2.h>
#include <cuda_runtime_api.h>

#include <cinttypes>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <vector>

namespace {

constexpr int kWidth = 4096, kRows = 512, kLayers = 40, kPasses = 2;
constexpr std::size_t kWeightBytes = std::size_t{kWidth} * kWidth * sizeof(float);
constexpr std::size_t kInputBytes = std::size_t{kWidth} * kRows * sizeof(float);

void check(cudaError_t result, const char* what) {
  if (result == cudaSuccess) return;
  std::fprintf(stderr, "%s: %s: %s\n", what, cudaGetErrorName(result), cudaGetErrorString(result));
  std::exit(1);
}

void check(cublasStatus_t result, const char* what) {
  if (result == CUBLAS_STATUS_SUCCESS) return;
  std::fprintf(stderr, "%s: %s\n", what, cublasGetStatusString(result));
  std::exit(1);
}

// Values in [-1, 1) / sqrt(width), so that forty layers neither grow nor vanish much.
std::vector<float> random_values(std::size_t count) {
  std::vector<float> values(count);
  std::uint64_t state = 0x9E3779B97F4A7C15u;
  const float scale = 1.7f / std::sqrt(static_cast<float>(kWidth));
  for (float& value : values) {
    state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    value = scale * (static_cast<float>(state >> 40) / 8388608.0f - 1.0f);
  }
  return values;
}

std::uint64_t fnv1a(const void* data, std::size_t bytes, std::uint64_t hash) {
  for (std::size_t i = 0; i < bytes; ++i)
    hash = (hash ^ static_cast<const unsigned char*>(data)[i]) * 0x100000001b3u;
  return hash;
}

}  // namespace

int main() {
  // One buffer serves all layers: each starts at another offset, so that all differ.
  const std::size_t values_per_layer = kWeightBytes / sizeof(float);
  const std::vector<float> source = random_values(values_per_layer + kLayers * 1021);
  std::vector<float*> weights(kLayers);
  for (int i = 0; i < kLayers; ++i) {
    check(cudaMalloc(reinterpret_cast<void**>(&weights[i]), kWeightBytes), "cudaMalloc");
    check(cudaMemcpy(weights[i], source.data() + i * 1021, kWeightBytes, cudaMemcpyHostToDevice),
          "cudaMemcpy");
  }
  float* activations[2];
  for (float*& buffer : activations)
    check(cudaMalloc(reinterpret_cast<void**>(&buffer), kInputBytes), "cudaMalloc");

  cublasHandle_t handle = nullptr;
  check(cublasCreate(&handle), "cublasCreate");
  std::uint64_t digest = 0xcbf29ce484222325u;
  std::vector<float> output(kInputBytes / sizeof(float));
  for (int pass = 0; pass < kPasses; ++pass) {
    check(cudaMemcpy(activations[0], source.data() + pass * 4099, kInputBytes,
                     cudaMemcpyHostToDevice),
          "cudaMemcpy");
    const float one = 1.0f, zero = 0.0f;
    for (int i = 0; i < kLayers; ++i)
      check(
          cublasSgemm(handle, CUBLAS_OP_N, CUBLAS_OP_N, kWidth, kRows, kWidth, &one, weights[i],
                      kWidth, activations[i % 2], kWidth, &zero, activations[(i + 1) % 2], kWidth),
          "cublasSgemm");
    check(cudaMemcpy(output.data(), activations[kLayers % 2], kInputBytes, cudaMemcpyDeviceToHost),
          "cudaMemcpy");
    for (float value : output)
      if (!std::isfinite(value)) return std::fprintf(stderr, "FAILED: not finite\n"), 1;
    digest = fnv1a(output.data(), kInputBytes, digest);
  }
  check(cublasDestroy(handle), "cublasDestroy");
  for (float* w : weights) check(cudaFree(w), "cudaFree");
  for (float* buffer : activations) check(cudaFree(buffer), "cudaFree");
  std::printf("first output %.6g\n", static_cast<double>(output[0]));
  std::printf("RESULT digest=%016" PRIx64 " peak_bytes=%zu\n", digest,
              kLayers * kWeightBytes + 2 * kInputBytes);
  return 0;
}
