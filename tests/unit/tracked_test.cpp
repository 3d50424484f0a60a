// Tracked mode: which pages may move beside running work, who waits for them, and that the bytes
// are there when they are looked at.
#include <catch2/catch.hpp>

#include <deque>
#include <set>
#include <thread>

#include "pool/in_flight.h"
#include "pool/residency/residency.h"
#include "tests/unit/move_bench.h"

using namespace flexlom::pool;
using flexlom::unit::kGranule;
using flexlom::unit::MoveBench;

namespace {

// A program whose submissions are told to the pool, as the doors do it.
struct TrackedBench : MoveBench {
  Tracked tracked{mover, fence};

  TrackedBench(uint64_t device_granules, uint64_t host_granules)
      : MoveBench(device_granules, host_granules) {
    driver.beside = true;
  }
  ~TrackedBench() { mover.settle_arrivals(); }

  // Work that names these begins; with `run` it is running until finish_work().
  Touched begin(const std::vector<CUdeviceptr>& named, Tracking* tracking = nullptr) {
    Tracking own;
    return pool->touch({named.data(), named.size()}, 0, nullptr,
                       tracking != nullptr ? tracking : &own);
  }
  void submitted(const Touched& touched) {
    submit();
    pool->submitted(touched.tick);
  }
  void work(const std::vector<CUdeviceptr>& named) { submitted(begin(named)); }
  // Without a check of its own: those are for one thread.
  void end(CUcontext ended) {
    const std::lock_guard no_moves(mover.mutex());
    mover.release_context(ended);
    fence.destroy_events(ended);
    fence.remove_context(ended);
  }
  // What is over is known.
  void finish_work() {
    pool->mark_uses();
    finish();
    fence.advance();
    pool->uses_over_before();
  }
  bool promote_for(CUdeviceptr p, uint64_t* arrival, uint64_t ready_bytes = 0,
                   CUcontext in = nullptr) {
    Tracking tracking;
    const Touched touched = begin({p}, &tracking);
    Submission submission;
    submission.context = in != nullptr ? in : context;
    Outcome outcome;
    const bool done =
        tracked.promote(*pool, submission, touched.tick, tracking, ready_bytes, arrival, &outcome);
    submitted(touched);
    return done;
  }
};

}  // namespace

TEST_CASE("tracked: uses are over when all that was submitted before is, and not sooner") {
  InFlight uses;
  uses.begin(1, false);
  uses.begin(2, false);
  uses.end(2);
  CHECK(uses.given_before(2) == 1);  // the first is still on its way to the driver
  uses.mark(10, uses.given_before(2));
  uses.end(1);
  uses.mark(11, uses.given_before(2));
  uses.passed(10);
  CHECK_FALSE(uses.over(1));
  uses.passed(11);
  CHECK(uses.over(1));
  CHECK(uses.over(2));
  CHECK_FALSE(uses.over(3));

  uses.begin(3, true);  // may touch anything
  CHECK_FALSE(uses.over(1));
  uses.end(3);
  uses.mark(12, uses.given_before(3));
  CHECK_FALSE(uses.over(1));
  uses.passed(12);
  CHECK(uses.over(1));
}

TEST_CASE("tracked: only what nothing uses can be claimed") {
  TrackedBench bench(64, 64);
  const CUdeviceptr never = bench.make(4), used = bench.make(4);
  const auto claim = [&](CUdeviceptr p) {
    const PageId page = bench.pages(Where::device, p).at(0);
    const bool claimed = bench.pool->claim_unused(page);
    if (claimed) bench.pool->unclaim(page, 0);
    return claimed;
  };
  CHECK_FALSE(claim(never));  // nothing is known of it
  const Touched touched = bench.begin({used});
  CHECK_FALSE(claim(used));  // on its way
  bench.submit();
  bench.pool->mark_uses();
  bench.finish();
  bench.fence.advance();
  bench.pool->uses_over_before();
  CHECK_FALSE(claim(used));  // the mark came before the driver was known to have it
  bench.submitted(touched);
  CHECK_FALSE(claim(used));  // running
  bench.finish_work();
  CHECK(claim(used));

  SECTION("an address seen in data keeps it from being claimed") {
    const CUdeviceptr inside = used + 3 * kGranule + 8;
    CHECK(bench.pool->seen_in_data(&inside, 1) == 0);
    CHECK_FALSE(claim(used));
  }
  SECTION("work that may touch anything keeps everything") {
    Tracking wild;
    wild.wild = true;
    const Touched t = bench.begin({}, &wild);
    REQUIRE(t.tick != 0);
    CHECK_FALSE(claim(used));
    bench.submitted(t);
    bench.finish_work();
    CHECK(claim(used));
  }
}

