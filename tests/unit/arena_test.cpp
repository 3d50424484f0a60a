// An allocation that the program cuts its buffers out of: its pages live and move one by one.
#include <catch2/catch.hpp>

#include "tests/unit/pool_bench.h"

using namespace flexlom::pool;
using flexlom::unit::fake_context;
using flexlom::unit::PoolBench;

namespace {

constexpr uint64_t kPage = 32 * kGranule;
constexpr uint64_t kPages = 24;
constexpr uint64_t kKernel = 7;

// Half of the arena has room on the device.
struct ArenaBench : PoolBench {
  CUdeviceptr arena;

  ArenaBench() : PoolBench(12 * 32 + 32, 1024, true), arena(must(kPages * kPage)) {
    for (uint64_t i = 0; i < kPages; ++i) driver.write(arena + i * kPage, 1000 + i);
  }
  ~ArenaBench() {
    for (uint64_t i = 0; i < kPages; ++i) CHECK(driver.read(arena + i * kPage) == 1000 + i);
  }
  // Work that reads all of it many times over. Returns what it had to read over the link.
  uint64_t reread(CUdeviceptr buffer) {
    const Advice advice = submit_naming({buffer}, kKernel);
    if (advice.measure) observe(advice.spilled_bytes);
    return advice.spilled_bytes;
  }
  void observe(uint64_t spilled_bytes) {
    const auto ns = double{kPage} * policy::kLink_ns_per_byte * 8;
    residency->observe(kKernel, spilled_bytes, static_cast<uint64_t>(ns), 0);
  }
  CUdeviceptr buffer(uint64_t i) const { return arena + i * kPage; }
  uint64_t spilled() const {
    AllocationInfo info;
    REQUIRE(pool->find(arena, &info));
    return info.spilled_bytes;
  }
};

}  // namespace

TEST_CASE("arena: what is hot of it comes to the device and stays") {
  ArenaBench bench;
  const uint64_t spilled = bench.spilled();
  REQUIRE(spilled >= kPages / 2 * kPage);
  uint64_t first = 0, last = 0;
  for (int round = 0; round < 60; ++round) {
    // The last eight, which had no room, and the first ones once in a while.
    for (uint64_t i = kPages - 8; i < kPages; ++i)
      (round < 2 ? first : last) += bench.reread(bench.buffer(i));
    if (round < 20) last = 0;
    if (round % 25 == 0) {
      for (uint64_t i = 0; i < kPages - 8; ++i) bench.submit_naming({bench.buffer(i)}, 0);
    }
  }
  CHECK(first >= 8 * kPage);
  CHECK(last < 8 * kPage);  // of forty rounds
  CHECK(bench.residency->stats().promoted_for > 0);
  CHECK(bench.spilled() < spilled + 4 * kPage);
  CHECK(bench.residency->stats().arenas == 1);
}

// In place each launch takes eight times what its page takes over the link. Known from the third
// round on at the latest, though the first measurements were of the whole arena; some of those are
// still to come when it is known to be one.
TEST_CASE("arena: what was measured before it was known to be one is forgotten") {
  ArenaBench bench;
  const bool late = GENERATE(false, true);
  CAPTURE(late);
  std::vector<uint64_t> charged;
  for (int i = 0; i < 12; ++i) {
    if (!late) {
      bench.reread(bench.arena);
      continue;
    }
    const Advice advice = bench.submit_naming({bench.arena}, kKernel);
    if (advice.measure) charged.push_back(advice.spilled_bytes);
  }
  for (int round = 0; round < 2; ++round) {
    for (uint64_t i = 0; i < kPages; ++i) bench.submit_naming({bench.buffer(i)}, 0);
  }
  for (const uint64_t bytes : charged) bench.observe(bytes);
  CHECK(bench.residency->stats().promoted_for == 0);
  for (int round = 0; round < 3; ++round) {
    for (uint64_t i = 0; i < kPages; ++i) bench.reread(bench.buffer(i));
  }
  CHECK(bench.residency->stats().promoted_for > 8);
}

