// A library's constructor starts a thread that uses CUDA, and waits for it: the loader's lock is
// held by the one while the other allocates. Neither may need the lock for that.
#include <cuda.h>
#include <unistd.h>

#include <thread>

#include "tests/preload/session.hpp"

using namespace preload;

namespace {
const Cuda* cuda = nullptr;
int worked = 0;
}  // namespace

// Called from the constructor of libconstructor.so.
extern "C" __attribute__((visibility("default"))) void preload_in_constructor() {
  std::thread([] {
    cuda->use_primary();
    CUdeviceptr small = 0, large = 0;
    worked = cuda->cuMemAlloc_v2_(&small, 5000) == CUDA_SUCCESS &&
             cuda->cuMemAlloc_v2_(&large, 9 << 20) == CUDA_SUCCESS &&
             cuda->cuMemFree_v2_(small) == CUDA_SUCCESS &&
             cuda->cuMemFree_v2_(large) == CUDA_SUCCESS;
  }).join();
}

int main() {
  const Cuda calls(open_driver());
  cuda = &calls;
  calls.start();
  CHECK(calls.round_trip(4096));
  alarm(20);
  CHECK(dlopen(std::getenv("PRELOAD_CONSTRUCTOR"), RTLD_NOW) != nullptr);
  CHECK(worked == 1);
  return verdict();
}
