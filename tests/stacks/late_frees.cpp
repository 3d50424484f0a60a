// Frees everything, but late: from a static object of the program, from one of a library that it
// was linked with, and from an exit handler. With "reset", the context takes what is left along.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/preload/session.hpp"

using namespace preload;

extern "C" void hold_until_the_end(CUdeviceptr memory, CUresult (*release)(CUdeviceptr));

namespace {

struct Late {
  const Cuda* cuda = nullptr;
  CUdeviceptr memory = 0;
  ~Late() {
    if (cuda != nullptr) cuda->cuMemFree_v2_(memory);
  }
} late;
const Cuda* calls = nullptr;
CUdeviceptr at_exit = 0;

}  // namespace

int main(int argc, char** argv) {
  static const Cuda cuda(open_driver());
  calls = &cuda;
  cuda.start();
  late.cuda = &cuda;
  CUdeviceptr third = 0;
  CHECK_OK(cuda.cuMemAlloc_v2_(&late.memory, 5000));
  CHECK_OK(cuda.cuMemAlloc_v2_(&at_exit, 3 << 20));
  CHECK_OK(cuda.cuMemAlloc_v2_(&third, 2 << 20));
  hold_until_the_end(third, cuda.cuMemFree_v2_);
  atexit([] { calls->cuMemFree_v2_(at_exit); });
  if (argc > 1 && strcmp(argv[1], "reset") == 0) {
    const auto reset =
        look_up<decltype(&::cuDevicePrimaryCtxReset)>(open_driver(), "cuDevicePrimaryCtxReset_v2");
    CHECK_OK(reset(0));
  }
  printf("written, not flushed");
  const int checks = verdict();
  return checks;
}
