// What reading alone takes: the rate to compare other kernels with. Reads every 16-byte vector once
// and adds it up, each warp whole 4 KiB units with eight loads per thread in flight.
#include <cstdint>

namespace {

constexpr unsigned kUnitVectors = 256;  // 4 KiB
constexpr unsigned kInFlight = 8;

}  // namespace

// blockDim.x is a multiple of 32; `bytes` one of 4 KiB. The sum keeps the loads from being left
// out.
extern "C" __global__ void __launch_bounds__(256, 4)
    flex_read(const uint4* from, uint64_t bytes, uint64_t* total) {
  const unsigned warps = gridDim.x * (blockDim.x / 32);
  const unsigned warp = blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32;
  uint32_t sum = 0;
  for (uint64_t unit = warp; unit < bytes / (kUnitVectors * sizeof(uint4)); unit += warps) {
    const uint4* at = from + unit * kUnitVectors + threadIdx.x % 32;
    uint4 vectors[kInFlight];
#pragma unroll
    for (unsigned i = 0; i < kInFlight; ++i) vectors[i] = __ldcs(at + i * 32);
#pragma unroll
    for (unsigned i = 0; i < kInFlight; ++i)
      sum += vectors[i].x ^ vectors[i].y ^ vectors[i].z ^ vectors[i].w;
  }
  if (sum == 0x12345678u) atomicAdd(reinterpret_cast<unsigned long long*>(total), sum);
}
