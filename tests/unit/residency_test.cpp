// What residency decides for one submission after the other, with pages that really move.
#include <catch2/catch.hpp>

#include <algorithm>

#include "tests/unit/pool_bench.h"

using namespace flexlom::pool;
using flexlom::unit::fake_context;
using flexlom::unit::PoolBench;

namespace {

// More than half of the device: it pushes nobody out, and is spilled.
constexpr uint64_t kSpilled = 40 * kGranule;

struct Submitter : PoolBench {
  Submitter() : PoolBench(72, 128, true) {}
  uint64_t spilled(CUdeviceptr p) const { return pool->spilled_bytes(&p, 1); }
};

}  // namespace

TEST_CASE("residency: an allocation named by several words is spilled once") {
  Submitter bench;
  const CUdeviceptr on_device = bench.must(64 * kGranule), p = bench.must(kSpilled);
  REQUIRE(bench.spilled(p) == kSpilled);
  CHECK(bench.spilled(on_device) == 0);
  const std::vector<CUdeviceptr> words = {p, on_device, p + 5 * kGranule, p + kSpilled, 64};
  CHECK(bench.pool->spilled_bytes(words.data(), words.size()) == kSpilled);
  CHECK(bench.pool->spilled_bytes(nullptr, 0) == 0);
}

// A submission that finds what it names on the device, because an exchange has just brought it
// there, reads nothing over the link: it is not counted, and its time says nothing of the link.
TEST_CASE("residency: what an exchange brought in for a submission was not read in place") {
  Submitter bench;
  const CUdeviceptr seldom = bench.must(64 * kGranule), often = bench.must(kSpilled);
  REQUIRE(bench.spilled(often) == kSpilled);
  constexpr uint64_t kCopy = 1, kKernel = 2;
  uint64_t named = 0, came_up_at = 0;
  for (int i = 0; i < 4000 && came_up_at == 0; ++i) {
    if (i % 500 == 0) bench.submit_naming({seldom}, kCopy);
    const Advice advice = bench.submit_naming({often}, kKernel);
    named += advice.spilled_bytes;
    CHECK(advice.spilled_bytes == bench.spilled(often));
    if (advice.spilled_bytes > 0) {
      if (advice.measure) {  // as fast as the link: as well read in place
        const auto ns = static_cast<double>(advice.spilled_bytes) * policy::kLink_ns_per_byte;
        bench.residency->observe(kKernel, advice.spilled_bytes, static_cast<uint64_t>(ns), 0);
      }
      continue;
    }
    came_up_at = static_cast<uint64_t>(i) + 1;
    CHECK_FALSE(advice.measure);
  }
  REQUIRE(came_up_at > 1);
  const ResidencyStats s = bench.residency->stats();
  CHECK(s.promoted_for == 0);
  CHECK(s.in_place == came_up_at - 1);
  CHECK(s.in_place_bytes == named);
}

// Two sets of data that take turns, each used by one kernel that is a little slower than the link
// over it: promoted for while nothing is written, read in place once all of it is.
TEST_CASE("residency: what is written is no longer promoted for work that is as fast in place") {
  constexpr uint64_t kKernel = 1;
  const bool writes = GENERATE(false, true);
  CAPTURE(writes);
  Submitter bench;
  const CUdeviceptr spans[] = {bench.must(64 * kGranule), bench.must(kSpilled)};
  const uint64_t bytes[] = {64 * kGranule, kSpilled};
  uint64_t value = 0;
  const auto use = [&](size_t which) {
    const Advice advice = bench.submit_naming({spans[which]}, kKernel);
    if (advice.measure && advice.spilled_bytes > 0) {
      const double ns = static_cast<double>(advice.spilled_bytes) * policy::kLink_ns_per_byte * 1.5;
      bench.residency->observe(kKernel, advice.spilled_bytes, static_cast<uint64_t>(ns), 0);
    }
    if (!writes) return;
    ++value;
    for (uint64_t at = 0; at < bytes[which]; at += kGranule)
      bench.driver.write(spans[which] + at, value);
  };
  for (size_t i = 0; i < 24; ++i) use(i % 2);
  const uint64_t learned = bench.residency->stats().promoted_for;
  CHECK(learned > 1);
  for (size_t i = 0; i < 24; ++i) use(i % 2);
  const uint64_t later = bench.residency->stats().promoted_for - learned;
  if (writes) {
    CHECK(later == 0);
  } else {
    CHECK(later > 12);
  }
}

