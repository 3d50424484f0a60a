// Frames and keeper.
#include <catch2/catch.hpp>

#include <unistd.h>

#include "pool/frames.h"
#include "pool/keeper.h"
#include "tests/unit/fake_driver.h"

using namespace flexlom::pool;
using flexlom::unit::FakeDriver;

namespace {

struct Bench {
  FakeDriver driver;
  Budget device{16 * kGranule}, host{8 * kGranule};
  Frames frames{driver, 0, device, host, true};
  Bench() {
    driver.device_limit_bytes = device.limit();
    driver.host_limit_bytes = host.limit();
  }
  ~Bench() { CHECK(driver.problems() == ""); }
  flexlom::pool::Frame must_take(Where where, unsigned order) {
    flexlom::pool::Frame frame;
    REQUIRE(frames.take(where, order, 0, &frame) == CUDA_SUCCESS);
    return frame;
  }
};

}  // namespace

TEST_CASE("frames: a spare frame is used again without the driver") {
  Bench bench;
  const auto frame = bench.must_take(Where::device, 1);
  bench.frames.put(Where::device, 1, frame);
  CHECK(bench.frames.spare_bytes(Where::device) == 2 * kGranule);
  CHECK(bench.must_take(Where::device, 1).handle == frame.handle);
  CHECK(bench.driver.calls("create") == 1);
  CHECK(bench.frames.spare_bytes(Where::device) == 0);
}

TEST_CASE("frames: the budget holds, less what is to be kept free") {
  Bench bench;
  flexlom::pool::Frame frame;
  CHECK(bench.frames.take(Where::device, 4, 1, &frame) == CUDA_ERROR_OUT_OF_MEMORY);
  CHECK(bench.frames.take(Where::device, 3, 8 * kGranule, &frame) == CUDA_SUCCESS);
  CHECK(bench.frames.take(Where::device, 3, kGranule, &frame) == CUDA_ERROR_OUT_OF_MEMORY);
  CHECK(bench.frames.take(Where::device, 3, 0, &frame) == CUDA_SUCCESS);
  CHECK(bench.frames.take(Where::device, 0, 0, &frame) == CUDA_ERROR_OUT_OF_MEMORY);
  CHECK(bench.device.held() == bench.device.limit());
}

TEST_CASE("frames: spare frames of other sizes make room") {
  Bench bench;
  for (int i = 0; i < 16; ++i) {
    const auto frame = bench.must_take(Where::device, 0);
    if (i < 8) bench.frames.put(Where::device, 0, frame);
    if (i >= 7 && i < 15) continue;
  }
  // At most one spare frame was there at a time, so 9 are held: the rest is room.
  CHECK(bench.must_take(Where::device, 2).handle != 0);
  CHECK(bench.driver.held_bytes(Where::device) <= bench.device.limit());
}

TEST_CASE("frames: a driver that is out of memory is asked again after spare frames went back") {
  Bench bench;
  const auto spare = bench.must_take(Where::device, 1);
  bench.frames.put(Where::device, 1, spare);
  bench.driver.capacity_bytes = 3 * kGranule;
  flexlom::pool::Frame frame;
  CHECK(bench.frames.take(Where::device, 0, 0, &frame) == CUDA_SUCCESS);
  bench.frames.put(Where::device, 0, frame);
  bench.driver.capacity_bytes = 2 * kGranule;
  CHECK(bench.frames.take(Where::device, 2, 0, &frame) == CUDA_ERROR_OUT_OF_MEMORY);
  CHECK(bench.frames.refusals() == 1);
  CHECK(bench.device.held() == bench.driver.held_bytes(Where::device));
}

TEST_CASE("frames: a release that fails leaves the bytes counted") {
  Bench bench;
  for (int i = 0; i < 2; ++i) {
    const auto one = bench.must_take(Where::device, 3), two = bench.must_take(Where::host, 0);
    bench.frames.put(Where::device, 3, one);
    bench.frames.put(Where::host, 0, two);
    if (i == 0) bench.driver.fail("release");
    bench.frames.release_spare(Where::device, ~uint64_t{0});
    bench.frames.release_spare(Where::host, ~uint64_t{0});
    CHECK(bench.device.held() == bench.driver.held_bytes(Where::device));
    CHECK(bench.host.held() == bench.driver.held_bytes(Where::host));
  }
  CHECK(bench.driver.faults_hit() == 1);
}

