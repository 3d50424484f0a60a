// A pool with a mover on the driver in memory. What the program holds has contents, which are
// checked; whatever a move does wrong (a copy or a swap that something may be disturbed by, a frame
// too many, an address without memory) the driver notes as a problem.
#pragma once

#include <map>

#include "pool/residency/mover.h"
#include "tests/unit/pool_bench.h"

namespace flexlom::unit {

struct MoveObserver : CountingObserver {
  std::vector<pool::Moved> moves;
  int gave_up_times[static_cast<size_t>(pool::GaveUp::count_)] = {};
  void moved(const pool::Moved& m) noexcept override { moves.push_back(m); }
  void gave_up(int, pool::GaveUp why) noexcept override {
    ++gave_up_times[static_cast<size_t>(why)];
  }
  int gave_up(pool::GaveUp why) const { return gave_up_times[static_cast<size_t>(why)]; }
};

struct MoveBench {
  FakeDriver driver;
  std::atomic<uint32_t> word{0};
  pool::Fence fence{driver, word};
  pool::Gate gate;
  pool::Budget host_budget;
  MoveObserver observer;
  pool::Mover mover{driver, fence, gate, &observer};
  std::unique_ptr<pool::DevicePool> pool;
  const CUcontext context = fake_context(1);

  MoveBench(uint64_t device_granules, uint64_t host_granules)
      : host_budget(host_granules * kGranule) {
    driver.device_limit_bytes = device_granules * kGranule;
    driver.host_limit_bytes = host_granules * kGranule;
    driver.gate = &gate;
    fence.add_context(context);
    mover.set_limits({3'000'000, 30'000'000, 3'000'000, 3'000'000, 3'000'000});
    pool::DevicePool::Config config{};
    config.base_hint = 0x5000'0000'0000;
    config.window_hint = 0x4000'0000'0000;
    config.address_bytes = size_t{1} << 36;
    config.device_budget_bytes = device_granules * kGranule;
    config.device_total_bytes = device_granules * kGranule * 2;
    config.host_vmm = true;
    config.host_numa_id = -1;
    CUresult error = CUDA_SUCCESS;
    pool = pool::DevicePool::create(driver, fence, &observer, host_budget, config, &error);
    REQUIRE(pool != nullptr);
  }
  ~MoveBench() {
    if (pool == nullptr) return;
    verify();
    check_books();
    {
      std::lock_guard lock(mover.mutex());
      mover.release_context(context);
    }
    CHECK(driver.live_streams() == 0);
    for (const auto& [p, h] : held_) driver.unuse(p);
    pool.reset();
    if (driver.faults_hit() == 0) {
      CHECK(driver.live_frames() == 0);
      CHECK(driver.live_mappings() == 0);
      CHECK(host_budget.held() == 0);
    }
    CHECK(driver.problems() == "");
  }

  // A live allocation with contents of its own; `device`: all of it must have got device frames.
  CUdeviceptr make(size_t granules, bool device = true) {
    pool::Request r;
    r.call = "test";
    r.bytes = granules * kGranule;
    r.context = context;
    CUdeviceptr p = 0;
    if (pool->allocate(r, 0, &p) != CUDA_SUCCESS) return 0;
    driver.use(p, r.bytes);
    held_[p] = {granules, 0};
    rewrite(p);
    if (device) REQUIRE(spilled(p) == 0);
    return p;
  }
  void rewrite(CUdeviceptr p) {
    Held& h = held_.at(p);
    h.seed = ++next_seed_;
    for (size_t at = 0; at < h.granules * kGranule; at += FakeDriver::kCell)
      driver.write(p + at, word_of(h.seed, at));
  }
  void free(CUdeviceptr p) {
    driver.unuse(p);
    held_.erase(p);
    REQUIRE(pool->free("test", p, 0) == CUDA_SUCCESS);
  }
  size_t wrong() {
    size_t n = 0;
    for (const auto& [p, h] : held_) {
      for (size_t at = 0; at < h.granules * kGranule; at += FakeDriver::kCell)
        n += driver.read(p + at) != word_of(h.seed, at);
    }
    return n;
  }
  void verify() {
    CHECK(wrong() == 0);
    CHECK(!gate.is_shut());
    for (const auto& [p, h] : held_) CHECK(driver.accessible(p, h.granules * kGranule));
    CHECK(driver.problems() == "");
  }
  void check_books() {
    // What the driver did not take back stays in the books.
    const uint64_t device = driver.held_bytes(Where::device);
    const uint64_t host = driver.held_bytes(Where::host);
    CHECK(pool->stats().device_held_bytes >= device);
    CHECK(host_budget.held() >= host);
    if (driver.faults_hit() > 0) return;
    CHECK(pool->stats().device_held_bytes == device);
    CHECK(host_budget.held() == host);
  }

  size_t spilled(CUdeviceptr p) const {
    pool::AllocationInfo info;
    REQUIRE(pool->find(p, &info));
    return info.spilled_bytes;
  }
  // The pages of an allocation that lie there, or of all.
  std::vector<pool::PageId> pages(Where where, CUdeviceptr of = 0) const {
    std::vector<pool::PageId> ids, found;
    for (const auto& view : pool->movable_pages(0, &ids)) {
      if (view.resident != (where == Where::device) || !view.movable) continue;
      const bool mine =
          of == 0 || (view.address >= of && view.address < of + held_.at(of).granules * kGranule);
      if (mine) found.push_back(ids[view.id]);
    }
    return found;
  }
  pool::Outcome move(std::vector<pool::PageId> down, std::vector<pool::PageId> up) {
    return mover.run({pool.get(), context, std::move(down), std::move(up)});
  }
  pool::Outcome demote(CUdeviceptr p) { return move(pages(Where::device, p), {}); }
  pool::Outcome promote(CUdeviceptr p) { return move({}, pages(Where::host, p)); }
  void submit() {
    driver.submit(context);
    word.store(1);
  }
  void finish() { driver.finish(context); }

 private:
  struct Held {
    size_t granules;
    uint64_t seed;
  };
  static uint64_t word_of(uint64_t seed, size_t at) {
    return seed << 32 | static_cast<uint64_t>(at / FakeDriver::kCell + 1);
  }
  std::map<CUdeviceptr, Held> held_;
  uint64_t next_seed_ = 0;
};

}  // namespace flexlom::unit
