// One device's pool on the driver in memory, which asserts at every call that the budgets hold and that
// no frame is mapped twice.
#include <catch2/catch.hpp>

#include <random>
#include <set>
#include <thread>

#include "tests/unit/pool_bench.h"

using namespace flexlom::pool;
using flexlom::unit::fake_context;
using flexlom::unit::PoolBench;

TEST_CASE("pool: the same size gets the same address again, without the driver") {
  const size_t bytes = GENERATE(size_t{1}, size_t{5000}, kSmallLimit - 1, kSmallLimit, 3 * kGranule, 100 * kGranule);
  PoolBench bench(256, 0);
  const CUdeviceptr first = bench.must(bytes);
  CHECK(first % kAlignment == 0);
  CHECK(bench.driver.accessible(first, bytes));
  bench.free(first);
  const int calls = bench.driver.all_calls();
  for (int i = 0; i < 100; ++i) {
    REQUIRE(bench.must(bytes) == first);
    bench.free(first);
  }
  CHECK(bench.driver.all_calls() == calls);
  CHECK(bench.observer.at_once == 100);
}

TEST_CASE("pool: an allocation that had to wait for anything was not served at once") {
  PoolBench bench(8, 8);
  const CUdeviceptr first = bench.must(4 * kGranule);
  CHECK(bench.observer.at_once == 0);  // it grew
  bench.submit();
  bench.free(first);
  bench.finish();
  bench.must(4 * kGranule);  // the fence had to be asked
  CHECK(bench.observer.at_once == 0);
  bench.must(8 * kGranule);
  CHECK(bench.observer.at_once == 0);
}

TEST_CASE("pool: host frames go back when nobody has use for them, a few in a sweep") {
  const bool full = GENERATE(false, true);
  PoolBench bench(512, 4096);
  const CUdeviceptr first = bench.must((full ? 480 : 300) * kGranule);
  std::vector<CUdeviceptr> spilled;
  for (int i = 0; i < 20; ++i) spilled.push_back(bench.must(100 * kGranule));  // some on the device
  const uint64_t most = bench.host_budget.held();
  REQUIRE(most > 1800 * kGranule);
  for (const CUdeviceptr p : spilled) bench.free(p);
  bench.pool->trim(0);
  CHECK(bench.host_budget.held() == most);
  uint64_t before = most;
  for (int i = 0; i < 20; ++i) {
    bench.pool->sweep(2);
    const uint64_t now = bench.host_budget.held();
    CHECK(before - now <= 16 * 32 * kGranule);
    before = now;
  }
  // While the device is nearly full some are kept for what will have to leave it: to within a page
  // as many as are made ahead.
  CHECK(before <= (full ? 128 * kGranule : 0));
  CHECK(before >= (full ? 97 * kGranule : 0));
  CHECK(bench.driver.held_bytes(Where::host) == before);
  const CUdeviceptr again = bench.must(400 * kGranule);
  CHECK(bench.driver.accessible(again, 400 * kGranule));
  bench.free(first);
}