TEST_CASE("tracked: whoever names a claimed page waits until it is in its place") {
  TrackedBench bench(64, 64);
  const CUdeviceptr p = bench.make(4), other = bench.make(4);
  bench.work({p, other});
  bench.finish_work();
  const PageId page = bench.pages(Where::device, p).at(0);
  REQUIRE(bench.pool->claim_unused(page));
  bench.work({other});  // does not wait
  const bool wild = GENERATE(false, true);
  std::atomic<bool> through{false};
  uint64_t arrival = 0;
  std::thread submitter([&] {
    Tracking tracking;
    tracking.wild = wild;
    const Touched t = bench.begin(wild ? std::vector<CUdeviceptr>{} : std::vector{p}, &tracking);
    through = true;
    arrival = tracking.arrival;
    bench.submitted(t);
  });
  for (int i = 0; i < 20 && !through; ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  CHECK_FALSE(through);
  bench.pool->unclaim(page, 7);
  submitter.join();
  CHECK(through);
  if (!wild) CHECK(arrival == 7);
}

TEST_CASE("tracked: pages come up beside running work, in place of what is over") {
  TrackedBench bench(16, 64);
  const CUdeviceptr idle = bench.make(6), busy = bench.make(6);
  const CUdeviceptr wanted = bench.make(6, false);
  bench.demote(wanted);
  REQUIRE(bench.spilled(wanted) == 6 * kGranule);
  bench.work({idle});
  bench.work({wanted});
  bench.finish_work();
  bench.work({busy});
  bench.driver.run_on(busy, 6 * kGranule);

  const uint64_t shut_ns = bench.mover.stats().shut_ns;
  uint64_t arrival = 0;
  REQUIRE(bench.promote_for(wanted, &arrival));
  CHECK(bench.spilled(wanted) == 0);
  CHECK(bench.spilled(busy) == 0);
  CHECK(bench.spilled(idle) > 0);
  REQUIRE(arrival != 0);
  CHECK(bench.mover.arriving());
  CHECK(bench.mover.while_arriving(arrival, [](CUevent event) { CHECK(event != nullptr); }));
  // Whoever names it from now on is told to wait.
  Tracking tracking;
  bench.submitted(bench.begin({wanted + kGranule}, &tracking));
  CHECK(tracking.arrival == arrival);
  bench.mover.settle_arrivals();
  CHECK_FALSE(bench.mover.arriving());
  CHECK_FALSE(bench.mover.while_arriving(arrival, [](CUevent) { CHECK(false); }));
  bench.verify();
  CHECK(bench.mover.stats().beside == 1);
  CHECK(bench.mover.stats().shut_ns == shut_ns);  // nobody was held

  // Unchanged since, so it leaves without a copy; then changed, and copied.
  bench.driver.run_over(busy);
  bench.finish_work();
  const MoveStats before = bench.mover.stats();
  REQUIRE(bench.promote_for(idle, &arrival, 8 * kGranule));
  bench.mover.settle_arrivals();
  bench.verify();
  const MoveStats after = bench.mover.stats();
  CHECK(after.clean_pages > before.clean_pages);
  bench.rewrite(idle);
  bench.finish_work();
  REQUIRE(bench.promote_for(bench.spilled(wanted) > 0 ? wanted : busy, &arrival, 12 * kGranule));
  bench.mover.settle_arrivals();
  bench.verify();
  CHECK(bench.mover.stats().demoted_copied_bytes > after.demoted_copied_bytes);
}

TEST_CASE("tracked: a context ends while pages arrive for another") {
  TrackedBench bench(32, 64);
  const CUcontext other = flexlom::unit::fake_context(2);
  bench.fence.add_context(other);
  const CUdeviceptr first = bench.make(6), second = bench.make(6);
  for (const CUdeviceptr p : {first, second}) bench.demote(p);
  uint64_t arrival = 0;
  REQUIRE(bench.promote_for(first, &arrival, 0, other));
  REQUIRE(arrival != 0);
  // Its fingerprints would need the memory that the other context's are made in just now.
  REQUIRE(bench.promote_for(second, &arrival));
  REQUIRE(arrival != 0);
  bench.end(other);
  CHECK(bench.mover.while_arriving(arrival, [](CUevent) {}));
  bench.mover.settle_arrivals();
  bench.verify();
  bench.finish_work();
  // What has no fingerprint is copied, whatever it is; the other's leaves as it came.
  CHECK(bench.demote(second).down_copied_bytes == 6 * kGranule);
  CHECK(bench.demote(first).down_copied_bytes == 0);
  bench.verify();
}

TEST_CASE("tracked: what arrives in two contexts is waited for in both") {
  TrackedBench bench(48, 64);
  const CUcontext other = flexlom::unit::fake_context(2);
  bench.fence.add_context(other);
  const CUdeviceptr all[] = {bench.make(6), bench.make(6), bench.make(6)};
  for (const CUdeviceptr p : all) bench.demote(p);
  uint64_t arrival = 0;
  REQUIRE(bench.promote_for(all[0], &arrival));
  REQUIRE(bench.promote_for(all[1], &arrival));
  REQUIRE(bench.promote_for(all[2], &arrival, 0, other));
  const auto events = [&](uint64_t number) {
    std::set<CUevent> seen;
    bench.mover.while_arriving(number, [&](CUevent event) { seen.insert(event); });
    return seen.size();
  };
  CHECK(events(arrival) == 2);      // the last in each
  CHECK(events(arrival - 1) == 1);  // what comes later is nobody's concern
  bench.mover.settle_arrivals();
  CHECK(events(arrival) == 0);
  bench.end(other);
  bench.verify();
}

TEST_CASE("tracked: a context ends while somebody makes a stream wait for what arrives in it") {
  TrackedBench bench(32, 64);
  const CUcontext other = flexlom::unit::fake_context(2);
  bench.fence.add_context(other);
  const CUdeviceptr p = bench.make(6);
  bench.demote(p);
  uint64_t arrival = 0;
  REQUIRE(bench.promote_for(p, &arrival, 0, other));
  std::atomic<bool> ended{false};
  std::thread end;
  CHECK(bench.mover.while_arriving(arrival, [&](CUevent event) {
    end = std::thread([&] {
      bench.end(other);
      ended = true;
    });
    for (int i = 0; i < 20 && !ended; ++i)
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    CHECK_FALSE(ended);
    CHECK(bench.driver.is_live(event));
  }));
  end.join();
  CHECK_FALSE(bench.mover.while_arriving(arrival, [](CUevent) {}));
  bench.verify();
}

TEST_CASE("tracked: what cannot be had without waiting for ever is left alone") {
  TrackedBench bench(8, 64);
  const CUdeviceptr busy = bench.make(6), wanted = bench.make(6, false);
  bench.demote(wanted);
  bench.work({wanted});
  bench.finish_work();
  bench.work({busy});  // never ends
  bench.driver.run_on(busy, 6 * kGranule);
  uint64_t arrival = 0;
  CHECK_FALSE(bench.promote_for(wanted, &arrival));
  CHECK(arrival == 0);
  CHECK(bench.spilled(wanted) == 6 * kGranule);
  CHECK_FALSE(bench.tracked.worth_trying());
  // Nothing is claimed any more: this does not hang.
  bench.work({wanted, busy});
  bench.driver.run_over(busy);
  bench.finish_work();
}

TEST_CASE("tracked: nothing moves while a capture is open") {
  TrackedBench bench(8, 64);
  const CUdeviceptr idle = bench.make(6), wanted = bench.make(6, false);
  bench.demote(wanted);
  bench.work({wanted, idle});
  bench.finish_work();
  bench.fence.capture_opening();
  bench.driver.capturing = true;
  uint64_t arrival = 0;
  CHECK_FALSE(bench.promote_for(wanted, &arrival));
  CHECK_FALSE(bench.tracked.worth_trying());
  bench.driver.capturing = false;
  bench.fence.capture_closed();
  bench.finish_work();
  CHECK(bench.promote_for(wanted, &arrival));
  bench.mover.settle_arrivals();
  bench.verify();
}

TEST_CASE("tracked: marks do not pile up while nothing moves") {
  TrackedBench bench(64, 64);
  const CUdeviceptr p = bench.make(4);
  for (int i = 0; i < 500; ++i) {
    bench.work({p});
    bench.finish();
    bench.pool->mark_uses();
    bench.finish();
    bench.fence.advance();
  }
  CHECK(bench.pool->open_marks() <= 2);
}

// The kernels of a pass each read memory of their own, pass after pass, and the device runs a few
// submissions behind.
namespace {

struct CycleBench : TrackedBench {
  static constexpr size_t kSpans = 40, kRoom = 22, kGranules = 32;  // pages of 64 MiB
  static constexpr size_t kBehind = 3;
  // Of the room, one is left to small pages and one is kept ready.
  static constexpr size_t kAway = kSpans - (kRoom - 2);

  CycleBench() : TrackedBench(kRoom * kGranules, kSpans * kGranules) {
    // A mover whose patience ends waits for all work instead, and then none of it is running.
    mover.set_limits({});
    for (size_t i = 0; i < kSpans; ++i) spans.push_back(make(kGranules, false));
  }
  ~CycleBench() {
    tracked.stop();
    finish_all();
  }
  void finish_all() {
    for (const auto& [work, p] : running) driver.run_over(p);
    running.clear();
    finish_work();
  }

  struct Pass {
    size_t brought = 0;  // submissions that brought in what they named
    size_t failed = 0;   // and those that could not
    size_t early = 0;    // rounds of looking ahead that brought something in
  };
  Pass pass(bool ahead) {
    Pass result;
    for (const CUdeviceptr p : spans) {
      Tracking tracking;
      const Touched touched = begin({p}, &tracking);
      if (spilled(p) > 0) {
        Submission submission;
        submission.context = context;
        uint64_t arrival = 0;
        Outcome outcome;
        const bool promoted = tracked.promote(*pool, submission, touched.tick, tracking,
                                              kGranules * kGranule, &arrival, &outcome);
        ++(promoted ? result.brought : result.failed);
      }
      submitted(touched);
      driver.run_on(p, kGranules * kGranule);
      running.emplace_back(driver.submitted(context), p);
      pool->mark_uses();
      while (running.size() > kBehind) {
        driver.run_over(running.front().second);
        driver.finish_to(context, running.front().first);
        running.pop_front();
      }
      fence.advance();
      mover.try_harvest();
      if (ahead && tracked.look_ahead()) ++result.early;
    }
    return result;
  }
  uint64_t came_up() const { return mover.stats().promoted_pages; }

  std::vector<CUdeviceptr> spans;
  std::deque<std::pair<uint64_t, CUdeviceptr>> running;
};

}  // namespace

// There is always a page whose use is over and comes last, so nobody ever has to wait for work that
// still runs, and few more pages come up than have no room.
TEST_CASE("tracked: a cycle half of which fits moves what does not fit, and waits for nothing") {
  CycleBench bench;
  bench.pass(false);
  bench.tracked.stop();  // nobody else looks ahead
  bench.pass(false);
  bench.pass(false);
  for (int i = 0; i < 5; ++i) {
    const uint64_t before = bench.came_up();
    const CycleBench::Pass pass = bench.pass(false);
    CHECK(pass.failed == 0);
    CHECK(pass.brought > 0);
    CHECK(bench.came_up() - before <= CycleBench::kAway * 5 / 4 + 1);
  }
}

TEST_CASE("tracked: looking ahead brings pages in before they are named") {
  CycleBench bench;
  bench.pass(false);
  bench.tracked.stop();
  bench.pass(true);
  bench.pass(true);
  size_t brought = 0, early = 0;
  for (int i = 0; i < 5; ++i) {
    const uint64_t before = bench.came_up();
    const CycleBench::Pass pass = bench.pass(true);
    CHECK(pass.failed == 0);
    brought += pass.brought;
    early += pass.early;
    // What waits to be used holds room that others could have.
    CHECK(bench.came_up() - before <= CycleBench::kAway * 3 / 2);
  }
  CHECK(early > 10 * brought);

  bench.pass(false);  // what had come early is used
  SECTION("again, now") { CHECK(bench.tracked.look_ahead()); }
  SECTION("not while a capture is open") {
    bench.fence.capture_opening();
    bench.driver.capturing = true;
    for (int i = 0; i < 5; ++i) CHECK_FALSE(bench.tracked.look_ahead());
    bench.driver.capturing = false;
    bench.fence.capture_closed();
  }
  SECTION("not with a context that has ended") {
    {
      const std::lock_guard lock(bench.mover.mutex());
      bench.tracked.forget(bench.context);
    }
    for (int i = 0; i < 5; ++i) CHECK_FALSE(bench.tracked.look_ahead());
  }
}

TEST_CASE("tracked: what came early and is not named does not grow without bound") {
  CycleBench bench;
  bench.pass(false);
  bench.tracked.stop();
  for (int i = 0; i < 4; ++i) bench.pass(true);
  bench.finish_all();
  size_t rounds = 0;
  while (rounds < 100 && bench.tracked.look_ahead()) {
    bench.mover.settle_arrivals();
    ++rounds;
  }
  CHECK(rounds <= CycleBench::kAway / 4);
}

TEST_CASE("tracked: the thread that looks ahead works by itself, and ends") {
  CycleBench bench;
  for (int i = 0; i < 3; ++i) bench.pass(false);
  const uint64_t before = bench.mover.stats().beside;
  uint64_t brought = 0;
  const auto by_itself = [&] { return bench.mover.stats().beside - before > brought; };
  for (int i = 0; i < 200 && !by_itself(); ++i) {
    brought += bench.pass(false).brought;
    for (int use = 0; use < 4; ++use) bench.tracked.note_use(*bench.pool);
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  CHECK(by_itself());
  bench.tracked.stop();
  bench.finish_all();
  bench.mover.settle_arrivals();
  bench.verify();
  const uint64_t after = bench.mover.stats().beside;
  for (int use = 0; use < 4; ++use) bench.tracked.note_use(*bench.pool);
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  CHECK(bench.mover.stats().beside == after);
}
