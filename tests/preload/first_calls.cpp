// Many threads make the process's first CUDA calls at the same moment, each in its own way. Whoever
// comes first sets things up once; all get the same addresses and working memory.
#include <cuda.h>
#include <pthread.h>

#include <set>
#include <thread>
#include <vector>

#include "tests/preload/session.hpp"

using namespace preload;

int main() {
  constexpr int count = 16;
  pthread_barrier_t barrier;
  pthread_barrier_init(&barrier, nullptr, count);
  std::vector<std::thread> threads;
  void* found[count] = {};
  bool good[count] = {};
  for (int i = 0; i < count; ++i)
    threads.emplace_back([&, i] {
      pthread_barrier_wait(&barrier);
      void* driver = open_driver(i % 2 == 0 ? RTLD_NOW | RTLD_LOCAL : RTLD_LAZY | RTLD_GLOBAL);
      const Cuda cuda(driver);
      found[i] = reinterpret_cast<void*>(cuda.cuMemAlloc_v2_);
      cuda.start();
      good[i] = cuda.round_trip(size_t{1000} << (i % 8)) && cuda.round_trip(3 << 20);
    });
  for (std::thread& thread : threads) thread.join();
  for (const bool ok : good) CHECK(ok);
  CHECK(std::set<void*>(found, found + count).size() == 1);
  CHECK(in_flexlom(found[0]) == under_flexlom());
  return verdict();
}
