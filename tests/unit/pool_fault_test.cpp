// Every call of the driver fails once at every place where the pool makes it: nothing is lost, nothing is
// promised twice, and the pool goes on working.
#include <catch2/catch.hpp>

#include "tests/unit/pool_bench.h"

using namespace flexlom::pool;
using flexlom::unit::PoolBench;

namespace {

// Grows, spills, frees behind work, trims, gives access to a peer, and grows again.
void exercise(PoolBench& bench) {
  std::vector<CUdeviceptr> held;
  const auto grow = [&](size_t bytes) {
    CUdeviceptr p = 0;
    if (bench.allocate(bytes, &p) != CUDA_SUCCESS) return;
    REQUIRE(bench.driver.accessible(p, bytes));
    held.push_back(p);
  };
  for (const size_t bytes : {size_t{600}, size_t{200'000}, 3 * kGranule, 5 * kGranule, 12 * kGranule}) grow(bytes);
  bench.pool->allow_access(1);
  bench.submit();
  for (const CUdeviceptr p : held) bench.free(p);
  held.clear();
  grow(3 * kGranule);
  bench.finish();
  grow(9 * kGranule);
  grow(2 * kGranule);
  for (const CUdeviceptr p : held) bench.free(p);
  held.clear();
  bench.pool->make_host_frame();
  for (int i = 0; i < 4; ++i) bench.pool->sweep(1);
  bench.pool->trim(0);
}

}  // namespace

TEST_CASE("pool: one failing driver call, at every place") {
  const auto call = GENERATE("create", "release", "map", "unmap", "set_access", "record", "query", "event_create");
  int places = 0;
  for (int nth = 1; nth < 200; nth += nth < 10 ? 1 : 4) {  // each may wait 100 ms for work
    PoolBench bench(16, 64);
    bench.driver.fail(call, nth, CUDA_ERROR_UNKNOWN);
    exercise(bench);
    if (bench.driver.faults_hit() == 0) break;
    ++places;
    INFO(call << " failing at call " << nth);
    // The pool's books never say less than what the driver still holds.
    CHECK(bench.pool->stats().device_held_bytes >= bench.driver.held_bytes(Where::device));
    CHECK(bench.host_budget.held() >= bench.driver.held_bytes(Where::host));
    CHECK(bench.driver.problems() == "");
    // It goes on working.
    exercise(bench);
    const CUdeviceptr p = bench.must(2 * kGranule);
    CHECK(bench.driver.accessible(p, 2 * kGranule));
    bench.free(p);
  }
  INFO(call);
  CHECK(places > 0);
}

TEST_CASE("pool: driver calls that fail for good leave a pool that refuses and does not break") {
  const auto call = GENERATE("create", "map", "set_access");
  PoolBench bench(16, 16);
  for (int i = 0; i < 50; ++i) {
    for (int again = 0; again < 4; ++again) {
      bench.driver.fail(call, 1, CUDA_ERROR_OUT_OF_MEMORY);
      CUdeviceptr p = 0;
      if (bench.allocate((1 + static_cast<size_t>(i) % 7) * kGranule, &p) == CUDA_SUCCESS) bench.free(p);
    }
  }
  bench.driver.fail(call, 1 << 30);
  bench.free(bench.must(4 * kGranule));
  bench.pool->trim(0);
  CHECK(bench.driver.held_bytes(Where::device) == 0);
  CHECK(bench.pool->stats().device_held_bytes == 0);
}

TEST_CASE("pool: a reservation that fails is tried smaller, then given up") {
  PoolBench bench(16, 16);
  DevicePool::Config config{};
  config.base_hint = 0x4000'0000'0000;
  config.address_bytes = size_t{1} << 38;
  config.device_budget_bytes = config.device_total_bytes = 16 * kGranule;
  CUresult error = CUDA_SUCCESS;
  bench.driver.fail("reserve", 1);
  auto smaller = DevicePool::create(bench.driver, bench.fence, nullptr, bench.host_budget, config, &error);
  REQUIRE(smaller != nullptr);
  CHECK(smaller->address_bytes() == size_t{1} << 37);
  config.address_bytes = size_t{1} << 36;
  bench.driver.fail("reserve", 1);
  CHECK(DevicePool::create(bench.driver, bench.fence, nullptr, bench.host_budget, config, &error) == nullptr);
  CHECK(error == CUDA_ERROR_OUT_OF_MEMORY);
}
