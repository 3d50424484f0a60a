// Threads come and go while others allocate; what one allocated another frees, after its maker has
// ended. Thread local destructors use the driver too, at the very end of a thread.
#include <cuda.h>
#include <pthread.h>

#include <mutex>
#include <thread>
#include <vector>

#include "tests/preload/session.hpp"

using namespace preload;

namespace {

const Cuda* cuda = nullptr;
std::mutex mutex;
std::vector<CUdeviceptr> orphans;  // guarded by mutex

struct AtThreadEnd {
  CUdeviceptr p = 0;
  ~AtThreadEnd() {
    if (p != 0) CHECK_OK(cuda->cuMemFree_v2_(p));
    CHECK(cuda->round_trip(4096));
  }
};

void* key_value = nullptr;
void at_key_end(void*) {
  cuda->use_primary();  // the driver may have taken its leave of this thread already
  CHECK(cuda->round_trip(1 << 20));
}

}  // namespace

int main() {
  const Cuda& calls =
      *new Cuda(open_driver());  // never deleted: detached threads use it to the end
  cuda = &calls;
  calls.start();
  pthread_key_t key;
  CHECK(pthread_key_create(&key, &at_key_end) == 0);
  for (int round = 0; round < 30; ++round) {
    std::vector<std::thread> threads;
    for (int t = 0; t < 4; ++t) {
      threads.emplace_back([&, t] {
        static thread_local AtThreadEnd end;
        calls.use_primary();
        pthread_setspecific(key, &key_value);
        CHECK_OK(calls.cuMemAlloc_v2_(&end.p, 70000));
        CUdeviceptr left = 0;
        CHECK_OK(calls.cuMemAlloc_v2_(&left, size_t{300} << t * 4));
        std::lock_guard lock(mutex);
        orphans.push_back(left);
      });
    }
    for (std::thread& thread : threads) thread.join();
    for (CUdeviceptr p : orphans) CHECK_OK(calls.cuMemFree_v2_(p));
    orphans.clear();
  }
  // Ends with threads still at work: the exit must not wait for them, nor stumble over them.
  for (int t = 0; t < 2; ++t)
    std::thread([] {
      cuda->use_primary();
      for (;;) {
        CUdeviceptr p = 0;
        if (cuda->cuMemAlloc_v2_(&p, 1 << 16) == CUDA_SUCCESS) cuda->cuMemFree_v2_(p);
      }
    }).detach();
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  return verdict();
}
