// Stand-ins: for a moment other memory is seen at the program's addresses, and then its own again.
#include <catch2/catch.hpp>

#include "pool/stand_ins.h"
#include "tests/unit/move_bench.h"

using namespace flexlom::pool;
using flexlom::unit::MoveBench;

namespace {

// What is seen of each granule: D, H.
std::string seen(MoveBench& bench, CUdeviceptr p, size_t granules) {
  std::string all;
  for (size_t i = 0; i < granules; ++i)
    all += bench.driver.backing(p + i * kGranule) == Where::device ? 'D' : 'H';
  return all;
}
std::string times(size_t n, char letter) { return std::string(n, letter); }

// Puts them, has them looked at, and takes them back.
template <class Look>
bool put(MoveBench& bench, CUdeviceptr at, size_t bytes, Backing want, Look look) {
  bool result = false;
  bench.driver.aliases = true;
  const bool ran = bench.mover.while_quiet(*bench.pool, [&] {
    StandIns in;
    result = bench.pool->put_stand_ins(at, bytes, want, &in);
    look();
    bench.pool->take_back(&in);
  });
  bench.driver.aliases = false;
  CHECK(ran);
  bench.verify();
  bench.check_books();
  return result;
}

}  // namespace

TEST_CASE("stand-ins: a range is seen as it is wanted, and is what it was afterwards") {
  MoveBench bench(40, 96);
  const size_t granules = GENERATE(size_t{2}, size_t{5}, size_t{37});
  const CUdeviceptr p = bench.make(granules);
  const bool spilled = GENERATE(false, true);
  if (spilled) bench.demote(p);
  const size_t before = bench.spilled(p);
  const size_t bytes = granules * kGranule;
  const auto look = [&](Backing want, const std::string& expected) {
    CHECK(put(bench, p, bytes, want, [&] {
      CHECK(seen(bench, p, granules) == expected);
      CHECK(bench.driver.accessible(p, bytes));
    }));
    CHECK(bench.spilled(p) == before);
  };
  look(Backing::device, times(granules, 'D'));
  look(Backing::host, times(granules, 'H'));
  look(Backing::mixed, "D" + times(granules - 1, 'H'));
  // Everything still moves.
  if (spilled) bench.promote(p);
  bench.demote(p);
  bench.verify();
}

TEST_CASE("stand-ins: part of a page, and one page wanted in two ways") {
  MoveBench bench(40, 96);
  const CUdeviceptr p = bench.make(16);
  bench.demote(p);
  bench.driver.aliases = true;
  CHECK(bench.mover.while_quiet(*bench.pool, [&] {
    StandIns in;
    CHECK(bench.pool->put_stand_ins(p + kGranule + 5, 100, Backing::device, &in));
    CHECK(bench.driver.backing(p + kGranule) == Where::device);
    CHECK(bench.pool->put_stand_ins(p + 3 * kGranule, kGranule, Backing::host, &in));
    CHECK(bench.driver.backing(p + kGranule) == Where::device);
    CHECK(bench.driver.backing(p + 3 * kGranule) == Where::host);
    CHECK(bench.pool->put_stand_ins(p + kGranule, 1, Backing::host, &in));
    CHECK(bench.driver.backing(p + kGranule) == Where::host);
    bench.pool->take_back(&in);
  }));
  bench.driver.aliases = false;
}

TEST_CASE("stand-ins: with every device frame in use a small page lends its own") {
  MoveBench bench(40, 96);
  Request small;
  small.call = "test";
  small.bytes = 4096;
  small.context = bench.context;
  CUdeviceptr s = 0;
  REQUIRE(bench.pool->allocate(small, 0, &s) == CUDA_SUCCESS);
  const CUdeviceptr p = bench.make(8);
  bench.demote(p);
  std::vector<CUdeviceptr> all;
  while (bench.pool->stats().device_held_bytes - bench.pool->stats().cached_bytes < 40 * kGranule) {
    all.push_back(bench.make(2, false));
    if (bench.spilled(all.back()) > 0) break;
  }
  const int created = bench.driver.calls("create");
  CHECK(put(bench, p, 8 * kGranule, Backing::device,
            [&] { CHECK(seen(bench, p, 8) == times(8, 'D')); }));
  CHECK(bench.driver.calls("create") <= created + 1);
  CHECK(bench.driver.peak_device_bytes() <= 40 * kGranule);
  CHECK(put(bench, s, 4096, Backing::device, [] {}));
  CHECK_FALSE(put(bench, s, 4096, Backing::host, [] {}));  // small objects stay
  REQUIRE(bench.pool->free("test", s, 0) == CUDA_SUCCESS);
}

