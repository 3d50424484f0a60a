// The fingerprint kernel: fingerprint.h says how to launch it, fingerprint_host.h what it computes.
//
// A warp takes a unit of 4 KiB at a time, with all its eight loads per thread in flight at once;
// four blocks per multiprocessor keep 128 KiB in flight, several times what covers the memory's
// latency.
#include "kernels/fingerprint_host.h"

namespace flexlom::kernels {
namespace {

constexpr unsigned kWarpThreads = 32;
constexpr unsigned kWarps = kFingerprintThreads / kWarpThreads;
constexpr unsigned kBlocksPerProcessor = 4;  // 64 registers a thread
static_assert(kWarpThreads == kStrips);

__device__ __forceinline__ void absorb(uint64_t (&sums)[kLanes], unsigned pair, uint32_t a,
                                       uint32_t b) {
#pragma unroll
  for (unsigned lane = 0; lane < kLanes; ++lane) {
    const unsigned key = 2 * (pair + lane);
    sums[lane] += static_cast<uint64_t>(a + fingerprint_key(key)) * (b + fingerprint_key(key + 1));
  }
}

// Evict-first loads: a page read once must not push out what the program has in the caches.
__device__ __forceinline__ void take_unit(FingerprintSums& to, const uint4* unit, unsigned number,
                                          unsigned strip) {
  uint4 vectors[kStripVectors];
#pragma unroll
  for (unsigned i = 0; i < kStripVectors; ++i) vectors[i] = __ldcs(unit + i * kStrips + strip);
  uint64_t sums[kLanes] = {};
#pragma unroll
  for (unsigned i = 0; i < kStripVectors; ++i) {
    absorb(sums, 2 * i, vectors[i].x, vectors[i].y);
    absorb(sums, 2 * i + 1, vectors[i].z, vectors[i].w);
  }
  fingerprint_take(to, sums, static_cast<uint64_t>(number) * kStrips + strip);
}

__device__ __forceinline__ uint64_t warp_sum(uint64_t x) {
#pragma unroll
  for (unsigned step = kWarpThreads / 2; step != 0; step /= 2)
    x += __shfl_xor_sync(0xffffffffu, x, step);
  return x;
}

__device__ __forceinline__ unsigned long long* word(uint64_t& x) {
  return reinterpret_cast<unsigned long long*>(&x);
}

// The whole block calls it; the result is thread 0's.
__device__ __forceinline__ FingerprintSums block_sum(FingerprintSums own) {
  __shared__ uint64_t low[kWarps], high[kWarps];
  own.low = warp_sum(own.low);
  own.high = warp_sum(own.high);
  if (threadIdx.x % kWarpThreads == 0) {
    low[threadIdx.x / kWarpThreads] = own.low;
    high[threadIdx.x / kWarpThreads] = own.high;
  }
  __syncthreads();
  for (unsigned i = 1; threadIdx.x == 0 && i < kWarps; ++i) {
    own.low += low[i];
    own.high += high[i];
  }
  return own;
}

}  // namespace

extern "C" __global__ void __launch_bounds__(kFingerprintThreads, kBlocksPerProcessor)
    flexlom_fingerprint(const __grid_constant__ FingerprintLaunch launch) {
  const unsigned index = blockIdx.y;
  if (index >= launch.count) return;
  const uint64_t bytes = launch.pages[index].bytes;
  const auto units = static_cast<unsigned>(bytes / kFingerprintUnitBytes);
  const auto* const page = reinterpret_cast<const uint4*>(launch.pages[index].address);

  // Blocks beyond a small page's need have nothing to say; one stays even for an empty page.
  const unsigned blocks = max(1u, min(gridDim.x, (units + kWarps - 1) / kWarps));
  if (blockIdx.x >= blocks) return;

  const unsigned strip = threadIdx.x % kWarpThreads;
  FingerprintSums own;
  for (unsigned unit = blockIdx.x * kWarps + threadIdx.x / kWarpThreads; unit < units;
       unit += blocks * kWarps)
    take_unit(own, page + static_cast<uint64_t>(unit) * (kFingerprintUnitBytes / sizeof(uint4)),
              unit, strip);

  FingerprintSums all = block_sum(own);
  if (threadIdx.x != 0) return;
  FingerprintScratch& scratch = reinterpret_cast<FingerprintScratch*>(launch.scratch)[index];
  atomicAdd(word(scratch.sums[0]), all.low);
  atomicAdd(word(scratch.sums[1]), all.high);
  __threadfence();  // a block that is seen to have arrived has its sums seen too
  if (atomicAdd(&scratch.arrived, 1u) + 1 != blocks) return;
  __threadfence();
  all.low = atomicExch(word(scratch.sums[0]), 0);
  all.high = atomicExch(word(scratch.sums[1]), 0);
  atomicExch(&scratch.arrived, 0u);
  reinterpret_cast<Fingerprint*>(launch.results)[index] = fingerprint_finish(all, bytes);
}

}  // namespace flexlom::kernels
