#include "tests/simcuda/testing.hpp"

#include <thread>

using namespace testing;

namespace {
CUstreamCaptureStatus status_of(CUstream stream) {
  CUstreamCaptureStatus status{};
  CHECK_OK(cuStreamIsCapturing(stream, &status));
  return status;
}
size_t node_count(CUgraph graph) {
  size_t count = 0;
  CHECK_OK(cuGraphGetNodes(graph, nullptr, &count));
  return count;
}
// A capture that an unsafe call has broken.
void check_broken(CUstream stream) {
  CHECK(status_of(stream) == CU_STREAM_CAPTURE_STATUS_INVALIDATED);
  CUgraph graph = nullptr;
  CHECK(cuStreamEndCapture(stream, &graph) == CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
  CHECK(graph == nullptr);
  CHECK(status_of(stream) == CU_STREAM_CAPTURE_STATUS_NONE);
}
}  // namespace

TEST_CASE("captured work runs when the graph is launched") {
  Session session;
  Stream stream;
  Memory a(4096), b(4096);
  CHECK_OK(cuMemsetD8(b.address, 0, 4096));
  CHECK_OK(cuCtxSynchronize());
  REQUIRE_OK(cuStreamBeginCapture(stream.handle, CU_STREAM_CAPTURE_MODE_GLOBAL));
  CHECK(status_of(stream.handle) == CU_STREAM_CAPTURE_STATUS_ACTIVE);
  CHECK_OK(
      launch(session.function("flex_fill"), stream.handle, a.address, uint64_t{1024}, uint32_t{1}));
  CHECK_OK(cuMemcpyDtoDAsync(b.address, a.address, 4096, stream.handle));
  CHECK_OK(cuMemsetD32Async(b.address, 7, 1, stream.handle));
  cuuint64_t id = 0;
  CUgraph graph = nullptr;
  const CUgraphNode* front = nullptr;
  size_t count = 0;
  CUstreamCaptureStatus status{};
  CHECK_OK(cuStreamGetCaptureInfo(stream.handle, &status, &id, &graph, &front, nullptr, &count));
  CHECK(id != 0);
  CHECK(count == 1);
  CHECK(node_count(graph) == 3);
  CHECK_OK(cuStreamEndCapture(stream.handle, &graph));
  uint32_t words[2] = {9, 9};
  CHECK_OK(cuMemcpyDtoH(words, b.address, 8));
  CHECK(words[0] == 0);
  CUgraphExec exec = nullptr;
  REQUIRE_OK(cuGraphInstantiate(&exec, graph, 0));
  CHECK_OK(cuGraphDestroy(graph));
  CHECK_OK(cuGraphLaunch(exec, stream.handle));
  CHECK_OK(cuStreamSynchronize(stream.handle));
  CHECK_OK(cuMemcpyDtoH(words, b.address, 8));
  CHECK(words[0] == 7);
  CHECK(words[1] != 0);
  CHECK_OK(cuGraphExecDestroy(exec));
}

TEST_CASE("unsafe calls break a global capture, from any thread that is not relaxed") {
  Session session;
  Stream stream, other;
  Memory m(64);
  CUdeviceptr p = 0;
  const auto begin = [&](CUstreamCaptureMode mode) {
    REQUIRE_OK(cuStreamBeginCapture(stream.handle, mode));
  };
  CUgraph graph = nullptr;
  SECTION("cuMemAlloc") {
    begin(CU_STREAM_CAPTURE_MODE_GLOBAL);
    CHECK(cuMemAlloc(&p, 64) == CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
    check_broken(stream.handle);
  }
  SECTION("cuMemFree") {
    begin(CU_STREAM_CAPTURE_MODE_GLOBAL);
    CHECK(cuMemFree(m.address) == CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
    check_broken(stream.handle);
  }
  SECTION("synchronising another stream") {
    begin(CU_STREAM_CAPTURE_MODE_GLOBAL);
    CHECK(cuStreamSynchronize(other.handle) == CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
    check_broken(stream.handle);
  }
  SECTION("a synchronous copy, which would wait for the blocking stream") {
    begin(CU_STREAM_CAPTURE_MODE_GLOBAL);
    char byte = 0;
    CHECK(cuMemcpyHtoD(m.address, &byte, 1) == CUDA_ERROR_STREAM_CAPTURE_IMPLICIT);
    check_broken(stream.handle);
  }
  SECTION("work on the NULL stream") {
    begin(CU_STREAM_CAPTURE_MODE_RELAXED);
    CHECK(cuMemsetD8Async(m.address, 0, 1, nullptr) == CUDA_ERROR_STREAM_CAPTURE_IMPLICIT);
    check_broken(stream.handle);
  }
  SECTION("another thread") {
    begin(CU_STREAM_CAPTURE_MODE_GLOBAL);
    CUresult relaxed = CUDA_ERROR_UNKNOWN, strict = CUDA_ERROR_UNKNOWN;
    std::thread([&] {
      cuCtxSetCurrent(session.context);
      CUstreamCaptureMode mode = CU_STREAM_CAPTURE_MODE_RELAXED;
      cuThreadExchangeStreamCaptureMode(&mode);
      CUdeviceptr q = 0;
      relaxed = cuMemAlloc(&q, 64);
      cuMemFree(q);
      cuThreadExchangeStreamCaptureMode(&mode);
      strict = cuMemAlloc(&q, 64);
    }).join();
    CHECK(relaxed == CUDA_SUCCESS);
    CHECK(strict == CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
    check_broken(stream.handle);
  }
  SECTION("thread-local captures mind only their own thread") {
    begin(CU_STREAM_CAPTURE_MODE_THREAD_LOCAL);
    CUresult elsewhere = CUDA_ERROR_UNKNOWN;
    std::thread([&] {
      cuCtxSetCurrent(session.context);
      CUdeviceptr q = 0;
      elsewhere = cuMemAlloc(&q, 64);
      cuMemFree(q);
    }).join();
    CHECK(elsewhere == CUDA_SUCCESS);
    CHECK(cuMemAlloc(&p, 64) == CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
    check_broken(stream.handle);
  }
  SECTION("relaxed captures allow cuMemAlloc, not a context-wide event or wait") {
    begin(CU_STREAM_CAPTURE_MODE_RELAXED);
    CHECK_OK(cuMemAlloc(&p, 64));
    CHECK_OK(cuMemFree(p));
    CUevent event = nullptr;
    CHECK_OK(cuEventCreate(&event, 0));
    CHECK(cuCtxRecordEvent(session.context, event) == CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
    check_broken(stream.handle);
    CHECK_OK(cuEventDestroy(event));
    begin(CU_STREAM_CAPTURE_MODE_RELAXED);
    CHECK(cuCtxSynchronize() == CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
    check_broken(stream.handle);
  }
  SECTION("VMM calls are allowed") {
    begin(CU_STREAM_CAPTURE_MODE_GLOBAL);
    CUdeviceptr range = 0;
    CUmemGenericAllocationHandle handle = 0;
    CUmemAllocationProp properties = device_memory();
    CUmemAccessDesc access = read_write();
    CHECK_OK(cuMemAddressReserve(&range, kPage, 0, 0, 0));
    CHECK_OK(cuMemCreate(&handle, kPage, &properties, 0));
    CHECK_OK(cuMemMap(range, kPage, 0, handle, 0));
    CHECK_OK(cuMemSetAccess(range, kPage, &access, 1));
    CHECK_OK(cuMemUnmap(range, kPage));
    CHECK_OK(cuMemRelease(handle));
    CHECK_OK(cuMemAddressFree(range, kPage));
    CHECK_OK(cuStreamEndCapture(stream.handle, &graph));
    CHECK_OK(cuGraphDestroy(graph));
  }
}

TEST_CASE("streams join and leave a capture through events") {
  Session session;
  Stream a, b;
  CUevent fork = nullptr, join = nullptr;
  REQUIRE_OK(cuEventCreate(&fork, 0));
  REQUIRE_OK(cuEventCreate(&join, 0));
  CUgraph graph = nullptr;
  CUfunction empty = session.function("flex_empty");
  const auto start = [&] {
    REQUIRE_OK(cuStreamBeginCapture(a.handle, CU_STREAM_CAPTURE_MODE_GLOBAL));
    CHECK_OK(launch(empty, a.handle));
    CHECK_OK(cuEventRecord(fork, a.handle));
    CHECK_OK(cuStreamWaitEvent(b.handle, fork, 0));
    CHECK(status_of(b.handle) == CU_STREAM_CAPTURE_STATUS_ACTIVE);
    CHECK_OK(launch(empty, b.handle));
  };
  start();
  CHECK_OK(cuEventRecord(join, b.handle));
  CHECK_OK(cuStreamWaitEvent(a.handle, join, 0));
  CHECK_OK(launch(empty, a.handle));
  CHECK(cuStreamEndCapture(b.handle, &graph) == CUDA_ERROR_STREAM_CAPTURE_UNMATCHED);
  REQUIRE_OK(cuStreamEndCapture(a.handle, &graph));
  CHECK(node_count(graph) == 3);
  CHECK(status_of(b.handle) == CU_STREAM_CAPTURE_STATUS_NONE);
  CHECK_OK(cuGraphDestroy(graph));
  CHECK(cuStreamWaitEvent(a.handle, join, 0) == CUDA_ERROR_CAPTURED_EVENT);

  start();
  CHECK(cuStreamEndCapture(a.handle, &graph) == CUDA_ERROR_STREAM_CAPTURE_UNJOINED);
  CHECK_OK(cuEventDestroy(fork));
  CHECK_OK(cuEventDestroy(join));
}

TEST_CASE("capture into a given graph, and stream-ordered memory in a capture") {
  Session session;
  Stream stream;
  CUgraph graph = nullptr, same = nullptr;
  REQUIRE_OK(cuGraphCreate(&graph, 0));
  CUgraphNode first = nullptr;
  CHECK_OK(cuGraphAddEmptyNode(&first, graph, nullptr, 0));
  REQUIRE_OK(cuStreamBeginCaptureToGraph(stream.handle, graph, &first, nullptr, 1,
                                         CU_STREAM_CAPTURE_MODE_GLOBAL));
  CUdeviceptr p = 0;
  CHECK_OK(cuMemAllocAsync(&p, 1000, stream.handle));
  CHECK_OK(cuMemsetD8Async(p, 3, 1000, stream.handle));
  CHECK_OK(cuMemFreeAsync(p, stream.handle));
  CHECK_OK(cuStreamEndCapture(stream.handle, &same));
  CHECK(same == graph);
  CHECK(node_count(graph) == 4);
  CUgraphExec exec = nullptr;
  REQUIRE_OK(cuGraphInstantiate(&exec, graph, 0));
  CHECK_OK(cuGraphDestroy(graph));
  CHECK_OK(cuGraphLaunch(exec, stream.handle));
  CHECK_OK(cuGraphLaunch(exec, stream.handle));
  CHECK_OK(cuStreamSynchronize(stream.handle));
  CHECK_OK(cuGraphExecDestroy(exec));
  CHECK_OK(cuCtxSynchronize());
}
