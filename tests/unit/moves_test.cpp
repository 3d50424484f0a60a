// Pages that move: bytes stay right, budgets are kept, nothing is lost, and what cannot be moved
// stays where it was.
#include <catch2/catch.hpp>

#include <thread>

#include "tests/unit/move_bench.h"

using namespace flexlom::pool;
using flexlom::unit::fake_context;
using flexlom::unit::FakeDriver;
using flexlom::unit::MoveBench;

TEST_CASE("moves: down and up again, the bytes are the same") {
  const size_t granules = GENERATE(size_t{2}, size_t{5}, size_t{32}, size_t{100});
  MoveBench bench(128, 256);
  const CUdeviceptr p = bench.make(granules);
  const Outcome down = bench.demote(p);
  CHECK_FALSE(down.given_up);
  CHECK(down.down_bytes == granules * kGranule);
  CHECK(down.down_copied_bytes == granules * kGranule);
  CHECK(bench.spilled(p) == granules * kGranule);
  bench.verify();
  bench.rewrite(p);  // in place
  const Outcome up = bench.promote(p);
  CHECK(up.up_bytes == granules * kGranule);
  CHECK(bench.spilled(p) == 0);
  bench.verify();
  const MoveStats s = bench.mover.stats();
  CHECK(s.batches == 2);
  CHECK(s.demoted_bytes == s.promoted_bytes);
  CHECK(s.demoted_pages == s.promoted_pages);
  CHECK(bench.observer.moves.size() == s.demoted_pages + s.promoted_pages);
}

TEST_CASE("moves: pages change places in one batch with the device full to the last frame") {
  MoveBench bench(64, 256);
  const CUdeviceptr a = bench.make(32), b = bench.make(28);
  const CUdeviceptr spilled = bench.make(48, false);
  REQUIRE(bench.spilled(spilled) == 48 * kGranule);
  for (int round = 0; round < 4; ++round) {
    const bool even = round % 2 == 0;
    std::vector<PageId> down = bench.pages(Where::device, even ? a : spilled);
    if (!even) down.erase(down.begin() + 1, down.end());
    const Outcome o = bench.move(down, bench.pages(Where::host, even ? spilled : a));
    CHECK_FALSE(o.given_up);
    CHECK(o.up_bytes > 0);
    bench.verify();
    bench.check_books();
  }
  CHECK(bench.spilled(b) == 0);
  CHECK(bench.driver.peak_device_bytes() <= 64 * kGranule);
}

TEST_CASE("moves: an unchanged page is not copied again, a changed one always is") {
  MoveBench bench(64, 128);
  const CUdeviceptr p = bench.make(16);
  bench.demote(p);
  bench.promote(p);
  const int copies = bench.driver.calls("copy");
  const Outcome clean = bench.demote(p);
  CHECK(clean.down_bytes == 16 * kGranule);
  CHECK(clean.down_copied_bytes == 0);
  CHECK(bench.driver.calls("copy") == copies);
  CHECK(bench.mover.stats().clean_pages == 1);
  bench.verify();

  bench.promote(p);
  SECTION("one word changed") {
    const CUdeviceptr at = p + 7 * FakeDriver::kCell;
    const uint64_t before = bench.driver.read(at);
    bench.driver.write(at, before + 1);
    CHECK(bench.demote(p).down_copied_bytes == 16 * kGranule);
    CHECK(bench.driver.read(at) == before + 1);
    bench.driver.write(at, before);
  }
  SECTION("all of it rewritten, and once more while spilled") {
    bench.rewrite(p);
    CHECK(bench.demote(p).down_copied_bytes == 16 * kGranule);
    bench.rewrite(p);
    bench.promote(p);
    CHECK(bench.demote(p).down_copied_bytes == 0);
  }
  SECTION("a batch that is given up in between does not hide the change") {
    bench.rewrite(p);
    bench.submit();
    CHECK(bench.demote(p).given_up);
    bench.finish();
    CHECK(bench.demote(p).down_copied_bytes == 16 * kGranule);
  }
  SECTION("a copy that failed half way voids the mark") {
    bench.rewrite(p);
    bench.driver.fail("record_on", 2);  // the 1st is that of the fingerprints
    bench.demote(p);
    bench.rewrite(p);
    bench.demote(p);
    CHECK(bench.spilled(p) == 16 * kGranule);
  }
  SECTION("without fingerprints every page is taken for changed") {
    bench.driver.marks = false;
    CHECK(bench.demote(p).down_copied_bytes == 16 * kGranule);
    bench.promote(p);
    CHECK(bench.demote(p).down_copied_bytes == 16 * kGranule);
  }
  bench.verify();
}