TEST_CASE("stand-ins: what is no memory of the pool, or is in other hands, is left alone") {
  MoveBench bench(40, 96);
  const CUdeviceptr p = bench.make(4);
  CHECK_FALSE(put(bench, p - 64 * kGranule, kGranule, Backing::host, [] {}));
  CHECK_FALSE(put(bench, 0x1000, 64, Backing::host, [] {}));
  CHECK_FALSE(
      put(bench, bench.pool->base() + bench.pool->address_bytes() - 1, 64, Backing::host, [] {}));
  DevicePool::Export out;
  REQUIRE(bench.pool->pin_for_export(p, &out) == CUDA_SUCCESS);
  CHECK_FALSE(put(bench, p, kGranule, Backing::host, [&] { CHECK(seen(bench, p, 1) == "D"); }));
  CHECK(put(bench, p, kGranule, Backing::device, [] {}));
}

TEST_CASE("stand-ins: mixed means pages of both kinds") {
  MoveBench bench(40, 96);
  const CUdeviceptr p = bench.make(38);
  CHECK_FALSE(bench.pool->is_mixed(p, 38 * kGranule));
  std::vector<PageId> some = bench.pages(Where::device, p);
  REQUIRE(some.size() > 1);
  some.resize(1);
  bench.move(some, {});
  CHECK(bench.pool->is_mixed(p, 38 * kGranule));
  CHECK_FALSE(bench.pool->is_mixed(p, 1));
  CHECK_FALSE(bench.pool->is_mixed(p, 0));
  bench.demote(p);
  CHECK_FALSE(bench.pool->is_mixed(p, 38 * kGranule));
  CHECK_FALSE(bench.pool->is_mixed(0x1000, 64));
}

TEST_CASE("stand-ins: no quiet, no stand-ins") {
  MoveBench bench(40, 96);
  bench.make(4);
  bool ran = false;
  SECTION("work that does not end") { bench.submit(); }
  SECTION("a capture") { bench.fence.capture_opening(); }
  SECTION("a thread inside a submission") { bench.gate.enter(0); }
  SECTION("no events of a context") { bench.driver.context_events = false; }
  CHECK_FALSE(bench.mover.while_quiet(*bench.pool, [&] { ran = true; }));
  CHECK_FALSE(ran);
  CHECK_FALSE(bench.gate.is_shut());
  bench.finish();
}

TEST_CASE("stand-ins: one failing driver call, at every place") {
  const auto call = GENERATE("create", "map", "unmap", "set_access");
  const Backing want = GENERATE(Backing::device, Backing::host, Backing::mixed);
  int places = 0;
  for (int nth = 1; nth < 200; ++nth) {
    MoveBench bench(40, 96);
    const CUdeviceptr p = bench.make(18);
    bench.demote(p);
    const CUdeviceptr q = bench.make(18);
    bench.driver.aliases = true;
    bench.driver.fail(call, nth);
    INFO(call << " failing at call " << nth);
    CHECK(bench.mover.while_quiet(*bench.pool, [&] {
      StandIns in;
      for (const CUdeviceptr at : {p, q}) bench.pool->put_stand_ins(at, 18 * kGranule, want, &in);
      bench.pool->take_back(&in);
    }));
    bench.driver.aliases = false;
    bench.verify();
    CHECK(bench.observer.warnings == 0);
    if (bench.driver.faults_hit() == 0) break;
    ++places;
    bench.promote(p);
    bench.verify();
  }
  CHECK(places > (std::string(call) == "create" ? -1 : 3));
}