TEST_CASE("arena: a submission is charged with the buffers that it names, each page once") {
  ArenaBench bench;
  for (int round = 0; round < 3; ++round) {
    for (uint64_t i = 0; i < kPages; ++i) bench.submit_naming({bench.buffer(i)}, 0);
  }
  const CUdeviceptr far = bench.buffer(kPages - 3);
  CHECK(bench.submit_naming({far}, 0).spilled_bytes == kPage);
  CHECK(bench.submit_naming({far, far + 64, far + kPage}, 0).spilled_bytes == 2 * kPage);
  // The end of the arena is not one more buffer of it.
  CHECK(bench.submit_naming({far, bench.arena + kPages * kPage}, 0).spilled_bytes == kPage);
  const CUdeviceptr words[] = {far};
  CHECK(bench.pool->spilled_bytes(words, 1, bench.pool->touch_tick()) == kPage);
}

TEST_CASE("arena: with one buffer it is a large allocation like any other") {
  ArenaBench bench;
  for (int i = 0; i < 20; ++i) {
    CHECK(bench.submit_naming({bench.arena}, 0).spilled_bytes == bench.spilled());
    CHECK(bench.submit_naming({bench.buffer(3), bench.arena}, 0).spilled_bytes == bench.spilled());
  }
  CHECK(bench.residency->stats().arenas == 0);
}

TEST_CASE("arena: its memory becomes that of another allocation") {
  PoolBench bench(12 * 32 + 32, 1024, true);
  const auto name = [&](CUdeviceptr p) { return bench.submit_naming({p}, 0).spilled_bytes; };
  for (uint64_t pages : {kPages, kPages / 2, kPages}) {
    const CUdeviceptr p = bench.must(pages * kPage);
    for (int round = 0; round < 3; ++round) {
      for (uint64_t i = 0; i < pages; ++i) CHECK(name(p + i * kPage) <= pages * kPage);
    }
    CHECK(name(p) <= kPage);
    bench.free(p);
    bench.pool->release_idle();
    CHECK(name(p) == 0);
  }
}

// A graph whose words stand for several nodes each: of a page that two buffers share, each counts
// for its part.
TEST_CASE("arena: a page is used as often as the nodes of a graph use what lies in it") {
  ArenaBench bench;
  const CUdeviceptr shared = bench.buffer(kPages - 2), half = shared + kPage / 2;
  const std::vector<CUdeviceptr> words = {bench.buffer(kPages - 3), shared, half,
                                          bench.buffer(kPages - 1)};
  const std::vector<uint16_t> times = {5, 6, 2, 1};
  Names graph{words.data(), words.size(), times.data(), 9};
  for (int round = 0; round < 3; ++round) {
    for (uint64_t i = 0; i < kPages; ++i) bench.submit_naming({bench.buffer(i)}, 0);
  }
  const policy::Tick before = bench.pool->touch_tick();
  Touched touched;
  for (int replay = 0; replay < 40; ++replay) {
    touched = bench.pool->touch(graph);
    bench.submit_naming({bench.buffer(0)}, 0);
  }
  CHECK(bench.pool->touch_tick() == before + 40 * 10);
  CHECK(touched.spilled_bytes == 3 * kPage);
  CHECK(touched.part_bytes == 3 * kPage);
  CHECK(touched.reading_bytes == 5 * kPage + (6 + 2) * kPage / 2 + kPage);
  std::vector<PageId> ids;
  std::vector<float> uses;
  for (const policy::PageView& view : bench.pool->movable_pages(0, &ids))
    uses.push_back(view.history.touches_per_use);
  REQUIRE(uses.size() == kPages);
  CHECK(uses[kPages - 3] == Approx(5).epsilon(0.05));
  CHECK(uses[kPages - 2] == Approx(4).epsilon(0.05));  // half of six and half of two
  CHECK(uses[kPages - 1] == Approx(1).epsilon(0.05));
}
