// Many threads at once: what ThreadSanitizer is to look at.
#include "tests/simcuda/testing.hpp"

#include <atomic>
#include <thread>

using namespace testing;

namespace {

// Catch2's assertions are not for threads: each thread counts what went wrong.
struct Worker {
  const Session& session;
  CUfunction fill, check;
  unsigned number;
  int wrong = 0;
  void ok(CUresult code) { wrong += code != CUDA_SUCCESS; }

  void check_pattern(CUstream stream, CUdeviceptr p, uint64_t words, uint32_t seed) {
    uint64_t mismatches = 1;
    CUdeviceptr count = 0;
    ok(cuMemAllocAsync(&count, 8, stream));
    ok(cuMemsetD8Async(count, 0, 8, stream));
    ok(launch(fill, stream, p, words, seed));
    ok(launch(check, stream, p, words, seed, count));
    ok(cuMemcpyDtoHAsync(&mismatches, count, 8, stream));
    ok(cuMemFreeAsync(count, stream));
    ok(cuStreamSynchronize(stream));
    wrong += mismatches != 0;
  }

  void allocations(CUstream stream, unsigned round) {
    CUdeviceptr p = 0;
    const size_t bytes = 4 * (1 + (round * 7919 + number * 104729) % 100000);
    ok(cuMemAlloc(&p, bytes));
    check_pattern(stream, p, bytes / 4, round ^ number);
    CUdeviceptr base = 0;
    size_t size = 0;
    ok(cuMemGetAddressRange(&base, &size, p + bytes - 1));
    wrong += base != p || size != bytes;
    ok(cuMemFree(p));
  }

  void pages(CUstream stream, unsigned round) {
    CUdeviceptr range = 0;
    CUmemGenericAllocationHandle handle = 0;
    CUmemAllocationProp properties = device_memory();
    if (round % 2) properties.location = {CU_MEM_LOCATION_TYPE_HOST_NUMA, 0};
    const CUmemAccessDesc access = read_write();
    ok(cuMemAddressReserve(&range, kPage, 0, 0x480000000000 + number * (kPage << 8), 0));
    ok(cuMemCreate(&handle, kPage, &properties, 0));
    ok(cuMemMap(range, kPage, 0, handle, 0));
    ok(cuMemSetAccess(range, kPage, &access, 1));
    check_pattern(stream, range, 1000, round);
    ok(cuMemUnmap(range, kPage));
    ok(cuMemRelease(handle));
    ok(cuMemAddressFree(range, kPage));
  }

  void run() {
    ok(cuCtxSetCurrent(session.context));
    CUstream stream = nullptr;
    CUevent event = nullptr;
    ok(cuStreamCreate(&stream, number % 2 ? CU_STREAM_NON_BLOCKING : 0));
    ok(cuEventCreate(&event, 0));
    for (unsigned round = 0; round < 40; ++round) {
      allocations(number % 3 ? stream : CU_STREAM_PER_THREAD, round);
      pages(stream, round);
      ok(cuCtxRecordEvent(session.context, event));
      ok(cuEventSynchronize(event));
      ok(cuStreamWaitEvent(nullptr, event, 0));
    }
    ok(cuEventDestroy(event));
    ok(cuStreamDestroy(stream));
  }
};

}  // namespace

TEST_CASE("threads share the driver") {
  Session session;
  std::vector<Worker> workers;
  for (unsigned i = 0; i < 4; ++i)
    workers.push_back({session, session.function("flex_fill"), session.function("flex_check"), i});
  std::vector<std::thread> threads;
  for (Worker& worker : workers) threads.emplace_back([&worker] { worker.run(); });
  for (std::thread& thread : threads) thread.join();
  for (const Worker& worker : workers) CHECK(worker.wrong == 0);
  CHECK_OK(cuCtxSynchronize());
}

TEST_CASE("contexts come and go in several threads") {
  REQUIRE_OK(cuInit(0));
  std::atomic<int> wrong{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 3; ++i) {
    threads.emplace_back([&wrong, i] {
      for (int round = 0; round < 15; ++round) {
        CUcontext context = nullptr;
        CUdeviceptr p = 0;
        wrong += cuCtxCreate(&context, nullptr, 0, i % 2) != CUDA_SUCCESS;
        wrong += cuMemAlloc(&p, 1000) != CUDA_SUCCESS;
        wrong += cuMemsetD8(p, 1, 1000) != CUDA_SUCCESS;
        wrong += cuCtxDestroy(context) != CUDA_SUCCESS;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(wrong == 0);
  CHECK(simcuda_device_bytes(0) == 0);
  CHECK(simcuda_device_bytes(1) == 0);
}