// A fingerprint that arrives late may not be taken for that of another page.
TEST_CASE("moves: marks are read only when they were written") {
  MoveBench bench(64, 128);
  const CUdeviceptr a = bench.make(16), b = bench.make(16);
  bench.demote(a);
  bench.promote(a);
  bench.demote(b);
  bench.driver.copies_end = false;
  bench.move(bench.pages(Where::device, a), bench.pages(Where::host, b));
  bench.driver.copies_end = true;
  bench.verify();
  // Now b is given what a held when it left.
  for (size_t at = 0; at < 16 * kGranule; at += FakeDriver::kCell)
    bench.driver.write(b + at, bench.driver.read(a + at));
  bench.demote(b);
  size_t differ = 0;
  for (size_t at = 0; at < 16 * kGranule; at += FakeDriver::kCell)
    differ += bench.driver.read(b + at) != bench.driver.read(a + at);
  CHECK(differ == 0);
  bench.rewrite(b);
}

TEST_CASE("moves: frames, copies and windows go back at trim, at a free and at the end") {
  MoveBench bench(64, 128);
  const CUdeviceptr p = bench.make(40);
  bench.demote(p);
  CHECK(bench.driver.held_bytes(Where::device) == 40 * kGranule);  // kept for the next request
  bench.pool->trim(0);
  CHECK(bench.driver.held_bytes(Where::device) == 0);
  CHECK(bench.driver.held_bytes(Where::host) == 40 * kGranule);
  bench.promote(p);
  CHECK(bench.driver.held_bytes(Where::host) == 40 * kGranule);  // copies
  bench.check_books();
  bench.free(p);
  bench.pool->trim(0);
  CHECK(bench.driver.held_bytes(Where::device) == kGranule);  // scratch of the fingerprints
  bench.check_books();
  // The copies are host frames to use.
  bench.make(56);
  bench.make(128, false);
}

TEST_CASE("moves: a page that is freed while it moves stays until the move is over") {
  MoveBench bench(64, 128);
  const CUdeviceptr p = bench.make(4);
  const bool up = GENERATE(false, true);
  if (up) bench.demote(p);
  const PageId id = bench.pages(up ? Where::host : Where::device, p).front();
  Move move;
  REQUIRE((up ? bench.pool->begin_promote(id, &move) : bench.pool->begin_demote(id, &move)) ==
          CUDA_SUCCESS);
  // It is on its way already.
  Move again;
  CHECK(bench.pool->begin_demote(id, &again) != CUDA_SUCCESS);
  CHECK(bench.pool->begin_promote(id, &again) != CUDA_SUCCESS);
  bench.free(p);
  bench.pool->trim(0);
  CHECK(bench.driver.accessible(p, 4 * kGranule));
  const bool finish = GENERATE(false, true);
  REQUIRE(bench.gate.close(1'000'000));
  if (up) {
    if (finish) REQUIRE(bench.pool->place_promoted(&move) == CUDA_SUCCESS);
    bench.pool->finish_promote(move, finish, nullptr);
  } else if (finish) {
    CHECK(bench.pool->finish_demote(move) == CUDA_SUCCESS);
  } else {
    bench.pool->cancel_demote(move);
  }
  bench.gate.open();
  bench.pool->trim(0);
  CHECK_FALSE(bench.driver.accessible(p, 4 * kGranule));
  CHECK(bench.driver.held_bytes(Where::device) == 0);
  // The page's name names nothing any more, even when its record is used again.
  CHECK(bench.pool->begin_demote(id, &again) != CUDA_SUCCESS);
  bench.make(6);
  CHECK(bench.pool->begin_demote(id, &again) != CUDA_SUCCESS);
}

