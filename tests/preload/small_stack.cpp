// Threads with little stack, as other languages' runtimes make them, allocate, free, and run out of
// memory.
#include <cuda.h>
#include <limits.h>
#include <pthread.h>

#include "tests/preload/session.hpp"

using namespace preload;

namespace {

const Cuda* cuda = nullptr;

void* body(void*) {
  cuda->use_primary();
  for (const size_t bytes : {size_t{100}, size_t{70000}, size_t{3} << 20, size_t{40} << 20}) {
    CUdeviceptr p = 0;
    CHECK_OK(cuda->cuMemAlloc_v2_(&p, bytes));
    CHECK_OK(cuda->cuMemFree_v2_(p));
  }
  CUdeviceptr p = 0;
  CHECK(cuda->cuMemAlloc_v2_(&p, size_t{1} << 45) == CUDA_ERROR_OUT_OF_MEMORY);
  return nullptr;
}

}  // namespace

int main() {
  const Cuda calls(open_driver());
  cuda = &calls;
  calls.start();
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  CHECK(pthread_attr_setstacksize(&attributes, 64 << 10) == 0);
  for (int i = 0; i < 4; ++i) {
    pthread_t thread;
    CHECK(pthread_create(&thread, &attributes, &body, nullptr) == 0);
    pthread_join(thread, nullptr);
  }
  return verdict();
}
