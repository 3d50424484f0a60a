// Closing memory of another process waits for the context's work, and waiting breaks any open
// stream capture: while one is open, closing is refused, the capture goes on, and so does the
// mapping. Bare only the exchange is looked at: what the driver does there is its own affair.
#include <cuda.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/preload/session.hpp"

using namespace preload;

namespace {

constexpr size_t kBytes = size_t{4} << 20;

struct Calls {
#define X(name) decltype(&::name) name##_ = look_up<decltype(&::name)>(driver, #name);
  void* driver;
  X(cuIpcGetMemHandle)
  X(cuIpcOpenMemHandle_v2)
  X(cuIpcCloseMemHandle)
  X(cuStreamCreate)
  X(cuStreamBeginCapture_v2)
  X(cuStreamIsCapturing)
  X(cuStreamEndCapture)
  X(cuMemsetD8Async)
  X(cuGraphGetNodes)
#undef X
};

unsigned char last_byte(const Cuda& cuda, CUdeviceptr p) {
  unsigned char value = 0;
  CHECK_OK(cuda.cuMemcpyDtoH_v2_(&value, p + kBytes - 1, 1));
  return value;
}

void close_in_capture(const Calls& calls, CUdeviceptr imported, CUdeviceptr own,
                      CUstreamCaptureMode mode) {
  CUstream stream = nullptr;
  CHECK_OK(calls.cuStreamCreate_(&stream, CU_STREAM_NON_BLOCKING));
  CHECK_OK(calls.cuStreamBeginCapture_v2_(stream, mode));
  CHECK_OK(calls.cuMemsetD8Async_(own, 1, kBytes, stream));
  for (int i = 0; i < 2; ++i)
    CHECK(calls.cuIpcCloseMemHandle_(imported) == CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
  CUstreamCaptureStatus status = CU_STREAM_CAPTURE_STATUS_NONE;
  CHECK_OK(calls.cuStreamIsCapturing_(stream, &status));
  CHECK(status == CU_STREAM_CAPTURE_STATUS_ACTIVE);
  CHECK_OK(calls.cuMemsetD8Async_(own, 2, kBytes, stream));
  CUgraph graph = nullptr;
  CHECK_OK(calls.cuStreamEndCapture_(stream, &graph));
  size_t nodes = 0;
  if (graph != nullptr) CHECK_OK(calls.cuGraphGetNodes_(graph, nullptr, &nodes));
  CHECK(nodes == 2);
}

int importer(int from_exporter) {
  alarm(30);
  CUipcMemHandle handle;
  CHECK(read(from_exporter, &handle, sizeof handle) == ssize_t{sizeof handle});
  const Cuda cuda(open_driver());
  const Calls calls{open_driver()};
  cuda.start();
  CUdeviceptr imported = 0, own = 0;
  CHECK_OK(calls.cuIpcOpenMemHandle_v2_(&imported, handle, CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS));
  if (verdict() != 0) return 1;
  CHECK(last_byte(cuda, imported) == 0x33);
  if (under_flexlom()) {
    CHECK_OK(cuda.cuMemAlloc_v2_(&own, kBytes));
    close_in_capture(calls, imported, own, CU_STREAM_CAPTURE_MODE_GLOBAL);
    close_in_capture(calls, imported, own, CU_STREAM_CAPTURE_MODE_RELAXED);
    CHECK(last_byte(cuda, imported) == 0x33);
  }
  CHECK_OK(calls.cuIpcCloseMemHandle_(imported));
  CHECK(calls.cuIpcCloseMemHandle_(imported) == CUDA_ERROR_INVALID_VALUE);
  return verdict();
}

}  // namespace

int main() {
  int channel[2];
  CHECK_OK(pipe(channel));
  // Before the driver is in use: afterwards a child has none.
  const pid_t child = fork();
  if (child == 0) std::exit(importer(channel[0]));
  const Cuda cuda(open_driver());
  const Calls calls{open_driver()};
  cuda.start();
  CUdeviceptr p = 0;
  CUipcMemHandle handle = {};
  CHECK_OK(cuda.cuMemAlloc_v2_(&p, kBytes));
  CHECK_OK(cuda.cuMemsetD8_v2_(p, 0x33, kBytes));
  CHECK_OK(cuda.cuCtxSynchronize_());
  CHECK_OK(calls.cuIpcGetMemHandle_(&handle, p));
  CHECK(write(channel[1], &handle, sizeof handle) == ssize_t{sizeof handle});
  int status = 1;
  CHECK(waitpid(child, &status, 0) == child);
  CHECK(status == 0);
  CHECK(last_byte(cuda, p) == 0x33);
  CHECK_OK(cuda.cuMemFree_v2_(p));
  return verdict();
}