TEST_CASE("moves: a page that is handed out again while it moves has the new owner's bytes") {
  MoveBench bench(64, 128);
  const CUdeviceptr p = bench.make(4);
  Move move;
  REQUIRE(bench.pool->begin_demote(bench.pages(Where::device, p).front(), &move) == CUDA_SUCCESS);
  bench.free(p);
  REQUIRE(bench.make(4) == p);
  bench.pool->cancel_demote(move);
  CHECK(bench.demote(p).down_bytes == 4 * kGranule);
}

TEST_CASE("moves: small, single and exported allocations stay") {
  MoveBench bench(64, 128);
  CHECK(bench.make(1) != 0);
  const CUdeviceptr p = bench.make(4);
  PageId id = bench.pages(Where::device, p).front();
  CHECK(bench.pages(Where::device).size() == 1);
  SECTION("exported before") {
    DevicePool::Export e;
    REQUIRE(bench.pool->pin_for_export(p, &e) == CUDA_SUCCESS);
    CHECK(bench.pages(Where::device).empty());
    CHECK(bench.move({id}, {}).given_up);
  }
  SECTION("exported after the move began") {
    Move move;
    REQUIRE(bench.pool->begin_demote(id, &move) == CUDA_SUCCESS);
    std::atomic<bool> answered{false};
    std::atomic<int> answer{-1};
    std::thread exporter([&] {
      DevicePool::Export e;
      answer = bench.pool->pin_for_export(p, &e);
      answered = true;
    });
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    CHECK_FALSE(answered);
    const bool moved = GENERATE(true, false);
    if (moved) {
      REQUIRE(bench.gate.close(1'000'000));
      CHECK(bench.pool->finish_demote(move) == CUDA_SUCCESS);
      bench.gate.open();
    } else {
      bench.pool->cancel_demote(move);
    }
    exporter.join();
    CHECK(answer == (moved ? CUDA_ERROR_NOT_SUPPORTED : CUDA_SUCCESS));
    bench.rewrite(p);
  }
  bench.verify();
}

TEST_CASE("moves: copies kept on the host are given up when frames are short") {
  MoveBench bench(64, 40);
  const CUdeviceptr a = bench.make(20), b = bench.make(24);
  bench.demote(a);
  bench.promote(a);  // its 20 granules on the host are copies now
  REQUIRE(bench.driver.held_bytes(Where::host) == 20 * kGranule);
  const Outcome o = bench.demote(b);
  CHECK(o.down_bytes == 24 * kGranule);
  CHECK(bench.driver.held_bytes(Where::host) <= 40 * kGranule);
  bench.verify();
  // What lost its copy has lost its mark.
  bench.rewrite(a);
  bench.promote(b);
  bench.demote(a);
  CHECK(bench.spilled(a) == 20 * kGranule);
}

TEST_CASE("moves: copies of pages that stay on the device go back, and their frames") {
  MoveBench bench(128, 256);
  const CUdeviceptr p = bench.make(64), other = bench.make(32);
  bench.demote(p);
  bench.promote(p);
  const auto sweep = [&](int times) {
    for (int i = 0; i < times; ++i) bench.pool->sweep(2);
  };
  sweep(20);
  SECTION("not before they have stayed for long") {
    CHECK(bench.host_budget.held() == 64 * kGranule);
    CHECK(bench.demote(p).down_copied_bytes == 0);
    bench.promote(p);
    sweep(20);  // from now on
    CHECK(bench.host_budget.held() == 64 * kGranule);
    bench.rewrite(p);
  }
  sweep(10);
  CHECK(bench.host_budget.held() == 0);
  bench.verify();
  CHECK(bench.demote(p).down_copied_bytes == 64 * kGranule);
  CHECK(bench.demote(other).down_copied_bytes == 32 * kGranule);
  bench.verify();
  bench.check_books();
}

