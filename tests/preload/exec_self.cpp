// Replaces itself by exec with CUDA in use: the new program starts afresh.
#include <cuda.h>
#include <unistd.h>

#include "tests/preload/session.hpp"

using namespace preload;

int main(int argc, char** argv) {
  const int left = argc > 1 ? std::atoi(argv[1]) : 2;
  const Cuda cuda(open_driver());
  cuda.start();
  CUdeviceptr kept = 0;
  CHECK(cuda.round_trip(8 << 20));
  CHECK_OK(cuda.cuMemAlloc_v2_(&kept, 1 << 20));
  if (verdict() != 0) return 1;
  if (left == 0) return 0;
  char next[16];
  std::snprintf(next, sizeof next, "%d", left - 1);
  execl("/proc/self/exe", argv[0], next, nullptr);
  return 1;
}