TEST_CASE("pool: live allocations never overlap") {
  PoolBench bench(256, 256);
  std::mt19937 random(5);
  std::map<CUdeviceptr, size_t> live;
  for (int i = 0; i < 3000; ++i) {
    if (live.size() > 60 || (random() % 3 == 0 && !live.empty())) {
      auto it = live.begin();
      std::advance(it, random() % live.size());
      bench.free(it->first);
      live.erase(it);
      continue;
    }
    const size_t bytes = 1 + random() % (random() % 3 == 0 ? 12 * kGranule : 200'000);
    CUdeviceptr p = 0;
    if (bench.allocate(bytes, &p) != CUDA_SUCCESS) continue;
    const auto next = live.lower_bound(p);
    REQUIRE((next == live.end() || p + bytes <= next->first));
    REQUIRE((next == live.begin() || std::prev(next)->first + std::prev(next)->second <= p));
    REQUIRE(bench.driver.accessible(p, bytes));
    live[p] = bytes;
  }
  CHECK(bench.pool->stats().live == live.size());
}

TEST_CASE("pool: memory freed behind running work is not handed out before the work ends") {
  const size_t bytes = GENERATE(size_t{4096}, 4 * kGranule);
  PoolBench bench(256, 0);
  const CUdeviceptr p = bench.must(bytes);
  bench.submit();
  bench.free(p);
  for (int i = 0; i < 20; ++i) REQUIRE(bench.must(bytes) != p);
  bench.finish();
  std::set<CUdeviceptr> seen;
  for (int i = 0; i < 2000 && !seen.count(p); ++i) {
    CUdeviceptr q = 0;
    if (bench.allocate(bytes, &q) != CUDA_SUCCESS) break;
    seen.insert(q);
  }
  CHECK(seen.count(p) == 1);
}

TEST_CASE("pool: in stream order a stream has its own memory back at once") {
  PoolBench bench(256, 0);
  Request request = bench.request(4 * kGranule);
  request.kind = Kind::async;
  request.stream = 77;
  CUdeviceptr p = 0, q = 0;
  REQUIRE(bench.pool->allocate(request, 0, &p) == CUDA_SUCCESS);
  bench.submit();
  REQUIRE(bench.pool->free("test", p, 77) == CUDA_SUCCESS);
  request.stream = 78;
  REQUIRE(bench.pool->allocate(request, 0, &q) == CUDA_SUCCESS);
  CHECK(q != p);
  request.stream = 77;
  REQUIRE(bench.pool->allocate(request, 0, &q) == CUDA_SUCCESS);
  CHECK(q == p);
  REQUIRE(bench.pool->free("test", p, 77) == CUDA_SUCCESS);
  bench.pool->forget_stream(77);
  REQUIRE(bench.pool->allocate(request, 0, &q) == CUDA_SUCCESS);
  CHECK(q != p);
}

TEST_CASE("pool: memory freed by another thread's shard is found again") {
  PoolBench bench(8, 0);
  const CUdeviceptr p = bench.must(4 * kGranule, 3);
  bench.free(p);
  CHECK(bench.must(4 * kGranule, 11) == p);
}

TEST_CASE("pool: all that is said to be free can be had, whatever came before") {
  const uint64_t host = GENERATE(0, 64);
  PoolBench bench(64, host);
  std::mt19937 random(7);
  std::vector<CUdeviceptr> held;
  for (int round = 0; round < 40; ++round) {
    for (int i = 0; i < 12; ++i) {
      CUdeviceptr p = 0;
      const size_t bytes = random() % 2 == 0 ? 1 + random() % 300'000 : (1 + random() % 5) * kGranule;
      if (bench.allocate(bytes, &p) == CUDA_SUCCESS) held.push_back(p);
    }
    while (held.size() > 8) {
      const size_t i = random() % held.size();
      bench.free(held[i]);
      held.erase(held.begin() + static_cast<std::ptrdiff_t>(i));
    }
    const uint64_t free_bytes = bench.pool->free_bytes() & ~(kGranule - 1);
    if (free_bytes == 0) continue;
    CUdeviceptr p = 0;
    REQUIRE(bench.allocate(free_bytes, &p) == CUDA_SUCCESS);
    bench.free(p);
  }
}

TEST_CASE("pool: when the device is full, pages come from the host, and only then") {
  PoolBench bench(16, 16);
  std::vector<CUdeviceptr> held;
  for (int i = 0; i < 7; ++i) held.push_back(bench.must(2 * kGranule));
  CHECK(bench.driver.held_bytes(Where::host) == 0);
  const CUdeviceptr spilled = bench.must(8 * kGranule);
  CHECK(bench.driver.held_bytes(Where::host) > 0);
  CHECK(bench.driver.accessible(spilled, 8 * kGranule));
  AllocationInfo info;
  REQUIRE(bench.pool->find(spilled + 5, &info));
  CHECK(info.spilled_bytes > 0);
  CHECK(bench.pool->stats().spilled_bytes == info.spilled_bytes);
  // With the device free again, the same size is served there.
  for (const CUdeviceptr p : held) bench.free(p);
  bench.free(spilled);
  const CUdeviceptr again = bench.must(8 * kGranule);
  REQUIRE(bench.pool->find(again, &info));
  CHECK(info.spilled_bytes == 0);
}

TEST_CASE("pool: an allocation may lie partly on the device and partly on the host") {
  PoolBench bench(10, 64);
  const CUdeviceptr p = bench.must(13 * kGranule);
  CHECK(bench.driver.accessible(p, 13 * kGranule));
  CHECK(bench.driver.held_bytes(Where::device) > 0);
  CHECK(bench.driver.held_bytes(Where::host) > 0);
  bench.free(p);
  bench.pool.reset();
  CHECK(bench.driver.live_frames() == 0);
}

TEST_CASE("pool: over both budgets is out of memory, and the request can be repeated") {
  PoolBench bench(8, 8);
  const CUdeviceptr p = bench.must(7 * kGranule);
  CUdeviceptr q = 0;
  CHECK(bench.allocate(20 * kGranule, &q) == CUDA_ERROR_OUT_OF_MEMORY);
  CHECK(bench.observer.ooms == 1);
  CHECK(bench.pool->stats().ooms == 1);
  bench.free(p);
  CHECK(bench.allocate(12 * kGranule, &q) == CUDA_SUCCESS);
  for (const size_t huge : {size_t{1} << 50, ~size_t{0}, ~size_t{0} - kGranule, size_t{1} << 36}) {
    CHECK(bench.allocate(huge, &q) == CUDA_ERROR_OUT_OF_MEMORY);
  }
}

TEST_CASE("pool: idle memory of other sizes makes room before anything spills") {
  PoolBench bench(16, 64);
  for (const uint32_t granules : {15u, 3u, 8u, 14u, 2u}) {
    const CUdeviceptr p = bench.must(granules * kGranule);
    AllocationInfo info;
    REQUIRE(bench.pool->find(p, &info));
    CHECK(info.spilled_bytes == 0);
    bench.free(p);
  }
  CHECK(bench.driver.held_bytes(Where::host) == 0);
}

TEST_CASE("pool: freed memory behind running work is waited for before anything spills") {
  PoolBench bench(16, 64);
  const CUdeviceptr p = bench.must(12 * kGranule);
  bench.submit();
  bench.free(p);
  std::thread gpu([&] { bench.finish(); });
  AllocationInfo info;
  REQUIRE(bench.pool->find(bench.must(10 * kGranule), &info));
  CHECK(info.spilled_bytes == 0);
  gpu.join();
}

TEST_CASE("pool: large allocations leave room for small ones on the device") {
  PoolBench bench(64, 256);
  bench.must(128 * kGranule);
  const uint64_t left = bench.pool->stats().device_budget_bytes - bench.pool->stats().device_held_bytes;
  CHECK(left >= 2 * kGranule);
  for (int i = 0; i < 3; ++i) {
    AllocationInfo info;
    REQUIRE(bench.pool->find(bench.must(4096 << i), &info));
    CHECK(info.spilled_bytes == 0);
  }
}

TEST_CASE("pool: a caller that trims its cache is refused once, then served") {
  const bool moving = GENERATE(false, true);
  PoolBench bench(8, 64, moving);
  bench.must(6 * kGranule);
  // With pages that move it is asked more often whether there is room.
  Request request = bench.request((moving ? 12 : 4) * kGranule);
  request.caller_trims = [] { return true; };
  CUdeviceptr p = 0;
  CHECK(bench.pool->allocate(request, 0, &p) == CUDA_ERROR_OUT_OF_MEMORY);
  CHECK(bench.observer.soft_ooms == 1);
  CHECK(bench.pool->allocate(request, 0, &p) == CUDA_SUCCESS);
  CHECK(bench.pool->allocate(request, 0, &p) == CUDA_ERROR_OUT_OF_MEMORY);
  request.caller_trims = [] { return false; };
  CHECK(bench.pool->allocate(request, 0, &p) == CUDA_SUCCESS);
  CHECK(bench.observer.ooms == 0);
}

TEST_CASE("pool: trimming gives cached memory back, small pages too") {
  PoolBench bench(128, 0);
  std::vector<CUdeviceptr> all;
  for (const size_t bytes : {size_t{100}, size_t{9000}, size_t{700'000}, 5 * kGranule, 33 * kGranule}) {
    all.push_back(bench.must(bytes));
  }
  CHECK(bench.pool->trim(0) == 0);
  for (const CUdeviceptr p : all) bench.free(p);
  // Empty small pages need not count as cached, but they do go back in the end.
  const uint64_t small_pages = 3 * kGranule;
  CHECK(bench.pool->free_bytes() + small_pages >= bench.pool->stats().device_budget_bytes);
  bench.pool->trim(34 * kGranule);
  CHECK(bench.driver.held_bytes(Where::device) <= 34 * kGranule + small_pages);
  CHECK(bench.driver.held_bytes(Where::device) > 0);
  bench.pool->trim(0);
  CHECK(bench.driver.held_bytes(Where::device) == 0);
  CHECK(bench.pool->stats().device_held_bytes == 0);
  CHECK(bench.driver.live_mappings() == 0);
}

TEST_CASE("pool: a program that never pauses does not keep a block of every size it had") {
  constexpr uint64_t kGiB = uint64_t{1} << 30;
  PoolBench bench(32768, 0);  // of 64 GiB, 2 GiB and half of what is live at one time may be kept
  const CUdeviceptr live = bench.must(256 * kGranule);
  const uint64_t bound = (256 + 350) * kGranule * 3 / 2 + 2 * kGiB;
  uint64_t made = 0, most = 0;
  for (size_t granules = 200; granules < 264; ++granules) {
    made += granules * kGranule;
    bench.free(bench.must(granules * kGranule));
    most = std::max(most, bench.driver.held_bytes(Where::device));
  }
  REQUIRE(made > 24 * kGiB);
  // Beside it the block in hand, and one reclaimed for it that did not fit.
  CHECK(most <= bound + 2 * 264 * kGranule);
  CHECK(most > bound);  // it does keep that much
  CHECK(bench.driver.accessible(live, 256 * kGranule));
  // A program that gives everything back after each step finds it again in the next, and a new size
  // beside it, for as long as the last step is not long ago.
  const auto step = [&](size_t odd) {
    std::vector<CUdeviceptr> blocks = {bench.must(odd * kGranule)};
    for (size_t granules = 1000; granules < 1010; ++granules)
      blocks.push_back(bench.must(granules * kGranule));
    for (const CUdeviceptr block : blocks) bench.free(block);
  };
  step(3);
  const auto maps = [&] { return bench.driver.calls("map"); };
  const int before = maps();
  bench.pool->sweep(4);
  step(5);
  CHECK(maps() - before <= 5);  // the odd one's pages
  bench.pool->sweep(4);
  bench.pool->sweep(4);
  // All that was long ago: it goes when the next new sizes come.
  for (const size_t odd : {7, 9}) bench.free(bench.must(odd * kGranule));
  CHECK(bench.driver.held_bytes(Where::device) <= bound);
  // Behind running work nothing can go, nor does it; afterwards it does.
  bench.submit();
  for (size_t granules = 300; granules < 332; ++granules) bench.free(bench.must(granules * kGranule));
  CHECK(bench.driver.held_bytes(Where::device) > bound + 16 * 300 * kGranule);
  bench.finish();
  for (size_t granules = 340; granules < 350; ++granules) bench.free(bench.must(granules * kGranule));
  CHECK(bench.driver.held_bytes(Where::device) <= bound + 2 * 350 * kGranule);
}

TEST_CASE("pool: what was idle long enough goes back by itself") {
  PoolBench bench(64, 64);
  const CUdeviceptr small = bench.must(2000), large = bench.must(4 * kGranule), kept = bench.must(kGranule);
  bench.free(small);
  bench.free(large);
  for (int i = 0; i < 3; ++i) bench.pool->sweep(4);
  CHECK(bench.driver.live_mappings() == 3);
  for (int i = 0; i < 4; ++i) bench.pool->sweep(4);
  CHECK(bench.driver.live_mappings() == 1);
  CHECK(bench.driver.held_bytes(Where::device) == kGranule);
  CHECK(bench.driver.accessible(kept, kGranule));
  for (int i = 0; i < 9; ++i) bench.pool->sweep(~uint64_t{0});
  CHECK(bench.driver.live_mappings() == 1);
}

TEST_CASE("pool: host frames are made ahead when the budget nears, within their budget") {
  PoolBench bench(512, 512);
  CHECK_FALSE(bench.pool->wants_host_frames());
  bench.must(470 * kGranule);
  CHECK(bench.pool->wants_host_frames());
  CHECK(bench.pool->take_hunger());
  CHECK_FALSE(bench.pool->take_hunger());
  for (int i = 0; i < 100 && bench.pool->wants_host_frames(); ++i) bench.pool->make_host_frame();
  CHECK_FALSE(bench.pool->wants_host_frames());
  CHECK(bench.driver.held_bytes(Where::host) > 0);
  CHECK(bench.driver.held_bytes(Where::host) <= 512 * kGranule);
  const int creates = bench.driver.calls("create");
  AllocationInfo info;
  REQUIRE(bench.pool->find(bench.must(64 * kGranule), &info));
  CHECK(info.spilled_bytes > 0);
  CHECK(bench.driver.calls("create") <= creates + 2);
}

TEST_CASE("pool: peers reach the pages there are and those to come") {
  PoolBench bench(64, 64);
  const CUdeviceptr before = bench.must(3 * kGranule);
  CHECK_FALSE(bench.driver.accessible(before, 3 * kGranule, 1));
  CHECK(bench.pool->allow_access(1) == CUDA_SUCCESS);
  CHECK(bench.pool->allow_access(1) == CUDA_SUCCESS);
  const CUdeviceptr after = bench.must(70 * kGranule);
  CHECK(bench.driver.accessible(before, 3 * kGranule, 1));
  CHECK(bench.driver.accessible(after, 70 * kGranule, 1));
  CHECK(bench.driver.accessible(after, 70 * kGranule, 0));
}

TEST_CASE("pool: memory of a context ends with it") {
  PoolBench bench(64, 0);
  Request request = bench.request(kGranule);
  request.context = fake_context(2);
  CUdeviceptr theirs = 0, small = 0;
  REQUIRE(bench.pool->allocate(request, 0, &theirs) == CUDA_SUCCESS);
  request.bytes = 1000;
  REQUIRE(bench.pool->allocate(request, 0, &small) == CUDA_SUCCESS);
  const CUdeviceptr ours = bench.must(kGranule);
  bench.pool->release_context(fake_context(2));
  AllocationInfo info;
  CHECK_FALSE(bench.pool->find(theirs, &info));
  CHECK_FALSE(bench.pool->find(small, &info));
  CHECK(bench.pool->find(ours, &info));
  CHECK(bench.pool->free("test", theirs, 0) == CUDA_ERROR_INVALID_VALUE);
  CHECK(bench.pool->stats().live == 1);
}

TEST_CASE("pool: exported memory stays where it is while it is live, and its frames serve nobody else") {
  PoolBench bench(16, 16);
  const CUdeviceptr p = bench.must(3 * kGranule);
  DevicePool::Export pinned;
  REQUIRE(bench.pool->pin_for_export(p + 100, &pinned) == CUDA_SUCCESS);
  CHECK(pinned.span_base == p);
  CHECK(pinned.pages.size() == 2);
  AllocationInfo info;
  REQUIRE(bench.pool->find(p, &info));
  CHECK(info.exported);
  bench.pool->trim(0);
  for (int i = 0; i < 9; ++i) bench.pool->sweep(1);
  CHECK(bench.driver.accessible(p, 3 * kGranule));
  bench.free(p);
  const int made = bench.driver.calls("create");
  bench.pool->trim(0);
  CHECK(bench.driver.held_bytes(Where::device) == 0);
  const CUdeviceptr next = bench.must(3 * kGranule);
  CHECK(bench.driver.calls("create") == made + 2);
  bench.free(next);
  const CUdeviceptr spilled = bench.must(20 * kGranule);
  CHECK(bench.pool->pin_for_export(spilled, &pinned) == CUDA_ERROR_NOT_SUPPORTED);
  CHECK(bench.pool->pin_for_export(bench.pool->base() + (size_t{1} << 35), &pinned) == CUDA_ERROR_INVALID_VALUE);
}

TEST_CASE("pool: every wrong pointer is refused, at every offset of a page") {
  const size_t bytes = GENERATE(size_t{1}, size_t{1400}, size_t{5000}, size_t{700'000}, 3 * kGranule);
  PoolBench bench(64, 0);
  const CUdeviceptr p = bench.must(bytes);
  AllocationInfo info;
  const CUdeviceptr page = p & ~CUdeviceptr{kGranule - 1};
  for (CUdeviceptr a = page; a < page + kGranule; a += 256) {
    const bool inside = a >= p && a < p + bytes;
    REQUIRE(bench.pool->find(a, &info) == inside);
    if (a != p) REQUIRE(bench.pool->free("test", a, 0) == CUDA_ERROR_INVALID_VALUE);
  }
  // The last byte of a page belongs to no object of most small sizes: nothing may be read there.
  if (bytes < kSmallLimit) {
    CHECK_FALSE(bench.pool->find(page + kGranule - 1, &info));
    CHECK_FALSE(bench.pool->set_sync_memops(page + kGranule - 1, false));
  }
  CHECK(bench.pool->find(p + bytes - 1, &info));
  CHECK(info.base == p);
  CHECK(info.asked_bytes == bytes);
  CHECK_FALSE(bench.pool->find(p + bytes, &info));
  bench.free(p);
  CHECK(bench.pool->free("test", p, 0) == CUDA_ERROR_INVALID_VALUE);
  CHECK_FALSE(bench.pool->find(p, &info));
}

TEST_CASE("pool: what is told about an allocation is what was asked, and ids are never used twice") {
  PoolBench bench(64, 0);
  std::set<uint64_t> ids;
  for (int i = 0; i < 50; ++i) {
    Request request = bench.request(1000);
    request.kind = Kind::pitch;
    CUdeviceptr p = 0;
    REQUIRE(bench.pool->allocate(request, static_cast<unsigned>(i), &p) == CUDA_SUCCESS);
    AllocationInfo info;
    REQUIRE(bench.pool->find(p + 999, &info));
    CHECK(info.given_bytes == 1024);
    CHECK(info.kind == Kind::pitch);
    CHECK(info.context == fake_context(1));
    CHECK(info.sync_memops);
    CHECK(bench.pool->set_sync_memops(p, false));
    REQUIRE(bench.pool->find(p, &info));
    CHECK_FALSE(info.sync_memops);
    CHECK(ids.insert(info.id).second);
    bench.free(p);
  }
}

TEST_CASE("pool: statistics and the largest holders") {
  PoolBench bench(128, 0);
  const CUdeviceptr a = bench.must(10 * kGranule);
  bench.must(4 * kGranule);
  bench.must(100);
  PoolStats s = bench.pool->stats();
  CHECK(s.live == 3);
  CHECK(s.asked_bytes == 14 * kGranule + 100);
  CHECK(s.device_held_bytes == 15 * kGranule);
  const auto top = bench.pool->live(2);
  REQUIRE(top.size() == 2);
  CHECK(top[0].base == a);
  CHECK(top[1].asked_bytes == 4 * kGranule);
  bench.free(a);
  s = bench.pool->stats();
  CHECK(s.frees == 1);
  CHECK(s.asked_bytes == 4 * kGranule + 100);
  CHECK(s.asked_peak_bytes >= 14 * kGranule);
  CHECK(s.cached_bytes >= 10 * kGranule);
  CHECK(s.device_peak_bytes == bench.driver.peak_device_bytes());
}

TEST_CASE("pool: threads, with every promise kept at every driver call") {
  PoolBench bench(24, 24);
  std::atomic<uint64_t> served{0};
  std::atomic<bool> wrong{false};
  std::vector<std::thread> threads;
  for (unsigned t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      std::minstd_rand random(t + 1);
      std::vector<std::pair<CUdeviceptr, size_t>> mine;
      for (int i = 0; i < 1500; ++i) {
        const unsigned dice = static_cast<unsigned>(random() % 100);
        if (dice < 50 && mine.size() < 12) {
          const size_t bytes = 1 + random() % (dice < 15 ? 5 * kGranule : 300'000);
          CUdeviceptr p = 0;
          if (bench.allocate(bytes, &p, t) == CUDA_SUCCESS) {
            mine.emplace_back(p, bytes);
            ++served;
          }
        } else if (dice < 90 && !mine.empty()) {
          const size_t at = random() % mine.size();
          if (dice % 2 == 0) bench.submit();
          if (bench.pool->free("test", mine[at].first, dice % 3) != CUDA_SUCCESS) wrong = true;
          mine[at] = mine.back();
          mine.pop_back();
        } else if (dice < 95) {
          bench.finish();
        } else if (dice < 98 && !mine.empty()) {
          AllocationInfo info;
          const auto [p, bytes] = mine[random() % mine.size()];
          if (!bench.pool->find(p + bytes - 1, &info) || info.base != p || info.asked_bytes != bytes) wrong = true;
        } else {
          dice == 98 ? static_cast<void>(bench.pool->trim(4 * kGranule)) : bench.pool->sweep(2);
          AllocationInfo info;
          bench.pool->find(bench.pool->base() + random() % (64 * kGranule), &info);
        }
      }
      for (const auto& [p, bytes] : mine) {
        if (bench.pool->free("test", p, 0) != CUDA_SUCCESS) wrong = true;
      }
    });
  }
  for (std::thread& t : threads) t.join();
  CHECK_FALSE(wrong);
  CHECK(served > 500);
  bench.finish();
  bench.pool->trim(0);
  CHECK(bench.driver.held_bytes(Where::device) == 0);
  CHECK(bench.pool->stats().live == 0);
}

TEST_CASE("pool: the largest live allocation, small ones aside") {
  PoolBench bench(256, 0);
  AllocationInfo info;
  CHECK(!bench.pool->largest(&info));
  bench.must(4096);
  CHECK(!bench.pool->largest(&info));
  const CUdeviceptr small = bench.must(2 * kGranule);
  const CUdeviceptr large = bench.must(5 * kGranule + 1);
  REQUIRE(bench.pool->largest(&info));
  CHECK(info.base == large);
  CHECK(info.asked_bytes == 5 * kGranule + 1);
  bench.free(large);
  REQUIRE(bench.pool->largest(&info));
  CHECK(info.base == small);
  bench.free(small);
  CHECK(!bench.pool->largest(&info));
}
