// The pool of the process: devices opened on demand, addresses found, contexts and streams that end.
#include <catch2/catch.hpp>

#include <thread>

#include "pool/pool.h"
#include "tests/unit/fake_driver.h"

using namespace flexlom::pool;
using flexlom::unit::fake_context;
using flexlom::unit::FakeDriver;

namespace {

uint64_t half(void* user, int device, const DeviceFacts& facts) {
  static_cast<std::atomic<int>*>(user)->fetch_add(1);
  return facts.total_bytes / 2 + static_cast<uint64_t>(device);
}

struct Bench {
  FakeDriver driver;
  std::atomic<uint32_t> word{0};
  std::atomic<int> budgets_asked{0};
  PoolConfig config;
  std::unique_ptr<Pool> pool;

  Bench() {
    driver.capacity_bytes = 64 * kGranule;
    config.host_budget_bytes = 64 * kGranule;
    config.device_budget = &half;
    config.user = &budgets_asked;
    config.idle_trim_ms = -1;
  }
  ~Bench() {
    pool.reset();
    CHECK(driver.live_frames() == 0);
    CHECK(driver.problems() == "");
  }
  Pool& open() {
    pool = std::make_unique<Pool>(driver, word, nullptr, config);
    return *pool;
  }
  static Request request(int device, size_t bytes) {
    Request r;
    r.device = device;
    r.bytes = bytes;
    r.context = fake_context(static_cast<uint64_t>(device) + 1);
    return r;
  }
};

}  // namespace

TEST_CASE("pool: devices open when they first allocate, each in its own range") {
  Bench bench;
  Pool& pool = bench.open();
  CHECK(bench.driver.all_calls() == 0);
  CUdeviceptr a = 0, b = 0;
  REQUIRE(pool.allocate(Bench::request(0, 1000), 0, &a) == CUDA_SUCCESS);
  REQUIRE(pool.allocate(Bench::request(3, 1000), 0, &b) == CUDA_SUCCESS);
  CHECK(a == 0x5000'0000'0000);
  CHECK(b == 0x5000'0000'0000 - 3 * (CUdeviceptr{1} << 42));
  CHECK(bench.budgets_asked == 2);
  REQUIRE(pool.owner(a) != nullptr);
  CHECK(pool.owner(a)->device() == 0);
  CHECK(pool.owner(b + (CUdeviceptr{1} << 42) - 1) == pool.device(3));
  CHECK(pool.device(3)->stats().device_budget_bytes == 32 * kGranule);
  int devices = 0;
  pool.each_device([&](const DevicePool&) { ++devices; });
  CHECK(devices == 2);
  CHECK(pool.free("test", a, 0) == CUDA_SUCCESS);
  CHECK(pool.free("test", b, 0) == CUDA_SUCCESS);
}

TEST_CASE("pool: addresses that are nobody's") {
  Bench bench;
  Pool& pool = bench.open();
  CUdeviceptr a = 0;
  REQUIRE(pool.allocate(Bench::request(0, 1000), 0, &a) == CUDA_SUCCESS);
  AllocationInfo info;
  const CUdeviceptr end = pool.device(0)->base() + pool.device(0)->address_bytes();
  for (const CUdeviceptr p : {CUdeviceptr{0}, CUdeviceptr{1}, a - 1, end, a ^ (CUdeviceptr{1} << 48), ~CUdeviceptr{0}}) {
    CHECK(pool.owner(p) == nullptr);
    CHECK_FALSE(pool.find(p, &info));
    CHECK(pool.free("test", p, 0) == CUDA_ERROR_INVALID_VALUE);
  }
  CHECK(pool.owner(end - 1) != nullptr);
  CHECK_FALSE(pool.find(end - 1, &info));
  CHECK(pool.find(a, &info));
}

TEST_CASE("pool: a driver without VMM is not pooled, and asked once") {
  Bench bench;
  bench.driver.vmm = false;
  Pool& pool = bench.open();
  CUdeviceptr p = 0;
  for (int i = 0; i < 3; ++i) CHECK(pool.allocate(Bench::request(0, 1000), 0, &p) == CUDA_ERROR_NOT_SUPPORTED);
  CHECK(bench.driver.calls("facts") == 1);
  for (const int wrong : {-1, kMaxDevices, 1 << 30}) CHECK(pool.device(wrong) == nullptr);
}

TEST_CASE("pool: facts that fail are asked for again") {
  Bench bench;
  bench.driver.fail("facts");
  Pool& pool = bench.open();
  CHECK(pool.device(0) == nullptr);
  CHECK(pool.device(0) != nullptr);
}

TEST_CASE("pool: the end of a context ends its memory on every device") {
  Bench bench;
  Pool& pool = bench.open();
  Request request = Bench::request(0, 3 * kGranule);
  CUdeviceptr a = 0, b = 0;
  REQUIRE(pool.allocate(request, 0, &a) == CUDA_SUCCESS);
  pool.fence().add_context(request.context);
  Request other = Bench::request(1, 3 * kGranule);
  REQUIRE(pool.allocate(other, 0, &b) == CUDA_SUCCESS);
  pool.end_context(request.context);
  AllocationInfo info;
  CHECK_FALSE(pool.find(a, &info));
  CHECK(pool.find(b, &info));
}

TEST_CASE("pool: many threads open one device once") {
  Bench bench;
  Pool& pool = bench.open();
  std::vector<std::thread> threads;
  std::atomic<int> served{0};
  for (unsigned t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      CUdeviceptr p = 0;
      if (pool.allocate(Bench::request(0, 1000), t, &p) == CUDA_SUCCESS) ++served;
    });
  }
  for (std::thread& t : threads) t.join();
  CHECK(served == 4);
  CHECK(bench.driver.calls("reserve") == 1);
}

TEST_CASE("pool: idle memory goes back by itself") {
  Bench bench;
  bench.config.idle_trim_ms = 100;
  Pool& pool = bench.open();
  CUdeviceptr p = 0;
  REQUIRE(pool.allocate(Bench::request(0, 3 * kGranule), 0, &p) == CUDA_SUCCESS);
  REQUIRE(pool.free("test", p, 0) == CUDA_SUCCESS);
  for (int i = 0; i < 500 && bench.driver.held_bytes(Where::device) > 0; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  CHECK(bench.driver.held_bytes(Where::device) == 0);
  pool.stop_threads();
}
