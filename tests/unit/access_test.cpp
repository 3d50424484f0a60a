// Several devices in one process: in whose context pages move, and who reaches them.
#include <catch2/catch.hpp>

#include "pool/pool.h"
#include "tests/unit/move_bench.h"

using namespace flexlom::pool;
using flexlom::unit::fake_context;
using flexlom::unit::FakeDriver;
using flexlom::unit::MoveBench;

namespace {

const CUcontext kOther = fake_context(2);

// MoveBench is of device 0; the context is of device 1.
void add_other(MoveBench& bench) {
  bench.driver.put_on(kOther, 1);
  REQUIRE(bench.fence.add_context(kOther) == 1);
}

}  // namespace

TEST_CASE("access: the fence knows a context of each device") {
  FakeDriver driver;
  std::atomic<uint32_t> word{0};
  Fence fence(driver, word);
  const CUcontext first = fake_context(1), second = fake_context(3);
  driver.put_on(kOther, 1);
  CHECK(fence.context_on(0, first) == nullptr);
  fence.add_context(first);
  fence.add_context(kOther);
  fence.add_context(second);
  CHECK(fence.context_on(0, second) == second);
  CHECK(fence.context_on(0, kOther) == first);
  CHECK(fence.context_on(1, first) == kOther);
  CHECK(fence.context_on(2, first) == nullptr);
  fence.destroy_events(first);  // it is about to be destroyed
  CHECK(fence.context_on(0, first) == second);
  fence.add_context(first);
  CHECK(fence.context_on(0, first) == first);
  fence.remove_context(kOther);
  CHECK(fence.context_on(1, kOther) == nullptr);
}

TEST_CASE("access: pages move in a context of their own device") {
  MoveBench bench(64, 64);
  add_other(bench);
  const CUdeviceptr p = bench.make(8);
  // As when work of another device names the page.
  bench.mover.run({bench.pool.get(), kOther, bench.pages(Where::device, p), {}});
  CHECK(bench.spilled(p) == 8 * kGranule);
  bench.mover.run({bench.pool.get(), kOther, {}, bench.pages(Where::host, p)});
  CHECK(bench.spilled(p) == 0);
  bench.verify();  // no copy was made in the other's
}

TEST_CASE("access: nothing moves while the device has no context") {
  MoveBench bench(64, 64);
  add_other(bench);
  const CUdeviceptr p = bench.make(8);
  bench.fence.destroy_events(bench.context);
  bench.fence.remove_context(bench.context);
  CHECK(bench.mover.run({bench.pool.get(), kOther, bench.pages(Where::device, p), {}}).given_up);
  CHECK(bench.spilled(p) == 0);
  bench.fence.add_context(bench.context);
}

TEST_CASE("access: peers reach all pages, other devices those on the host") {
  const bool host_only = GENERATE(true, false);
  const bool early = GENERATE(true, false);
  MoveBench bench(32, 64);
  if (early) REQUIRE(bench.pool->allow_access(1, host_only) == CUDA_SUCCESS);
  const CUdeviceptr a = bench.make(24), b = bench.make(24, false);
  REQUIRE(bench.spilled(b) > 0);
  if (!early) REQUIRE(bench.pool->allow_access(1, host_only) == CUDA_SUCCESS);
  CHECK(bench.pool->accessible_by(1) == !host_only);
  const auto check = [&] {
    for (const CUdeviceptr p : {a, b}) {
      for (size_t i = 0; i < 24; ++i) {
        const CUdeviceptr at = p + i * kGranule;
        const bool on_host = bench.driver.backing(at) == Where::host;
        CHECK(bench.driver.accessible(at, kGranule, 1) == (on_host || !host_only));
        CHECK(bench.driver.accessible(at, kGranule, 0));
      }
    }
  };
  check();
  bench.demote(a);
  check();
  bench.promote(b);
  check();
  if (host_only) {
    REQUIRE(bench.pool->allow_access(1) == CUDA_SUCCESS);
    CHECK(bench.pool->accessible_by(1));
    CHECK(bench.driver.accessible(a, 24 * kGranule, 1));
    CHECK(bench.driver.accessible(b, 24 * kGranule, 1));
  }
}

TEST_CASE("access: a device gets at pages on the host with its first context") {
  FakeDriver driver;
  driver.capacity_bytes = 8 * kGranule;
  std::atomic<uint32_t> word{0};
  PoolConfig config;
  config.host_budget_bytes = 64 * kGranule;
  config.device_budget = [](void*, int, const DeviceFacts&) { return 8 * uint64_t{kGranule}; };
  config.idle_trim_ms = -1;
  Pool pool(driver, word, nullptr, config);
  driver.put_on(kOther, 1);
  const bool before = GENERATE(true, false);
  if (before) pool.add_context(kOther);
  pool.add_context(fake_context(1));
  Request request;
  request.bytes = 24 * kGranule;
  request.context = fake_context(1);
  CUdeviceptr p = 0;
  REQUIRE(pool.allocate(request, 0, &p) == CUDA_SUCCESS);
  if (!before) {
    CHECK_FALSE(driver.accessible(p + 23 * kGranule, kGranule, 1));
    pool.add_context(kOther);
  }
  size_t host = 0;
  for (size_t i = 0; i < 24; ++i) {
    const CUdeviceptr at = p + i * kGranule;
    host += driver.backing(at) == Where::host;
    CHECK(driver.accessible(at, kGranule, 1) == (driver.backing(at) == Where::host));
  }
  CHECK(host >= 16);
  CHECK(driver.problems() == "");
}
