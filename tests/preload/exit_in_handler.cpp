// exit() from a signal handler, wherever that interrupts the program: mostly inside an allocation.
//   exit_in_handler MILLISECONDS
#include <csignal>
#include <cstdlib>
#include <vector>

#include <sys/time.h>

#include <cuda.h>

#include "tests/preload/check.hpp"

int main(int argc, char** argv) {
  const long ms = argc == 2 ? std::atol(argv[1]) : 100;
  CUcontext context = nullptr;
  CHECK_OK(cuInit(0));
  CHECK_OK(cuDevicePrimaryCtxRetain(&context, 0));
  CHECK_OK(cuCtxSetCurrent(context));
  std::signal(
      SIGALRM, +[](int) { std::exit(7); });
  itimerval after{};
  after.it_value.tv_sec = ms / 1000;
  after.it_value.tv_usec = ms % 1000 * 1000;
  CHECK_OK(setitimer(ITIMER_REAL, &after, nullptr));
  for (;;) {
    std::vector<CUdeviceptr> blocks;
    CUdeviceptr p = 0;
    while (cuMemAlloc(&p, (blocks.size() + 5) << 20) == CUDA_SUCCESS) blocks.push_back(p);
    for (const CUdeviceptr block : blocks) CHECK_OK(cuMemFree(block));
  }
}
