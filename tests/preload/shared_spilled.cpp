// Memory that was spilled, handed to another process: it comes to the device first, where there is
// room for it, and the other process reads and writes the same bytes. Bare it never left.
#include <cuda.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/preload/session.hpp"

using namespace preload;

namespace {

constexpr size_t kBytes = size_t{40} << 20;

struct Calls {
#define X(name) decltype(&::name) name##_ = look_up<decltype(&::name)>(driver, #name);
  void* driver;
  X(cuIpcGetMemHandle)
  X(cuIpcOpenMemHandle_v2)
  X(cuIpcCloseMemHandle)
#undef X
};

unsigned char byte_at(const Cuda& cuda, CUdeviceptr p) {
  unsigned char value = 0;
  CHECK_OK(cuda.cuMemcpyDtoH_v2_(&value, p, 1));
  return value;
}

int importer(int from_exporter, int to_exporter) {
  alarm(60);
  CUipcMemHandle handles[2];
  CHECK(read(from_exporter, handles, sizeof handles) == ssize_t{sizeof handles});
  const Cuda cuda(open_driver());
  cuda.start();
  const Calls calls{open_driver()};
  for (int i = 0; i < 2; ++i) {
    CUdeviceptr p = 0;
    CHECK_OK(calls.cuIpcOpenMemHandle_v2_(&p, handles[i], CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS));
    CHECK(byte_at(cuda, p) == 10 + i);
    CHECK(byte_at(cuda, p + kBytes - 1) == 10 + i);
    CHECK_OK(cuda.cuMemsetD8_v2_(p + kBytes - 1, static_cast<unsigned char>(20 + i), 1));
    CHECK_OK(cuda.cuCtxSynchronize_());
    CHECK_OK(calls.cuIpcCloseMemHandle_(p));
  }
  CHECK(write(to_exporter, "x", 1) == 1);
  return verdict();
}

}  // namespace

int main() {
  int there[2], back[2];
  CHECK(pipe(there) == 0 && pipe(back) == 0);
  const pid_t child = fork();
  if (child == 0) return importer(there[0], back[1]);
  alarm(60);
  const Cuda cuda(open_driver());
  cuda.start();
  const Calls calls{open_driver()};
  // Two of four have room on the device; which ones is flexlom's affair.
  CUdeviceptr p[4] = {};
  for (int i = 0; i < 4; ++i) {
    CHECK_OK(cuda.cuMemAlloc_v2_(&p[i], kBytes));
    CHECK_OK(cuda.cuMemsetD8_v2_(p[i], static_cast<unsigned char>(10 + i), kBytes));
  }
  CHECK_OK(cuda.cuCtxSynchronize_());
  CUipcMemHandle handles[2];
  for (int i = 0; i < 2; ++i) CHECK_OK(calls.cuIpcGetMemHandle_(&handles[i], p[i]));
  // What stays on the device for the others leaves no room for a third.
  CUipcMemHandle third;
  const CUresult r = calls.cuIpcGetMemHandle_(&third, p[2]);
  CHECK(r == (under_flexlom() ? CUDA_ERROR_MAP_FAILED : CUDA_SUCCESS));
  CHECK(write(there[1], handles, sizeof handles) == ssize_t{sizeof handles});
  char done = 0;
  CHECK(read(back[0], &done, 1) == 1);
  for (int i = 0; i < 4; ++i) {
    CHECK(byte_at(cuda, p[i]) == 10 + i);
    CHECK(byte_at(cuda, p[i] + kBytes - 1) == (i < 2 ? 20 : 10) + i);
  }
  int status = 0;
  CHECK(waitpid(child, &status, 0) == child);
  CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  return verdict();
}
