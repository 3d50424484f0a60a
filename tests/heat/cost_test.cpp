// What looking costs: `heat_unit [cost]` prints it. Not part of a plain run, which a busy machine
// would fail.
#include <time.h>

#include <algorithm>
#include <cstdio>

#include "tests/heat/testing.h"

namespace testing {
namespace {

uint64_t now_ns() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return static_cast<uint64_t>(t.tv_sec) * 1'000'000'000u + static_cast<uint64_t>(t.tv_nsec);
}

// The median of many runs, in ns for one call.
template <class F>
double cost(F call) {
  constexpr int kCalls = 1000;
  std::vector<uint64_t> times;
  for (int run = 0; run < 201; ++run) {
    const uint64_t start = now_ns();
    for (int i = 0; i < kCalls; ++i) call();
    times.push_back(now_ns() - start);
  }
  std::nth_element(times.begin(), times.begin() + 100, times.end());
  return static_cast<double>(times[100]) / kCalls;
}

}  // namespace

TEST_CASE("cost of one launch", "[.][cost]") {
  note_pool();
  FakeKernels kernels;
  std::vector<Param> ten;
  for (size_t i = 0; i < 10; ++i) ten.push_back({i * 8, i % 3 == 2 ? size_t{4} : size_t{8}});
  for (uintptr_t i = 1; i < 500; ++i) {
    kernels.kernel(i * 256, ten);
    flexlom::heat::layout_of(reinterpret_cast<void*>(i * 256));
  }
  CUdeviceptr values[10];
  void* params[10];
  for (size_t i = 0; i < 10; ++i) {
    values[i] = i % 2 == 0 ? kPool + i * kMiB : i;
    params[i] = &values[i];
  }
  const CUfunction block = kernels.function(0x100000, {{0, 4096}});
  std::vector<CUdeviceptr> large(512, 3);
  void* large_params[] = {large.data()};
  uint64_t sum = 0;
  uintptr_t next = 0;
  const auto launch = [&](CUfunction f, void** list) {
    Named named;
    flexlom::heat::names(Entry::cuLaunchKernel, named, f, 8u, 8u, 1u, 256u, 1u, 1u, 0u, CUstream{},
                         list, static_cast<void**>(nullptr));
    sum += named.count;
  };
  const double small = cost([&] {
    next = next % 499 + 1;
    launch(reinterpret_cast<CUfunction>(next * 256), params);
  });
  const double structure = cost([&] { launch(block, large_params); });
  std::printf("10 parameters, 499 functions: %.1f ns\n4096 bytes by value: %.1f ns\n", small,
              structure);
  CHECK(sum > 0);
  CHECK(small <= 60);
}

}  // namespace testing