// Of one allocation that a single node of a graph uses, and one that eight use, there is room for
// either. As long as one node each uses them, nothing is to be gained.
TEST_CASE("residency: of a graph larger than the budget the part that is used most is resident") {
  Submitter bench;
  const CUdeviceptr once = bench.must(64 * kGranule), often = bench.must(kSpilled);
  REQUIRE(bench.spilled(often) == kSpilled);
  std::vector<CUdeviceptr> words = {once, often};
  std::sort(words.begin(), words.end());
  const auto replays = [&](uint16_t times_of_often) {
    std::vector<uint16_t> times = {1, 1};
    times[words[0] == often ? 0 : 1] = times_of_often;
    Submission graph;
    graph.context = flexlom::unit::fake_context(1);
    graph.function = 1;
    graph.words = words.data();
    graph.count = words.size();
    graph.times = times.data();
    graph.steps = 12u;
    for (int i = 0; i < 24; ++i) {
      const uint64_t spilled = bench.spilled(often) + bench.spilled(once);
      const Advice advice = bench.residency->before(*bench.pool, graph);
      CHECK(advice.spilled_bytes == bench.spilled(often) + bench.spilled(once));
      const uint64_t reads = times_of_often * bench.spilled(often) + bench.spilled(once);
      if (spilled == advice.spilled_bytes) CHECK(advice.reading_bytes == reads);
      if (!advice.measure) continue;
      const auto ns = static_cast<double>(reads) * policy::kLink_ns_per_byte;
      bench.residency->observe(1, advice.reading_bytes, static_cast<uint64_t>(ns), 0);
    }
  };
  replays(1);
  CHECK(bench.spilled(often) == kSpilled);  // there is nothing to choose between the two
  replays(8);
  CHECK(bench.spilled(often) == 0);
  CHECK(bench.spilled(once) > 0);
}

TEST_CASE("residency: what is to be shared comes to the device, and others leave for it") {
  Submitter bench;
  const CUdeviceptr other = bench.must(64 * kGranule), shared = bench.must(kSpilled);
  bench.driver.write(shared + 33 * kGranule, 77);
  REQUIRE(bench.spilled(shared) == kSpilled);
  CHECK(bench.residency->bring(*bench.pool, nullptr, shared + kGranule));
  CHECK(bench.spilled(shared) == 0);
  CHECK(bench.spilled(other) > 0);
  CHECK(bench.driver.read(shared + 33 * kGranule) == 77);
  const uint64_t moved = bench.residency->stats().moves.promoted_bytes;
  CHECK(moved == kSpilled);
  CHECK(bench.residency->bring(*bench.pool, nullptr, shared));  // is there
  CHECK(bench.residency->stats().moves.promoted_bytes == moved);
  CHECK_FALSE(bench.residency->bring(*bench.pool, nullptr, 64));
}

TEST_CASE("residency: what has no room on the device cannot be brought there") {
  Submitter bench;
  const CUdeviceptr pinned = bench.must(40 * kGranule), large = bench.must(60 * kGranule);
  DevicePool::Export out;
  REQUIRE(bench.pool->pin_for_export(pinned, &out) == CUDA_SUCCESS);
  REQUIRE(bench.spilled(large) > 0);
  CHECK_FALSE(bench.residency->bring(*bench.pool, nullptr, large));
  CHECK(bench.spilled(large) > 0);
  CHECK(bench.spilled(pinned) == 0);
  CHECK(bench.pool->pin_for_export(large, &out) == CUDA_ERROR_NOT_SUPPORTED);
}
