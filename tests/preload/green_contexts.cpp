// Green contexts: memory is the primary context's, streams are their own. Argument: what to look
// at.
#include <atomic>
#include <chrono>
#include <string_view>
#include <thread>

#include <cuda.h>

#include "tests/preload/check.hpp"

namespace {

constexpr size_t kBytes = size_t{4} << 20;

std::atomic<bool> go{false};
void CUDA_CB hold(void*) {
  while (!go) std::this_thread::sleep_for(std::chrono::milliseconds(1));
}

CUcontext primary() {
  CUcontext context = nullptr;
  CHECK_OK(cuDevicePrimaryCtxRetain(&context, 0));
  return context;
}

// A share of the device, and the context to make current for it.
struct Green {
  Green() {
    CUdevResource all{}, share{}, rest{};
    CUdevResourceDesc description = nullptr;
    unsigned count = 1;
    CHECK_OK(cuDeviceGetDevResource(0, &all, CU_DEV_RESOURCE_TYPE_SM));
    CHECK_OK(cuDevSmResourceSplitByCount(&share, &count, &all, &rest, 0, 16));
    CHECK_OK(cuDevResourceGenerateDesc(&description, &share, 1));
    CHECK_OK(cuGreenCtxCreate(&handle, description, 0, CU_GREEN_CTX_DEFAULT_STREAM));
    CHECK_OK(cuCtxFromGreenCtx(&context, handle));
  }
  CUgreenCtx handle = nullptr;
  CUcontext context = nullptr;
};

CUcontext owner_of(CUdeviceptr p) {
  CUcontext owner = nullptr;
  CHECK_OK(cuPointerGetAttribute(&owner, CU_POINTER_ATTRIBUTE_CONTEXT, p));
  return owner;
}

// Memory outlives the green context that it was made in; then that one is no context any more.
void memory() {
  const CUcontext whole = primary();
  for (int round = 0; round < 3; ++round) {
    const Green green;
    CHECK_OK(cuCtxSetCurrent(green.context));
    CUdeviceptr p = 0, q = 0;
    CHECK_OK(cuMemAlloc(&p, kBytes));
    CHECK_OK(cuMemsetD8(p, 0x11, kBytes));
    CHECK(owner_of(p) == whole);
    CHECK_OK(cuGreenCtxDestroy(green.handle));
    CHECK(cuMemAlloc(&q, kBytes) == CUDA_ERROR_CONTEXT_IS_DESTROYED);
    CHECK_OK(cuCtxSetCurrent(whole));
    unsigned char byte = 0;
    CHECK_OK(cuMemcpyDtoH(&byte, p + kBytes / 2, 1));
    CHECK(byte == 0x11);
    CHECK_OK(cuMemFree(p));
  }
}

// What is freed comes back, whichever context was current, while green contexts come and go.
void reuse() {
  const CUcontext whole = primary();
  for (int round = 0; round < 4; ++round) {
    const Green green;
    for (int i = 0; i < 12; ++i) {
      CHECK_OK(cuCtxSetCurrent(i % 3 == 0 ? whole : green.context));
      CUdeviceptr p = 0;
      CHECK_OK(cuMemAlloc(&p, 4 * kBytes + static_cast<size_t>(i) * kBytes));
      CHECK_OK(cuMemsetD8Async(p, 1, kBytes, nullptr));
      CHECK_OK(cuCtxSynchronize());
      CHECK_OK(cuMemFree(p));
    }
    CHECK_OK(cuCtxSetCurrent(whole));
    CHECK_OK(cuGreenCtxDestroy(green.handle));
  }
}

// `busy` has work that reads memory which is freed while `other` is current, and idle.
void freed_while_read(CUcontext busy, CUcontext other) {
  CHECK_OK(cuCtxSetCurrent(busy));
  CUstream stream = nullptr;
  CUdeviceptr p = 0, q = 0;
  void* host = nullptr;
  CHECK_OK(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
  CHECK_OK(cuMemAllocHost(&host, kBytes));
  CHECK_OK(cuMemAlloc(&p, kBytes));
  CHECK_OK(cuMemsetD8(p, 0x11, kBytes));
  CHECK_OK(cuCtxSynchronize());
  go = false;
  CHECK_OK(cuLaunchHostFunc(stream, hold, nullptr));
  CHECK_OK(cuMemcpyDtoHAsync(host, p, kBytes, stream));
  CHECK_OK(cuCtxSetCurrent(other));
  // The driver's own free waits for the work.
  std::thread later([] {
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
    go = true;
  });
  if (preload::under_flexlom()) CHECK_OK(cuCtxSynchronize());
  CHECK_OK(cuMemFree(p));
  CHECK_OK(cuMemAlloc(&q, kBytes));
  CHECK_OK(cuMemsetD8(q, 0x22, kBytes));
  later.join();
  CHECK_OK(cuCtxSetCurrent(busy));
  CHECK_OK(cuStreamSynchronize(stream));
  CHECK(static_cast<unsigned char*>(host)[100] == 0x11);
  CHECK_OK(cuMemFree(q));
  CHECK_OK(cuStreamDestroy(stream));
}

// A green context and the primary one have default streams of their own.
void default_streams() {
  const CUcontext whole = primary();
  const Green green;
  CHECK_OK(cuCtxSetCurrent(whole));
  CUdeviceptr p = 0, q = 0;
  void* host = nullptr;
  CHECK_OK(cuMemAllocHost(&host, kBytes));
  CHECK_OK(cuMemAllocAsync(&p, kBytes, nullptr));
  CHECK_OK(cuMemsetD8Async(p, 0x11, kBytes, nullptr));
  CHECK_OK(cuStreamSynchronize(nullptr));
  CHECK_OK(cuLaunchHostFunc(nullptr, hold, nullptr));
  CHECK_OK(cuMemcpyDtoHAsync(host, p, kBytes, nullptr));
  CHECK_OK(cuMemFreeAsync(p, nullptr));
  CHECK_OK(cuCtxSetCurrent(green.context));
  CHECK_OK(cuMemAllocAsync(&q, kBytes, nullptr));
  CHECK_OK(cuMemsetD8Async(q, 0x22, kBytes, nullptr));
  CHECK_OK(cuStreamSynchronize(nullptr));
  go = true;
  CHECK_OK(cuCtxSetCurrent(whole));
  CHECK_OK(cuStreamSynchronize(nullptr));
  CHECK(static_cast<unsigned char*>(host)[100] == 0x11);
}

// The last holder of the primary context, whose memory ends with it.
void last_holder() {
  for (int round = 0; round < 3; ++round) {
    const Green green;
    CHECK_OK(cuCtxSetCurrent(green.context));
    CUdeviceptr p = 0;
    CHECK_OK(cuMemAlloc(&p, kBytes));
    CHECK_OK(cuMemsetD8(p, 1, kBytes));
    CHECK_OK(cuCtxSetCurrent(nullptr));
    CHECK_OK(cuGreenCtxDestroy(green.handle));
    CHECK(cuMemFree(p) != CUDA_SUCCESS);
  }
}

}  // namespace

int main(int argc, char** argv) {
  const std::string_view name = argc == 2 ? argv[1] : "";
  CHECK_OK(cuInit(0));
  if (name == "memory") {
    memory();
  } else if (name == "reuse") {
    reuse();
  } else if (name == "green_reads") {
    const CUcontext whole = primary();
    freed_while_read(Green().context, whole);
  } else if (name == "primary_reads") {
    const CUcontext whole = primary();
    freed_while_read(whole, Green().context);
  } else if (name == "default_streams") {
    default_streams();
  } else if (name == "last_holder") {
    last_holder();
  } else {
    CHECK(!"a name");
  }
  return preload::verdict();
}
