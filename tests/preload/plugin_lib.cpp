// A plugin linked against the driver.
#include <cuda.h>

#include <vector>

#define EXPORT extern "C" __attribute__((visibility("default")))

EXPORT int plugin_alloc(CUdeviceptr* p, size_t bytes) { return cuMemAlloc(p, bytes); }
EXPORT int plugin_free(CUdeviceptr p) { return cuMemFree(p); }
EXPORT int plugin_round_trip(size_t bytes) {
  CUdeviceptr p = 0;
  std::vector<unsigned char> out(bytes);
  if (cuMemAlloc(&p, bytes) != CUDA_SUCCESS) return 0;
  const bool good = cuMemsetD8(p, 9, bytes) == CUDA_SUCCESS &&
                    cuMemcpyDtoH(out.data(), p, bytes) == CUDA_SUCCESS && out.front() == 9 &&
                    out.back() == 9;
  return cuMemFree(p) == CUDA_SUCCESS && good;
}
