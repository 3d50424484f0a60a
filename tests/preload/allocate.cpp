// Allocates COUNT blocks of MIB each, fills each with its number, checks all, and frees them.
//
//   allocate COUNT MIB [hold|kill|small]
//
// Prints how many it got; "hold" prints a line and then sleeps with all of them allocated, "kill"
// waits 300 ms and ends itself with SIGKILL.
#include <cuda.h>
#include <signal.h>
#include <unistd.h>

#include <string>

#include "tests/preload/session.hpp"

using namespace preload;

int main(int argc, char** argv) {
  const int count = argc > 1 ? std::atoi(argv[1]) : 1;
  const size_t bytes = (argc > 2 ? std::strtoull(argv[2], nullptr, 10) : 1) << 20;
  const std::string then = argc > 3 ? argv[3] : "";
  const Cuda cuda(open_driver());
  cuda.start();
  std::vector<CUdeviceptr> blocks;
  int code = 0;
  for (int i = 0; i < count; ++i) {
    CUdeviceptr p = 0;
    code = cuda.cuMemAlloc_v2_(&p, bytes);
    if (code != 0) break;
    CHECK_OK(cuda.cuMemsetD8_v2_(p, static_cast<unsigned char>(i + 1), bytes));
    blocks.push_back(p);
  }
  std::printf("got %zu of %d, code %d\n", blocks.size(), count, code);
  std::fflush(stdout);
  if (then == "hold") sleep(60);
  if (then == "kill") {
    usleep(300000);
    raise(SIGKILL);
  }
  std::vector<unsigned char> out(bytes);
  for (size_t i = 0; i < blocks.size(); ++i) {
    CHECK_OK(cuda.cuMemcpyDtoH_v2_(out.data(), blocks[i], bytes));
    bool same = true;
    for (unsigned char byte : out) same = same && byte == static_cast<unsigned char>(i + 1);
    CHECK(same);
    CHECK_OK(cuda.cuMemFree_v2_(blocks[i]));
  }
  return verdict();
}