TEST_CASE("moves: copies are given up for an allocation that has to spill") {
  MoveBench bench(32, 24);
  const CUdeviceptr a = bench.make(20);
  bench.demote(a);
  bench.promote(a);
  REQUIRE(bench.driver.held_bytes(Where::host) == 20 * kGranule);
  const CUdeviceptr b = bench.make(24, false);
  REQUIRE(b != 0);
  CHECK(bench.spilled(b) > 4 * kGranule);
  bench.verify();
}

TEST_CASE("moves: nothing moves down when the host has no room") {
  MoveBench bench(64, 16);
  const CUdeviceptr a = bench.make(16), b = bench.make(16);
  CHECK(bench.demote(a).down_bytes == 16 * kGranule);
  const Outcome o = bench.demote(b);
  CHECK(o.given_up);
  CHECK(bench.observer.gave_up(GaveUp::no_memory) == 1);
  CHECK(bench.spilled(b) == 0);
  CHECK(bench.mover.worth_trying());
}

TEST_CASE("moves: an open capture, a thread inside, and work that does not end") {
  MoveBench bench(64, 64);
  const CUdeviceptr p = bench.make(8);
  GaveUp why = GaveUp::count_;
  SECTION("capture") {
    bench.fence.capture_opening();
    bench.driver.capturing = true;
    CHECK_FALSE(bench.mover.worth_trying());
    CHECK(bench.demote(p).given_up);
    bench.driver.capturing = false;
    bench.fence.capture_closed();
    why = GaveUp::capture;
    CHECK(bench.mover.worth_trying());
  }
  SECTION("a thread inside a submission") {
    bench.gate.enter(3);
    CHECK(bench.demote(p).given_up);
    bench.gate.leave(3);
    why = GaveUp::readers;
  }
  SECTION("a kernel that spins") {
    bench.submit();
    CHECK(bench.demote(p).given_up);
    bench.finish();
    why = GaveUp::work;
  }
  CHECK(bench.observer.gave_up(why) == 1);
  CHECK(bench.mover.stats().given_up[static_cast<size_t>(why)] == 1);
  CHECK(bench.spilled(p) == 0);
  bench.verify();
  CHECK(bench.demote(p).down_bytes == 8 * kGranule);
}

TEST_CASE("moves: after work that does not end the next tries come later and later") {
  MoveBench bench(64, 64);
  const CUdeviceptr p = bench.make(8);
  bench.submit();
  const auto pause_ms = [&] {
    REQUIRE(bench.demote(p).given_up);
    CHECK_FALSE(bench.mover.worth_trying());
    const uint64_t start = ThreadSync::now_ns();
    while (!bench.mover.worth_trying()) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    return (ThreadSync::now_ns() - start) / 1'000'000;
  };
  const uint64_t first = pause_ms(), second = pause_ms();
  CHECK(first >= 20);
  CHECK(second >= first * 3 / 2);
  bench.finish();
  CHECK(bench.demote(p).down_bytes == 8 * kGranule);
  CHECK(bench.mover.worth_trying());
}

