// Every driver call that a move makes fails once, at every place: the page is where it was or where
// it was to go, with its bytes; nothing is lost, promised twice, or disturbed.
#include <catch2/catch.hpp>

#include <algorithm>
#include <random>

#include "tests/unit/move_bench.h"

using namespace flexlom::pool;
using flexlom::unit::MoveBench;

namespace {

// Clean and changed pages down, with others up into their frames, and into spare ones.
void exercise(MoveBench& bench, CUdeviceptr a, CUdeviceptr b, CUdeviceptr c) {
  bench.submit();
  bench.finish();
  bench.move(bench.pages(Where::device, a), bench.pages(Where::host, c));
  bench.verify();
  bench.move(bench.pages(Where::device, b), bench.pages(Where::host, a));
  bench.verify();
  bench.rewrite(c);
  bench.move(bench.pages(Where::device), bench.pages(Where::host));
  bench.verify();
  bench.pool->trim(0);
  bench.promote(a);
  bench.verify();
  bench.demote(a);  // unchanged
  bench.verify();
  bench.promote(b);
  bench.verify();
}

}  // namespace

TEST_CASE("moves: one failing driver call, at every place") {
  const auto call = GENERATE("create", "release", "map", "unmap", "set_access", "copy", "record_on",
                             "event_create", "query", "record", "stream_create", "mark_buffer",
                             "fingerprint", "reserve");
  int places = 0;
  for (int nth = 1; nth < 400; nth += nth < 60 ? 1 : 5) {
    MoveBench bench(40, 96);
    const CUdeviceptr a = bench.make(18), b = bench.make(19), c = bench.make(22, false);
    REQUIRE(b != 0);
    bench.driver.fail(call, nth, nth % 2 == 0 ? CUDA_ERROR_OUT_OF_MEMORY : CUDA_ERROR_UNKNOWN);
    INFO(call << " failing at call " << nth);
    exercise(bench, a, b, c);
    bench.check_books();
    CHECK(bench.observer.warnings == 0);
    if (bench.driver.faults_hit() == 0) break;
    ++places;
    // It goes on working.
    exercise(bench, a, b, c);
    bench.free(a);
    bench.free(b);
    bench.free(c);
    bench.pool->trim(0);
    // A page or a frame that the driver did not let go of may be lost, with a frame of its size.
    const std::string name = call;
    // The fingerprints keep one for their scratch.
    const uint64_t lost = (name == "unmap" || name == "release" ? 17 : 1) * kGranule;
    CHECK(bench.driver.held_bytes(Where::device) <= lost);
    CHECK(bench.pool->stats().device_held_bytes <= lost);
  }
  INFO(call);
  CHECK(places > 0);
}

TEST_CASE("moves: random allocations, frees, moves and faults") {
  const unsigned seed = GENERATE(range(1u, 13u));
  std::mt19937 random(seed);
  INFO("seed " << seed);
  MoveBench bench(48, 96);
  bench.mover.set_limits({1'000'000, 2'000'000, 500'000, 500'000, 500'000});
  std::vector<CUdeviceptr> live;
  const char* const kCalls[] = {"create",      "map",        "set_access",   "copy",
                                "record_on",   "query",      "event_create", "record",
                                "mark_buffer", "fingerprint"};
  const auto some = [&](std::vector<PageId> pages) {
    std::shuffle(pages.begin(), pages.end(), random);
    pages.resize(pages.size() * (random() % 4) / 3);
    return pages;
  };
  for (int i = 0; i < 400; ++i) {
    const unsigned dice = random() % 100;
    if (dice < 25) {
      if (const CUdeviceptr p = bench.make(1 + random() % 20, false)) live.push_back(p);
    } else if (dice < 40 && !live.empty()) {
      const size_t which = random() % live.size();
      bench.free(live[which]);
      live[which] = live.back();
      live.pop_back();
    } else if (dice < 50 && !live.empty()) {
      bench.rewrite(live[random() % live.size()]);
    } else if (dice < 55) {
      bench.pool->trim(random() % 2 == 0 ? 0 : 8 * kGranule);
    } else if (dice < 60 && seed % 2 == 0) {
      bench.driver.fail(kCalls[random() % std::size(kCalls)], 1 + static_cast<int>(random() % 12),
                        random() % 2 == 0 ? CUDA_ERROR_OUT_OF_MEMORY : CUDA_ERROR_UNKNOWN);
    } else if (dice < 63) {
      bench.driver.copies_end = !bench.driver.copies_end;
    } else {
      bench.move(some(bench.pages(Where::device)), some(bench.pages(Where::host)));
    }
    if (bench.wrong() != 0 || bench.driver.problems() != "") {
      FAIL("at step " << i << ": " << bench.wrong() << " wrong; " << bench.driver.problems());
    }
  }
  CHECK(bench.mover.stats().promoted_pages > 10);
  bench.check_books();
}
