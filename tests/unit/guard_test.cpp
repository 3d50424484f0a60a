// Guard mode's placement: what lies beside an allocation, and what is left of it when it is freed.
#include <catch2/catch.hpp>

#include <chrono>
#include <map>
#include <random>
#include <set>
#include <thread>

#include "pool/guard.h"
#include "tests/unit/pool_bench.h"

using namespace flexlom::pool;
using flexlom::unit::fake_context;
using flexlom::unit::PoolBench;

namespace {

constexpr CUdeviceptr kBase = 0x5000'0000'0000;

struct GuardBench : PoolBench {
  GuardBench(uint64_t device_granules, uint64_t host_granules, size_t address_bytes = size_t{1} << 36)
      : PoolBench(device_granules, host_granules, false, true, address_bytes) {}
  void release(CUdeviceptr p) {
    free(p);
    pool->settle(0);
  }
};

}  // namespace

TEST_CASE("guard: an allocation ends where its pages end, between unmapped granules") {
  const size_t bytes = GENERATE(size_t{1}, size_t{255}, size_t{256}, size_t{1000}, size_t{100'000}, kSmallLimit,
                                kGranule - 1, kGranule, kGranule + 1, 5 * kGranule, 70 * kGranule + 12345);
  GuardBench bench(512, 0);
  for (int i = 0; i < 3; ++i) {
    const CUdeviceptr p = bench.must(bytes);
    CHECK(p % kGuardAlignment == 0);
    const CUdeviceptr end = (p + bytes + kGranule - 1) & ~CUdeviceptr{kGranule - 1};
    CHECK(end - (p + bytes) < kGuardAlignment);
    const CUdeviceptr begin = p & ~CUdeviceptr{kGranule - 1};
    CHECK(bench.driver.accessible(begin, end - begin));
    CHECK_FALSE(bench.driver.accessible(end, 1));
    CHECK_FALSE(bench.driver.accessible(begin - 1, 1));
    AllocationInfo info;
    REQUIRE(bench.pool->find(p, &info));
    CHECK(info.base == p);
    CHECK(info.asked_bytes == bytes);
    CHECK(p + info.given_bytes == end);
    CHECK(bench.pool->find(p + bytes - 1, &info));
    CHECK_FALSE(bench.pool->find(p + bytes, &info));
    CHECK_FALSE(bench.pool->find(p - 1, &info));
  }
}

TEST_CASE("guard: freed memory is unmapped, and its addresses are not used again") {
  GuardBench bench(64, 0);
  std::set<CUdeviceptr> seen;
  for (int i = 0; i < 500; ++i) {
    const size_t bytes = i % 3 == 0 ? 100 : 3 * kGranule;
    const CUdeviceptr p = bench.must(bytes);
    REQUIRE(seen.insert(p).second);
    bench.release(p);
    REQUIRE_FALSE(bench.driver.accessible(p, 1));
  }
  CHECK(bench.observer.retired == 500);
  CHECK(bench.observer.warnings == 0);
  CHECK(bench.driver.live_mappings() == 0);
}

TEST_CASE("guard: the same requests give the same addresses in every run") {
  const auto run = [] {
    GuardBench bench(256, 0);
    std::vector<CUdeviceptr> all, live;
    std::mt19937 random(3);
    for (int i = 0; i < 200; ++i) {
      all.push_back(bench.must(1 + random() % (3 * kGranule)));
      live.push_back(all.back());
      if (live.size() > 20) {
        const size_t which = random() % live.size();
        bench.release(live[which]);
        live.erase(live.begin() + static_cast<std::ptrdiff_t>(which));
      }
    }
    return all;
  };
  CHECK(run() == run());
}

TEST_CASE("guard: memory freed behind running work stays mapped until that work is done") {
  GuardBench bench(64, 0);
  const CUdeviceptr p = bench.must(5000);
  bench.submit();
  bench.release(p);
  CHECK(bench.driver.accessible(p, 5000));
  CHECK(bench.observer.retired == 0);
  AllocationInfo info;
  CHECK_FALSE(bench.pool->find(p, &info));
  CHECK(bench.pool->free("test", p, 0) == CUDA_ERROR_INVALID_VALUE);
  bench.finish();
  bench.pool->settle(1'000'000);
  CHECK_FALSE(bench.driver.accessible(p, 1));
  CHECK(bench.observer.retired == 1);
}

TEST_CASE("guard: work that never ends is waited for once, not at every free") {
  GuardBench bench(64, 0);
  std::vector<CUdeviceptr> all;
  for (int i = 0; i < 20; ++i) all.push_back(bench.must(100));
  bench.submit();
  const auto start = std::chrono::steady_clock::now();
  for (const CUdeviceptr p : all) {
    bench.free(p);
    bench.pool->settle(100'000'000);
  }
  CHECK(std::chrono::steady_clock::now() - start < std::chrono::milliseconds(1000));
  CHECK(bench.observer.retired == 0);
  bench.finish();
  bench.pool->settle(100'000'000);
  CHECK(bench.observer.retired == 20);
}

TEST_CASE("guard: with the device full of what running work still uses, that is waited for, then memory spills") {
  GuardBench bench(8, 64);
  const CUdeviceptr p = bench.must(6 * kGranule);
  bench.release(p);
  const CUdeviceptr q = bench.must(8 * kGranule);  // fits: what was freed is idle
  CHECK(bench.driver.held_bytes(Where::host) == 0);
  const CUdeviceptr r = bench.must(100);
  CHECK(bench.driver.held_bytes(Where::host) == kGranule);
  AllocationInfo info;
  REQUIRE(bench.pool->find(r, &info));
  CHECK(info.spilled_bytes > 0);
  bench.release(q);
  bench.release(r);
  CUdeviceptr none = 0;
  CHECK(bench.allocate(1000 * kGranule, &none) == CUDA_ERROR_OUT_OF_MEMORY);
}

TEST_CASE("guard: when the address space is used up, addresses are used again, oldest first, and told once") {
  // 32768 granules; each of these takes 4096 with its guard, so 7 fit beside the first guard.
  GuardBench bench(8192, 0, size_t{1} << 36);
  std::vector<CUdeviceptr> order;
  for (int i = 0; i < 7; ++i) {
    order.push_back(bench.must(4095 * kGranule));
    bench.release(order.back());
  }
  CHECK(bench.observer.warnings == 0);
  for (int i = 0; i < 14; ++i) {
    const CUdeviceptr p = bench.must(4095 * kGranule);
    CHECK(p == order[static_cast<size_t>(i) % 7]);
    bench.release(p);
  }
  CHECK(bench.observer.warnings == 1);
}

TEST_CASE("guard: an allocation that fails leaves its addresses for the next") {
  GuardBench bench(64, 0);
  const CUdeviceptr p = bench.must(kGranule);
  const char* call = GENERATE("create", "map", "set_access");
  bench.driver.fail(call);
  CUdeviceptr q = 0;
  CHECK(bench.allocate(kGranule, &q) == CUDA_ERROR_OUT_OF_MEMORY);
  CHECK(bench.must(kGranule) == p + 2 * kGranule);
}

TEST_CASE("guard: what a context owned ends with it") {
  GuardBench bench(64, 0);
  const CUdeviceptr p = bench.must(100);
  Request async = bench.request(100);
  async.kind = Kind::async;
  CUdeviceptr kept = 0;
  REQUIRE(bench.pool->allocate(async, 0, &kept) == CUDA_SUCCESS);
  bench.pool->release_context(fake_context(1));
  bench.pool->settle(0);
  CHECK_FALSE(bench.driver.accessible(p, 1));
  CHECK(bench.driver.accessible(kept, 100));
}

TEST_CASE("guard: many threads allocate and free") {
  GuardBench bench(512, 64);
  std::vector<std::thread> threads;
  for (unsigned t = 0; t < 4; ++t) {
    threads.emplace_back([&bench, t] {
      std::mt19937 random(t);
      std::vector<CUdeviceptr> mine;
      for (int i = 0; i < 400; ++i) {
        CUdeviceptr p = 0;
        if (bench.allocate(1 + random() % (2 * kGranule), &p, t) == CUDA_SUCCESS) mine.push_back(p);
        if (mine.size() > 10 || (!mine.empty() && random() % 2 == 0)) {
          bench.pool->free("test", mine.back(), 0);
          mine.pop_back();
          bench.pool->settle(0);
        }
      }
      for (const CUdeviceptr p : mine) bench.pool->free("test", p, 0);
    });
  }
  for (std::thread& t : threads) t.join();
  bench.pool->settle(0);
  CHECK(bench.pool->stats().live == 0);
  CHECK(bench.driver.live_mappings() == 0);
}
