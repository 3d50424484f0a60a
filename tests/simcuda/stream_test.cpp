#include "tests/simcuda/testing.hpp"

#include <time.h>

#include <atomic>
#include <thread>

using namespace testing;

namespace {
void sleep_ms(long ms) {
  const timespec t{0, ms * 1000000};
  nanosleep(&t, nullptr);
}
CUresult mark(CUstream stream, std::atomic<int>& value) {
  return cuLaunchHostFunc(
      stream, [](void* data) { ++*static_cast<std::atomic<int>*>(data); }, &value);
}
}  // namespace

TEST_CASE("streams are asynchronous and keep their order") {
  Session session;
  Stream stream(CU_STREAM_NON_BLOCKING);
  std::vector<int> order;
  {
    Hold hold(session, stream.handle);
    for (int i = 0; i < 10; ++i) {
      struct Step {
        std::vector<int>* order;
        int value;
      };
      auto* step = new Step{&order, i};
      CHECK_OK(cuLaunchHostFunc(
          stream.handle,
          [](void* data) {
            auto* s = static_cast<Step*>(data);
            s->order->push_back(s->value);
            delete s;
          },
          step));
    }
    CHECK(cuStreamQuery(stream.handle) == CUDA_ERROR_NOT_READY);
  }
  CHECK_OK(cuStreamSynchronize(stream.handle));
  CHECK(order == std::vector<int>{0, 1, 2, 3, 4, 5, 6, 7, 8, 9});
}

TEST_CASE("the NULL stream and blocking streams wait for each other") {
  Session session;
  Stream blocking, free(CU_STREAM_NON_BLOCKING);
  std::atomic<int> null_done{0}, blocking_done{0}, free_done{0};
  SECTION("NULL waits for a blocking stream") {
    Hold hold(session, blocking.handle);
    CHECK_OK(mark(nullptr, null_done));
    CHECK_OK(mark(free.handle, free_done));
    CHECK_OK(cuStreamSynchronize(free.handle));
    CHECK(free_done == 1);
    sleep_ms(20);
    CHECK(null_done == 0);
    CHECK(cuStreamQuery(nullptr) == CUDA_ERROR_NOT_READY);
    hold.release();
    CHECK_OK(cuStreamSynchronize(nullptr));
    CHECK(null_done == 1);
  }
  SECTION("a blocking stream waits for NULL") {
    Hold hold(session, nullptr);
    CHECK_OK(mark(blocking.handle, blocking_done));
    CHECK_OK(mark(free.handle, free_done));
    CHECK_OK(cuStreamSynchronize(free.handle));
    sleep_ms(20);
    CHECK(blocking_done == 0);
    hold.release();
    CHECK_OK(cuStreamSynchronize(blocking.handle));
    CHECK(blocking_done == 1);
  }
  SECTION("NULL does not wait for a non-blocking stream") {
    Hold hold(session, free.handle);
    CHECK_OK(mark(nullptr, null_done));
    CHECK_OK(cuStreamSynchronize(nullptr));
    CHECK(null_done == 1);
  }
  CHECK_OK(cuCtxSynchronize());
}

TEST_CASE("per-thread default streams") {
  Session session;
  unsigned long long mine = 0, same = 0, other = 0, legacy = 0;
  CHECK_OK(cuStreamGetId(CU_STREAM_PER_THREAD, &mine));
  CHECK_OK(cuStreamGetId(nullptr, &legacy));
  void* twin = nullptr;
  CHECK_OK(cuGetProcAddress("cuStreamGetId", &twin, 13000,
                            CU_GET_PROC_ADDRESS_PER_THREAD_DEFAULT_STREAM, nullptr));
  auto get_id = reinterpret_cast<CUresult (*)(CUstream, unsigned long long*)>(twin);
  REQUIRE(get_id != nullptr);
  CHECK_OK(get_id(nullptr, &same));
  CHECK(same == mine);
  CHECK(mine != legacy);
  CHECK_OK(get_id(CU_STREAM_LEGACY, &same));
  CHECK(same == legacy);
  CUcontext context = session.context;
  std::thread([&] {
    cuCtxSetCurrent(context);
    cuStreamGetId(CU_STREAM_PER_THREAD, &other);
  }).join();
  CHECK(other != mine);
  CHECK(other != 0);

  std::atomic<int> done{0};
  Hold hold(session, nullptr);
  CHECK_OK(mark(CU_STREAM_PER_THREAD, done));
  sleep_ms(20);
  CHECK(done == 0);  // it is a blocking stream
  hold.release();
  CHECK_OK(cuStreamSynchronize(CU_STREAM_PER_THREAD));
  CHECK(done == 1);
}

