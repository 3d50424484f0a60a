// cuBLAS with arrays of pointers in device memory: 640 matrices of 4 MiB are found by the kernels
// through tables, 16 at a time. Every second pass multiplies one by one instead, with the matrices
// as parameters, so that their memory is seen to be used, and changes places, between batches.
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

constexpr int kWidth = 1024, kBatch = 16, kLayers = 40, kPasses = 4;
constexpr std::size_t kValues = std::size_t{kWidth} * kWidth;
constexpr std::size_t kBytes = kValues * sizeof(float);

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

// Values that let forty layers neither grow nor vanish much.
std::vector<float> random_values(std::size_t count) {
  std::vector<float> values(count);
  std::uint64_t state = 0x9E3779B97F4A7C15u;
  const float scale = std::sqrt(3.0f / static_cast<float>(kWidth));
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

float* allocate() {
  void* memory = nullptr;
  check(cudaMalloc(&memory, kBytes), "cudaMalloc");
  return static_cast<float*>(memory);
}

// kBatch matrices, and their addresses in device memory.
struct Row {
  std::vector<float*> matrices;
  float** table = nullptr;

  void allocate_all() {
    for (int i = 0; i < kBatch; ++i) matrices.push_back(allocate());
    const std::size_t bytes = kBatch * sizeof(float*);
    check(cudaMalloc(reinterpret_cast<void**>(&table), bytes), "cudaMalloc");
    check(cudaMemcpy(table, matrices.data(), bytes, cudaMemcpyHostToDevice), "cudaMemcpy");
  }
  void free_all() const {
    for (float* matrix : matrices) check(cudaFree(matrix), "cudaFree");
    check(cudaFree(table), "cudaFree");
  }
};

}  // namespace

int main() {
  // One buffer serves all matrices: each starts at another offset, so that all differ.
  const std::vector<float> source = random_values(kValues + kLayers * kBatch * 1021);
  std::vector<Row> layers(kLayers);
  for (int layer = 0; layer < kLayers; ++layer) {
    layers[layer].allocate_all();
    for (int i = 0; i < kBatch; ++i)
      check(cudaMemcpy(layers[layer].matrices[i], source.data() + (layer * kBatch + i) * 1021,
                       kBytes, cudaMemcpyHostToDevice),
            "cudaMemcpy");
  }
  Row activations[2];
  for (Row& row : activations) row.allocate_all();

  cublasHandle_t handle = nullptr;
  check(cublasCreate(&handle), "cublasCreate");
  const float one = 1.0f, zero = 0.0f;
  std::uint64_t digest = 0xcbf29ce484222325u;
  std::vector<float> output(kValues);
  for (int pass = 0; pass < kPasses; ++pass) {
    for (int i = 0; i < kBatch; ++i)
      check(cudaMemcpy(activations[0].matrices[i], source.data() + pass * 4099 + i * 7, kBytes,
                       cudaMemcpyHostToDevice),
            "cudaMemcpy");
    for (int layer = 0; layer < kLayers; ++layer) {
      const Row& from = activations[layer % 2];
      const Row& to = activations[(layer + 1) % 2];
      if (pass % 2 == 0) {
        check(cublasSgemmBatched(handle, CUBLAS_OP_N, CUBLAS_OP_N, kWidth, kWidth, kWidth, &one,
                                 layers[layer].table, kWidth, from.table, kWidth, &zero, to.table,
                                 kWidth, kBatch),
              "cublasSgemmBatched");
        continue;
      }
      for (int i = 0; i < kBatch; ++i)
        check(cublasSgemm(handle, CUBLAS_OP_N, CUBLAS_OP_N, kWidth, kWidth, kWidth, &one,
                          layers[layer].matrices[i], kWidth, from.matrices[i], kWidth, &zero,
                          to.matrices[i], kWidth),
              "cublasSgemm");
    }
    for (float* matrix : activations[kLayers % 2].matrices) {
      check(cudaMemcpy(output.data(), matrix, kBytes, cudaMemcpyDeviceToHost), "cudaMemcpy");
      for (float value : output)
        if (!std::isfinite(value)) return std::fprintf(stderr, "FAILED: not finite\n"), 1;
      digest = fnv1a(output.data(), kBytes, digest);
    }
  }
  check(cublasDestroy(handle), "cublasDestroy");
  for (const Row& row : layers) row.free_all();
  for (const Row& row : activations) row.free_all();
  std::printf("first output %.6g\n", static_cast<double>(output[0]));
  std::printf("RESULT digest=%016" PRIx64 " peak_bytes=%zu\n", digest,
              (kLayers + 2) * kBatch * kBytes);
  return 0;
}
