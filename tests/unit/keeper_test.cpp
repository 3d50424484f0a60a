// The keeper's beat: on its own rhythm, whatever the sweeps and nudges do.
#include "pool/keeper.h"

#include <unistd.h>

#include <catch2/catch.hpp>
#include <new>

namespace {

using flexlom::pool::Keeper;

bool soon(const std::atomic<int>& count, int wanted) {
  for (int i = 0; i < 1000 && count < wanted; ++i) usleep(10'000);
  return count >= wanted;
}

}  // namespace

TEST_CASE("keeper: beats more often than it sweeps") {
  std::atomic<int> sweeps{0}, aheads{0}, beats{0};
  Keeper keeper([&](uint64_t) { ++sweeps; }, [&] { ++aheads; }, 2000, {{[&] { ++beats; }, 20}});
  keeper.start();
  REQUIRE(soon(sweeps, 1));
  CHECK(beats > 1);
  CHECK(aheads <= sweeps + 1);
  keeper.stop();
  const int after = beats;
  usleep(100'000);
  CHECK(beats == after);
}

TEST_CASE("keeper: nudges keep off neither the beat nor the sweep") {
  std::atomic<int> sweeps{0}, beats{0};
  Keeper keeper([&](uint64_t) { ++sweeps; }, [] {}, 160, {{[&] { ++beats; }, 50}});
  keeper.start();
  for (int i = 0; i < 4000 && (sweeps < 3 || beats < 3); ++i) {
    keeper.nudge();
    usleep(2000);
  }
  CHECK(sweeps >= 3);
  CHECK(beats >= 3);
}

TEST_CASE("keeper: a beat that throws, and sweeps that throw, do not end it") {
  std::atomic<int> sweeps{0}, beats{0};
  Keeper keeper(
      [&](uint64_t) {
        ++sweeps;
        throw std::bad_alloc();
      },
      [] {}, 80,
      {{[&] {
          ++beats;
          throw std::bad_alloc();
        },
        30}});
  keeper.start();
  CHECK(soon(sweeps, 2));
  CHECK(soon(beats, 2));
}

TEST_CASE("keeper: no beat when none is asked for") {
  std::atomic<int> sweeps{0}, beats{0};
  Keeper keeper([&](uint64_t) { ++sweeps; }, [] {}, 80, {{[&] { ++beats; }, 0}});
  keeper.start();
  CHECK(soon(sweeps, 3));
  CHECK(beats == 0);
}

TEST_CASE("keeper: several beats keep their own times") {
  std::atomic<int> quick{0}, slow{0}, never{0};
  Keeper keeper([](uint64_t) {}, [] {}, 2000,
                {{[&] { ++slow; }, 200}, {[&] { ++never; }, 0}, {[&] { ++quick; }, 20}});
  keeper.start();
  REQUIRE(soon(slow, 2));
  CHECK(quick > slow);
  CHECK(never == 0);
}
