#include "tests/simcuda/testing.hpp"

#include <time.h>

#include <algorithm>

using namespace testing;

TEST_CASE("fault rules fail the n-th call, from the n-th on, at random, or are slow") {
  Session session;
  CUdeviceptr p = 0;
  const auto allocate = [&] {
    const CUresult code = cuMemAlloc(&p, 64);
    if (!code) CHECK_OK(cuMemFree(p));
    return code;
  };
  SECTION("n-th") {
    const uint64_t hits = simcuda_counters("cuMemAlloc!fault");
    const uint64_t calls = simcuda_counters("cuMemAlloc_v2");
    REQUIRE(simcuda_fault("cuMemAlloc:n=2:err=999") == 0);
    CHECK(allocate() == CUDA_SUCCESS);
    CHECK(allocate() == CUDA_ERROR_UNKNOWN);
    CHECK(allocate() == CUDA_SUCCESS);
    CHECK(simcuda_counters("cuMemAlloc!fault") == hits + 1);
    CHECK(simcuda_counters("cuMemAlloc_v2") == calls + 3);
  }
  SECTION("from the n-th on") {
    REQUIRE(simcuda_fault("cuMemAlloc_v2:n=2+") == 0);
    CHECK(allocate() == CUDA_SUCCESS);
    CHECK(allocate() == CUDA_ERROR_OUT_OF_MEMORY);
    CHECK(allocate() == CUDA_ERROR_OUT_OF_MEMORY);
  }
  SECTION("at random, repeatably") {
    const auto run = [&] {
      REQUIRE(simcuda_fault("cuMemAlloc:p=0.3:seed=7") == 0);
      std::string outcome;
      for (int i = 0; i < 100; ++i) outcome += allocate() ? 'x' : '.';
      return outcome;
    };
    const std::string first = run();
    CHECK(first == run());
    const auto failures = std::count(first.begin(), first.end(), 'x');
    CHECK(failures > 10);
    CHECK(failures < 60);
  }
  SECTION("slow") {
    REQUIRE(simcuda_fault("cuMemAlloc:delay_us=20000") == 0);
    timespec a, b;
    clock_gettime(CLOCK_MONOTONIC, &a);
    CHECK(allocate() == CUDA_SUCCESS);
    clock_gettime(CLOCK_MONOTONIC, &b);
    CHECK((b.tv_sec - a.tv_sec) * 1000000000 + b.tv_nsec - a.tv_nsec >= 20000000);
  }
  SECTION("every call, and several rules") {
    REQUIRE(simcuda_fault("*:n=3;cuMemFree:err=1") == 0);
    CHECK(cuMemAlloc(&p, 64) == CUDA_SUCCESS);
    CHECK(cuMemFree(p) == CUDA_ERROR_INVALID_VALUE);
    CHECK(cuCtxSynchronize() == CUDA_ERROR_OUT_OF_MEMORY);
    REQUIRE(simcuda_fault("") == 0);
    CHECK(cuMemFree(p) == CUDA_SUCCESS);
  }
  SECTION("rules that make no sense are refused") {
    for (const char* bad :
         {"cuMemAlloc:n=", "cuMemAlloc:n=0", ":n=1", "cuMemAlloc:x=1", "cuInit:n"})
      CHECK(simcuda_fault(bad) == -1);
  }
}

TEST_CASE("a failed call leaves nothing behind") {
  Session session;
  CUdeviceptr range = 0;
  REQUIRE_OK(cuMemAddressReserve(&range, kPage, 0, 0, 0));
  CUmemGenericAllocationHandle handle = 0;
  CUmemAllocationProp properties = device_memory();
  CUmemAccessDesc access = read_write();
  REQUIRE(simcuda_fault("cuMemCreate:n=1;cuMemMap:n=1;cuMemSetAccess:n=1;cuMemUnmap:n=1;"
                        "cuMemRelease:n=1") == 0);
  CHECK(cuMemCreate(&handle, kPage, &properties, 0) == CUDA_ERROR_OUT_OF_MEMORY);
  CHECK(simcuda_device_bytes(0) == 0);
  REQUIRE_OK(cuMemCreate(&handle, kPage, &properties, 0));
  CHECK(cuMemMap(range, kPage, 0, handle, 0) == CUDA_ERROR_OUT_OF_MEMORY);
  REQUIRE_OK(cuMemMap(range, kPage, 0, handle, 0));
  CHECK(cuMemSetAccess(range, kPage, &access, 1) == CUDA_ERROR_OUT_OF_MEMORY);
  REQUIRE_OK(cuMemSetAccess(range, kPage, &access, 1));
  CHECK(cuMemUnmap(range, kPage) == CUDA_ERROR_OUT_OF_MEMORY);
  REQUIRE_OK(cuMemUnmap(range, kPage));
  CHECK(cuMemRelease(handle) == CUDA_ERROR_OUT_OF_MEMORY);
  REQUIRE_OK(cuMemRelease(handle));
  CHECK_OK(cuMemAddressFree(range, kPage));
}
