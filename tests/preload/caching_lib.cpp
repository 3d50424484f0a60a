// Named like PyTorch's allocators (libc10_cuda.so): allocates all it is asked for, and tells how
// often it was refused.
#include <cuda.h>

// `again`: a refused request is repeated once, as by an allocator that then frees its own cache.
extern "C" __attribute__((visibility("default"))) int take_all(int async, int again, int count,
                                                               int* refused) {
  int taken = 0;
  *refused = 0;
  for (int i = 0; i < count; ++i) {
    CUdeviceptr p = 0;
    CUresult r = CUDA_ERROR_UNKNOWN;
    for (int tries = 0; tries <= again && r != CUDA_SUCCESS; ++tries) {
      r = async != 0 ? cuMemAllocAsync(&p, 32u << 20, nullptr) : cuMemAlloc(&p, 32u << 20);
      *refused += r != CUDA_SUCCESS;
    }
    taken += r == CUDA_SUCCESS;
  }
  return taken;
}