TEST_CASE("moves: a long queue is waited for as long as its work goes on ending") {
  MoveBench bench(64, 64);
  // The queue takes longer than the wait for a sign of progress, and one piece of its work far
  // less: a thread of a loaded machine may stand still for some tens of milliseconds.
  bench.mover.set_limits({400'000'000, 5'000'000'000, 200'000'000, 200'000'000, 200'000'000});
  const CUdeviceptr p = bench.make(8);
  constexpr uint64_t kQueued = 60;
  for (uint64_t i = 0; i < kQueued; ++i) {
    bench.submit();
    bench.fence.mark();
  }
  const bool ends_one_by_one = GENERATE(true, false);
  std::thread device([&] {
    for (uint64_t i = 1; i <= kQueued; ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
      if (ends_one_by_one) bench.driver.finish_to(bench.context, i);
    }
    bench.finish();
  });
  CHECK(bench.demote(p).given_up == !ends_one_by_one);
  device.join();
  bench.verify();
}

TEST_CASE("moves: work that was only slow is waited for, longer the next time") {
  MoveBench bench(64, 64);
  constexpr uint64_t kStuck_ns = 200'000'000;
  bench.mover.set_limits({kStuck_ns, 5'000'000'000, kStuck_ns, kStuck_ns, kStuck_ns});
  const CUdeviceptr p = bench.make(8);
  bench.submit();
  REQUIRE(bench.demote(p).given_up);
  CHECK_FALSE(bench.mover.worth_trying());  // for four times as long, were it not to end
  bench.finish();
  bench.fence.advance();
  CHECK(bench.mover.worth_trying());
  bench.submit();
  std::thread device([&] {
    std::this_thread::sleep_for(std::chrono::nanoseconds(kStuck_ns * 3 / 2));
    bench.finish();
  });
  CHECK_FALSE(bench.demote(p).given_up);
  device.join();
  CHECK(bench.spilled(p) == 8 * kGranule);
}

TEST_CASE("moves: copies that take long are waited for, never abandoned") {
  MoveBench bench(64, 128);
  const CUdeviceptr a = bench.make(16), b = bench.make(20);
  bench.demote(a);
  bench.driver.copies_end = false;
  bench.move(bench.pages(Where::device, b), bench.pages(Where::host, a));
  bench.driver.copies_end = true;
  bench.verify();
  bench.check_books();
  bench.move(bench.pages(Where::device), bench.pages(Where::host));
  bench.verify();
}

TEST_CASE("moves: a context that is destroyed while a batch waits in it") {
  MoveBench bench(64, 64);
  const CUdeviceptr p = bench.make(8);
  const CUcontext other = fake_context(2);
  bench.fence.add_context(other);
  bench.mover.run({bench.pool.get(), other, bench.pages(Where::device, p), {}});
  CHECK(bench.driver.live_streams() == 2);
  bench.promote(p);
  bench.driver.submit(other);
  bench.word.store(1);
  std::atomic<bool> waiting{false}, given_up{false};
  const std::vector<PageId> pages = bench.pages(Where::device, p);
  std::thread mover([&] {
    waiting = true;
    given_up = bench.mover.run({bench.pool.get(), other, pages, {}}).given_up;
  });
  while (!waiting) std::this_thread::yield();
  std::this_thread::sleep_for(std::chrono::milliseconds(1));
  {
    std::lock_guard no_moves(bench.mover.mutex());
    bench.mover.release_context(other);
    CHECK(bench.driver.live_streams() == 2);  // those of the first context
    REQUIRE(bench.fence.destroy_events(other));
    bench.driver.finish(other);
    bench.fence.remove_context(other);
  }
  mover.join();
  CHECK(given_up);
  {
    std::lock_guard no_moves(bench.mover.mutex());
    bench.mover.release_context(other);
  }
  bench.verify();
  CHECK(bench.demote(p).down_bytes == 8 * kGranule);
}

TEST_CASE("moves: what is registered with another device stays") {
  MoveBench bench(64, 64);
  const CUdeviceptr resident = bench.make(8), spilled = bench.make(8);
  bench.demote(spilled);
  for (const CUdeviceptr p : {resident, spilled}) CHECK(bench.pool->set_sync_memops(p, true));
  CHECK(bench.demote(resident).down_bytes == 0);
  CHECK(bench.promote(spilled).up_bytes == 0);
  CHECK(bench.spilled(resident) == 0);
  CHECK(bench.spilled(spilled) == 8 * kGranule);
  bench.verify();
}

TEST_CASE("moves: nothing moves without context events or streams") {
  MoveBench bench(64, 64);
  const CUdeviceptr p = bench.make(8);
  SECTION("no context events: a fence would be a wait without a bound") {
    bench.driver.context_events = false;
    CHECK(bench.demote(p).given_up);
    CHECK(bench.driver.calls("synchronize") == 0);
  }
  SECTION("no streams") {
    bench.driver.fail("stream_create", GENERATE(1, 2));
    CHECK(bench.demote(p).given_up);
    CHECK(bench.driver.live_streams() == 0);
  }
  CHECK(bench.observer.gave_up(GaveUp::context) == 1);
  CHECK(bench.spilled(p) == 0);
}