TEST_CASE("frames: what was spare on the host all the while is known") {
  FakeDriver driver;
  Budget device(64 * kGranule), host(64 * kGranule);
  Frames frames(driver, 0, device, host, true);
  flexlom::pool::Frame f[3];
  for (auto& frame : f) REQUIRE(frames.take(Where::host, 0, 0, &frame) == CUDA_SUCCESS);
  CHECK(frames.take_host_surplus() == 0);
  for (auto& frame : f) frames.put(Where::host, 0, frame);
  CHECK(frames.take_host_surplus() == 0);  // until now they were in use
  CHECK(frames.take_host_surplus() == 3 * kGranule);
  REQUIRE(frames.take_spare(Where::host, 0, &f[0]));
  REQUIRE(frames.take_spare(Where::host, 0, &f[1]));
  frames.put(Where::host, 0, f[0]);
  frames.put(Where::host, 0, f[1]);
  CHECK(frames.take_host_surplus() == kGranule);
  frames.release_spare(Where::host, 2 * kGranule);
  CHECK(frames.take_host_surplus() == kGranule);
  REQUIRE(frames.take(Where::device, 0, 0, &f[0]) == CUDA_SUCCESS);  // the device's are others
  frames.put(Where::device, 0, f[0]);
  CHECK(frames.take_host_surplus() == kGranule);
}

TEST_CASE("frames: without host VMM there are no host frames") {
  FakeDriver driver;
  Budget device(kGranule), host(~uint64_t{0});
  Frames frames(driver, 0, device, host, false);
  flexlom::pool::Frame frame;
  CHECK(frames.take(Where::host, 0, 0, &frame) == CUDA_ERROR_OUT_OF_MEMORY);
  CHECK(driver.all_calls() == 0);
  CHECK_FALSE(frames.can_spill());
}

TEST_CASE("frames: everything spare goes back at the end") {
  FakeDriver driver;
  Budget device(64 * kGranule), host(64 * kGranule);
  {
    Frames frames(driver, 0, device, host, true);
    for (unsigned order = 0; order < kPageOrders - 1; ++order) {
      for (const Where where : {Where::device, Where::host}) {
        flexlom::pool::Frame frame;
        REQUIRE(frames.take(where, order, 0, &frame) == CUDA_SUCCESS);
        frames.put(where, order, frame);
      }
    }
  }
  CHECK(driver.live_frames() == 0);
  CHECK(device.held() == 0);
  CHECK(host.held() == 0);
  CHECK(driver.problems() == "");
}

TEST_CASE("keeper: works in its period, at once when nudged, and stops when told") {
  std::atomic<int> sweeps{0}, aheads{0};
  std::atomic<uint64_t> ticks{0};
  Keeper keeper([&](uint64_t t) { ++sweeps, ticks = t; }, [&] { ++aheads; }, 100);
  CHECK(keeper.idle());
  keeper.start();
  keeper.start();
  CHECK_FALSE(keeper.idle());
  for (int i = 0; i < 400 && sweeps < 2; ++i) usleep(10'000);
  CHECK(sweeps >= 2);
  CHECK(aheads >= 1);
  CHECK(ticks > 0);
  keeper.stop();
  keeper.stop();
  CHECK(keeper.stopping());
  const int after = sweeps;
  usleep(100'000);
  CHECK(sweeps == after);
}

TEST_CASE("keeper: a nudge does not wait for the period, and memory kept for good has no idle time") {
  std::atomic<int> aheads{0};
  std::atomic<uint64_t> ticks{0};
  Keeper keeper([&](uint64_t t) { ticks = t; }, [&] { ++aheads; }, -1);
  keeper.start();
  for (int i = 0; i < 400 && aheads < 1; ++i) {
    keeper.nudge();
    usleep(1000);
  }
  CHECK(aheads >= 1);
  for (int i = 0; i < 400 && ticks == 0; ++i) usleep(10'000);
  CHECK(ticks == ~uint64_t{0});
}

TEST_CASE("keeper: never started, stopped all the same, and work that throws does not end it") {
  { Keeper unused([](uint64_t) {}, [] {}, 100); }
  std::atomic<int> sweeps{0};
  Keeper keeper(
      [&](uint64_t) {
        ++sweeps;
        throw std::bad_alloc();
      },
      [] {}, 80);
  keeper.start();
  for (int i = 0; i < 400 && sweeps < 2; ++i) usleep(10'000);
  CHECK(sweeps >= 2);
  Keeper stopped([](uint64_t) {}, [] {}, 80);
  stopped.stop();
  stopped.start();
  CHECK(stopped.idle());
}
