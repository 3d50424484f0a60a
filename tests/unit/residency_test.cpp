// What residency decides for one submission after the other, with pages that really move.
#include <catch2/catch.hpp>

#include "tests/unit/pool_bench.h"

using namespace flexlom::pool;
using flexlom::unit::fake_context;
using flexlom::unit::PoolBench;

namespace {

// More than half of the device: it pushes nobody out, and is spilled.
constexpr uint64_t kSpilled = 40 * kGranule;

struct Submitter : PoolBench {
  Submitter() : PoolBench(72, 128, true) {}
  Advice submit_naming(const std::vector<CUdeviceptr>& words, uint64_t function) {
    Submission submission;
    submission.context = fake_context(1);
    submission.function = function;
    submission.words = words.data();
    submission.count = words.size();
    return residency->before(*pool, submission);
  }
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