TEST_CASE("events") {
  Session session;
  Stream a(CU_STREAM_NON_BLOCKING), b(CU_STREAM_NON_BLOCKING);
  CUevent first = nullptr, second = nullptr, untimed = nullptr;
  REQUIRE_OK(cuEventCreate(&first, CU_EVENT_DEFAULT));
  REQUIRE_OK(cuEventCreate(&second, CU_EVENT_DEFAULT));
  REQUIRE_OK(cuEventCreate(&untimed, CU_EVENT_DISABLE_TIMING));
  float ms = 0;
  CHECK_OK(cuEventQuery(first));
  CHECK(cuEventElapsedTime(&ms, first, second) == CUDA_ERROR_INVALID_HANDLE);
  std::atomic<int> done{0};
  {
    Hold hold(session, a.handle);
    CHECK_OK(cuEventRecord(first, a.handle));
    CHECK_OK(cuEventRecord(second, a.handle));
    CHECK_OK(cuEventRecord(untimed, a.handle));
    CHECK(cuEventQuery(first) == CUDA_ERROR_NOT_READY);
    CHECK(cuEventElapsedTime(&ms, first, second) == CUDA_ERROR_NOT_READY);
    CHECK_OK(cuStreamWaitEvent(b.handle, first, 0));
    CHECK_OK(mark(b.handle, done));
    sleep_ms(20);
    CHECK(done == 0);
  }
  CHECK_OK(cuEventSynchronize(second));
  CHECK_OK(cuEventElapsedTime(&ms, first, second));
  CHECK(ms >= 0);
  CHECK(cuEventElapsedTime(&ms, untimed, second) == CUDA_ERROR_INVALID_HANDLE);
  CHECK_OK(cuStreamSynchronize(b.handle));
  CHECK(done == 1);
  CHECK_OK(cuEventDestroy(first));
  CHECK(cuEventDestroy(first) == CUDA_ERROR_INVALID_HANDLE);
  CHECK_OK(cuEventDestroy(second));
  CHECK_OK(cuEventDestroy(untimed));
}

TEST_CASE("cuCtxRecordEvent covers every stream, cuCtxWaitEvent holds all of them") {
  Session session;
  Stream a, b(CU_STREAM_NON_BLOCKING);
  CUevent event = nullptr;
  REQUIRE_OK(cuEventCreate(&event, CU_EVENT_DISABLE_TIMING));
  CHECK_OK(cuCtxRecordEvent(session.context, event));
  CHECK_OK(cuEventQuery(event));
  {
    Hold hold(session, b.handle);
    CHECK_OK(cuCtxRecordEvent(session.context, event));
    CHECK(cuEventQuery(event) == CUDA_ERROR_NOT_READY);
    CHECK_OK(cuCtxWaitEvent(session.context, event));
    CHECK(cuStreamQuery(a.handle) == CUDA_ERROR_NOT_READY);
  }
  CHECK_OK(cuEventSynchronize(event));
  CHECK_OK(cuStreamSynchronize(a.handle));
  CHECK_OK(cuEventDestroy(event));
}

TEST_CASE("stream memory operations wait and write") {
  Session session;
  Stream stream(CU_STREAM_NON_BLOCKING);
  Pinned words(64);
  memset(words.address, 0, 64);
  const auto at = reinterpret_cast<CUdeviceptr>(words.address);
  CHECK_OK(cuStreamWaitValue32(stream.handle, at, 3, CU_STREAM_WAIT_VALUE_GEQ));
  CHECK_OK(cuStreamWriteValue64(stream.handle, at + 8, 0x1122334455667788, 0));
  sleep_ms(10);
  CHECK(cuStreamQuery(stream.handle) == CUDA_ERROR_NOT_READY);
  __atomic_store_n(static_cast<uint32_t*>(words.address), 4u, __ATOMIC_SEQ_CST);
  CHECK_OK(cuStreamSynchronize(stream.handle));
  CHECK(static_cast<uint64_t*>(words.address)[1] == 0x1122334455667788);
  CHECK(cuStreamWaitValue32(stream.handle, at + 1, 0, 0) == CUDA_ERROR_INVALID_VALUE);
}

TEST_CASE("host functions may not call the driver") {
  Session session;
  CUresult inside = CUDA_SUCCESS;
  CHECK_OK(cuLaunchHostFunc(
      nullptr,
      [](void* data) {
        CUdeviceptr p = 0;
        *static_cast<CUresult*>(data) = cuMemAlloc(&p, 16);
      },
      &inside));
  CHECK_OK(cuStreamSynchronize(nullptr));
  CHECK(inside == CUDA_ERROR_NOT_PERMITTED);
  CHECK_OK(cuStreamAddCallback(
      nullptr,
      [](CUstream, CUresult status, void* data) { *static_cast<CUresult*>(data) = status; },
      &inside, 0));
  CHECK_OK(cuStreamSynchronize(nullptr));
  CHECK(inside == CUDA_SUCCESS);
}

TEST_CASE("stream handles, flags, priorities") {
  Session session;
  CUstream stream = nullptr;
  CHECK(cuStreamCreate(&stream, 8) == CUDA_ERROR_INVALID_VALUE);
  REQUIRE_OK(cuStreamCreateWithPriority(&stream, CU_STREAM_NON_BLOCKING, -100));
  int priority = 0;
  unsigned flags = 0;
  CUcontext context = nullptr;
  CHECK_OK(cuStreamGetPriority(stream, &priority));
  CHECK(priority == -5);
  CHECK_OK(cuStreamGetFlags(stream, &flags));
  CHECK(flags == CU_STREAM_NON_BLOCKING);
  CHECK_OK(cuStreamGetCtx(stream, &context));
  CHECK(context == session.context);
  std::atomic<int> done{0};
  CHECK_OK(launch(session.function("flex_spin_ns"), stream, uint64_t{20000000}));
  CHECK_OK(mark(stream, done));
  CHECK_OK(cuStreamDestroy(stream));
  CHECK(cuStreamSynchronize(stream) == CUDA_ERROR_INVALID_HANDLE);
  CHECK_OK(cuCtxSynchronize());
  CHECK(done == 1);  // its work ran to the end
}
