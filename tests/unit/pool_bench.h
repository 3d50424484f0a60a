// A pool of one device on the driver in memory, with budgets given in granules of 2 MiB.
#pragma once

#include <catch2/catch.hpp>

#include <optional>

#include "pool/device_pool.h"
#include "pool/residency/residency.h"
#include "tests/unit/fake_driver.h"

namespace flexlom::unit {

struct CountingObserver : pool::Observer {
  std::atomic<int> ooms{0}, soft_ooms{0}, warnings{0}, retired{0}, at_once{0};
  std::atomic<int64_t> mapped_bytes{0}, live{0};
  void allocated(const pool::Request&, const pool::AllocationInfo&, bool once) noexcept override {
    ++live;
    at_once += once;
  }
  void freed(const char*, const pool::AllocationInfo&, pool::StreamKey) noexcept override { --live; }
  void mapped(int, CUdeviceptr, size_t bytes, Where) noexcept override { mapped_bytes += static_cast<int64_t>(bytes); }
  void unmapped(int, CUdeviceptr, size_t bytes, Where) noexcept override { mapped_bytes -= static_cast<int64_t>(bytes); }
  void out_of_memory(const pool::OutOfMemory& o) noexcept override { ++(o.soft ? soft_ooms : ooms); }
  void retiring(const pool::AllocationInfo&) noexcept override { ++retired; }
  void warned(std::string_view) noexcept override { ++warnings; }
};

struct PoolBench {
  FakeDriver driver;
  std::atomic<uint32_t> word{0};
  pool::Fence fence{driver, word};
  pool::Budget host_budget;
  CountingObserver observer;
  pool::Gate gate;
  std::optional<pool::Residency> residency;
  std::unique_ptr<pool::DevicePool> pool;

  PoolBench(uint64_t device_granules, uint64_t host_granules, bool moving = false, bool guard = false,
            size_t address_bytes = size_t{1} << 36)
      : host_budget(host_granules * kGranule) {
    driver.device_limit_bytes = device_granules * kGranule;
    driver.host_limit_bytes = host_granules * kGranule;
    fence.add_context(fake_context(1));
    pool::DevicePool::Config config;
    config.device = 0;
    config.base_hint = 0x5000'0000'0000;
    config.address_bytes = address_bytes;
    config.guard = guard;
    config.device_budget_bytes = device_granules * kGranule;
    config.device_total_bytes = device_granules * kGranule * 2;
    config.host_vmm = host_granules > 0;
    if (moving) {
      driver.gate = &gate;
      residency.emplace(driver, fence, gate, &observer, pool::Residency::Config{});
    }
    CUresult error = CUDA_SUCCESS;
    pool = pool::DevicePool::create(driver, fence, &observer, host_budget, config, &error,
                                    residency ? &*residency : nullptr);
    REQUIRE(pool != nullptr);
    REQUIRE(error == CUDA_SUCCESS);
  }
  ~PoolBench() {
    if (pool != nullptr && driver.faults_hit() == 0) {
      CHECK(pool->stats().device_held_bytes == driver.held_bytes(Where::device));
      CHECK(host_budget.held() == driver.held_bytes(Where::host));
    }
    if (residency) {
      std::lock_guard lock(residency->mover().mutex());
      residency->mover().release_context(fake_context(1));
    }
    pool.reset();
    if (driver.faults_hit() == 0) CHECK(driver.live_frames() == 0);
    CHECK(driver.problems() == "");
  }

  pool::Request request(size_t bytes) const {
    pool::Request r;
    r.call = "test";
    r.bytes = bytes;
    r.context = fake_context(1);
    return r;
  }
  CUresult allocate(size_t bytes, CUdeviceptr* p, unsigned shard = 0) {
    return pool->allocate(request(bytes), shard, p);
  }
  CUdeviceptr must(size_t bytes, unsigned shard = 0) {
    CUdeviceptr p = 0;
    REQUIRE(allocate(bytes, &p, shard) == CUDA_SUCCESS);
    return p;
  }
  void free(CUdeviceptr p) { REQUIRE(pool->free("test", p, 0) == CUDA_SUCCESS); }
  // With `moving`: a submission that names these addresses.
  pool::Advice submit_naming(const std::vector<CUdeviceptr>& words, uint64_t function) {
    pool::Submission submission;
    submission.context = fake_context(1);
    submission.function = function;
    submission.words = words.data();
    submission.count = words.size();
    return residency->before(*pool, submission);
  }
  void submit() {
    driver.submit(fake_context(1));
    word.store(1);
  }
  void finish() { driver.finish(fake_context(1)); }
};

}  // namespace flexlom::unit
