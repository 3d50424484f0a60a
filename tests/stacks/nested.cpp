// Allocates in functions of known names, several calls deep, and frees some of it. Built with debug
// information, for the tests that name callers.
//
//   nested [keep] [abort|_exit|STATUS]
//     keep  two allocations are never freed
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/preload/session.hpp"

using namespace preload;

namespace weights {

__attribute__((noinline)) CUdeviceptr make_layer(const Cuda& cuda, size_t bytes) {
  CUdeviceptr p = 0;
  CHECK_OK(cuda.cuMemAlloc_v2_(&p, bytes));
  asm volatile("" : : : "memory");  // no tail calls: every function below has a frame
  return p;
}

__attribute__((noinline)) CUdeviceptr load(const Cuda& cuda, size_t bytes) {
  const CUdeviceptr p = make_layer(cuda, bytes);
  asm volatile("" : : : "memory");
  return p;
}

}  // namespace weights

__attribute__((noinline)) static void release(const Cuda& cuda, CUdeviceptr p) {
  CHECK_OK(cuda.cuMemFree_v2_(p));
  asm volatile("" : : : "memory");
}

__attribute__((noinline)) static CUdeviceptr scratch_space(const Cuda& cuda) {
  const CUdeviceptr p = weights::make_layer(cuda, 4 << 20);
  asm volatile("" : : : "memory");
  return p;
}

int main(int argc, char** argv) {
  const bool keep = argc > 1 && strcmp(argv[1], "keep") == 0;
  const char* const end = argc > 2 ? argv[2] : "0";
  const Cuda cuda(open_driver());
  cuda.start();
  const CUdeviceptr first = weights::load(cuda, 2 << 20);
  const CUdeviceptr second = scratch_space(cuda);
  release(cuda, weights::load(cuda, 1000));
  if (!keep) {
    release(cuda, first);
    release(cuda, second);
  }
  if (strcmp(end, "abort") == 0) abort();
  if (strcmp(end, "_exit") == 0) _exit(0);
  if (const int verdict_now = verdict(); verdict_now != 0) return verdict_now;
  return atoi(end);
}
