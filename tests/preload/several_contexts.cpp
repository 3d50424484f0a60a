// Work and memory of several contexts and devices: whose stream is it, whose memory, and what is
// over when. Argument: what to look at.
#include <atomic>
#include <chrono>
#include <string_view>
#include <thread>
#include <vector>

#include <cuda.h>

#include "tests/preload/check.hpp"

namespace {

constexpr size_t kBytes = size_t{4} << 20;

std::atomic<bool> go{false};
void CUDA_CB hold(void*) {
  while (!go) std::this_thread::sleep_for(std::chrono::milliseconds(1));
}

CUcontext new_context(CUdevice device = 0) {
  CUcontext context = nullptr;
  CHECK_OK(cuCtxCreate(&context, nullptr, 0, device));
  return context;
}

// One context reads memory on its default stream and frees it there; another one asks for memory on
// its own, and must not get the same before the reading is over.
void default_streams(CUstream stream) {
  const CUcontext first = new_context(), second = new_context();
  CHECK_OK(cuCtxSetCurrent(first));
  CUdeviceptr p = 0, q = 0;
  void* host = nullptr;
  CHECK_OK(cuMemAllocHost(&host, kBytes));
  CHECK_OK(cuMemAllocAsync(&p, kBytes, stream));
  CHECK_OK(cuMemsetD8Async(p, 0x11, kBytes, stream));
  CHECK_OK(cuStreamSynchronize(stream));
  CHECK_OK(cuLaunchHostFunc(stream, hold, nullptr));
  CHECK_OK(cuMemcpyDtoHAsync(host, p, kBytes, stream));
  CHECK_OK(cuMemFreeAsync(p, stream));
  CHECK_OK(cuCtxSetCurrent(second));
  CHECK_OK(cuMemAllocAsync(&q, kBytes, stream));
  CHECK_OK(cuMemsetD8Async(q, 0x22, kBytes, stream));
  CHECK_OK(cuStreamSynchronize(stream));
  go = true;
  CHECK_OK(cuCtxSetCurrent(first));
  CHECK_OK(cuStreamSynchronize(stream));
  CHECK(static_cast<unsigned char*>(host)[100] == 0x11);
}

// Memory is that of the stream's device, whatever context is current.
void stream_of_other_device() {
  const CUcontext here = new_context(0), there = new_context(1);
  CUstream stream = nullptr;
  CHECK_OK(cuCtxSetCurrent(there));
  CHECK_OK(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
  CHECK_OK(cuCtxSetCurrent(here));
  CUdeviceptr p = 0;
  CHECK_OK(cuMemAllocAsync(&p, kBytes, stream));
  int device = -1;
  CHECK_OK(cuPointerGetAttribute(&device, CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL, p));
  CHECK(device == 1);
  CHECK_OK(cuMemsetD8Async(p, 0x33, kBytes, stream));
  CHECK_OK(cuMemFreeAsync(p, stream));
  CHECK_OK(cuStreamSynchronize(stream));
}

// A stream's handle says enough: no context need be current to free on it.
void free_without_context() {
  const CUcontext context = new_context();
  CUstream stream = nullptr;
  CHECK_OK(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
  CUdeviceptr p = 0, q = 0;
  CHECK_OK(cuMemAllocAsync(&p, kBytes, stream));
  CHECK_OK(cuMemAllocAsync(&q, kBytes, nullptr));
  CHECK_OK(cuCtxSetCurrent(nullptr));
  CHECK_OK(cuMemFreeAsync(p, stream));
  CHECK(cuMemFreeAsync(q, nullptr) == CUDA_ERROR_INVALID_CONTEXT);
  CHECK_OK(cuCtxSetCurrent(context));
  CHECK_OK(cuMemFreeAsync(q, nullptr));
  CHECK_OK(cuCtxSynchronize());
}

// What an allocation answers while a capture is open that forbids it.
CUresult allocate_in_capture() {
  CUstream stream = nullptr;
  CUgraph graph = nullptr;
  CUdeviceptr p = 0;
  CHECK_OK(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
  CHECK_OK(cuStreamBeginCapture(stream, CU_STREAM_CAPTURE_MODE_GLOBAL));
  const CUresult r = cuMemAlloc(&p, kBytes);
  cuStreamEndCapture(stream, &graph);
  CHECK_OK(cuStreamDestroy(stream));
  return r;
}

// A stream that was drawn into a capture is destroyed before the capture ends: it is still one
// capture, which ends once.
void side_stream_destroyed() {
  new_context();
  CHECK(allocate_in_capture() == CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
  CUdeviceptr p = 0;
  CHECK_OK(cuMemAlloc(&p, kBytes));
  CUstream main = nullptr, side = nullptr;
  CUevent fork = nullptr, join = nullptr;
  CHECK_OK(cuStreamCreate(&main, CU_STREAM_NON_BLOCKING));
  CHECK_OK(cuStreamCreate(&side, CU_STREAM_NON_BLOCKING));
  CHECK_OK(cuEventCreate(&fork, CU_EVENT_DISABLE_TIMING));
  CHECK_OK(cuEventCreate(&join, CU_EVENT_DISABLE_TIMING));
  CHECK_OK(cuStreamBeginCapture(main, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL));
  CHECK_OK(cuEventRecord(fork, main));
  CHECK_OK(cuStreamWaitEvent(side, fork, 0));
  CHECK_OK(cuMemsetD8Async(p, 1, kBytes, side));
  CHECK_OK(cuEventRecord(join, side));
  CHECK_OK(cuStreamWaitEvent(main, join, 0));
  CHECK_OK(cuStreamDestroy(side));
  CUgraph graph = nullptr;
  cuStreamEndCapture(main, &graph);
  for (int i = 0; i < 2; ++i) CHECK(allocate_in_capture() == CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
  CHECK_OK(cuMemFree(p));
}

// A context ends with a capture open in it: that is over, too, and memory comes back as before.
void context_ends_in_capture() {
  new_context();  // with two of them, waiting for one proves nothing of the other
  const CUcontext context = new_context();
  CUstream stream = nullptr;
  CHECK_OK(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
  CHECK_OK(cuStreamBeginCapture(stream, CU_STREAM_CAPTURE_MODE_RELAXED));
  CHECK_OK(cuCtxDestroy(context));
  new_context();
  for (int i = 0; i < 40; ++i) {
    CUdeviceptr p = 0;
    CHECK_OK(cuMemAlloc(&p, 4 * kBytes + static_cast<size_t>(i) * kBytes));
    CHECK_OK(cuMemsetD8(p, 1, kBytes));
    CHECK_OK(cuCtxSynchronize());
    CHECK_OK(cuMemFree(p));
  }
}

// One of two references to the primary context is given back while another thread captures.
void release_in_capture() {
  CUcontext context = nullptr;
  for (int i = 0; i < 2; ++i) CHECK_OK(cuDevicePrimaryCtxRetain(&context, 0));
  CHECK_OK(cuCtxSetCurrent(context));
  // More than the device has under flexlom: pages move, and things are made for it.
  std::vector<CUdeviceptr> blocks(8);
  for (CUdeviceptr& p : blocks) {
    CHECK_OK(cuMemAlloc(&p, 4 * kBytes));
    CHECK_OK(cuMemsetD8(p, 7, 4 * kBytes));
  }
  CHECK_OK(cuCtxSynchronize());
  CUstream stream = nullptr;
  CUgraph graph = nullptr;
  CHECK_OK(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
  CHECK_OK(cuStreamBeginCapture(stream, CU_STREAM_CAPTURE_MODE_GLOBAL));
  CHECK_OK(cuMemsetD8Async(blocks.back(), 3, kBytes, stream));
  std::thread([] { CHECK_OK(cuDevicePrimaryCtxRelease(0)); }).join();
  CHECK_OK(cuStreamEndCapture(stream, &graph));
  for (const CUdeviceptr p : blocks) CHECK_OK(cuMemFree(p));
}

}  // namespace

int main(int argc, char** argv) {
  const std::string_view name = argc == 2 ? argv[1] : "";
  CHECK_OK(cuInit(0));
  if (name == "default_streams")
    default_streams(nullptr);
  else if (name == "thread_streams")
    default_streams(CU_STREAM_PER_THREAD);
  else if (name == "stream_of_other_device")
    stream_of_other_device();
  else if (name == "free_without_context")
    free_without_context();
  else if (name == "side_stream_destroyed")
    side_stream_destroyed();
  else if (name == "context_ends_in_capture")
    context_ends_in_capture();
  else if (name == "release_in_capture")
    release_in_capture();
  else
    CHECK(!"a name");
  return preload::verdict();
}
