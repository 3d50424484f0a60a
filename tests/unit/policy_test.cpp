// What the policy predicts and whom it sends away, rule by rule.
#include <catch2/catch.hpp>

#include <algorithm>
#include <random>
#include <set>

#include "pool/residency/policy.h"

using namespace flexlom::pool::policy;

namespace {

constexpr uint64_t kMiB = uint64_t{1} << 20;

History after(const std::vector<Tick>& touches) {
  History history;
  for (const Tick tick : touches) touch(history, tick);
  return history;
}

// `count` pages of 64 MiB, the first `resident` of them on the device.
std::vector<PageView> table(uint32_t count, uint32_t resident) {
  std::vector<PageView> pages(count);
  for (uint32_t i = 0; i < count; ++i) {
    pages[i].bytes = 64 * kMiB;
    pages[i].address = 0x500000000000 + i * 64 * kMiB;
    pages[i].id = i;
    pages[i].resident = i < resident;
  }
  return pages;
}

// Every page used once a cycle in order, the last time at ticks up to `now`.
void cycle(std::vector<PageView>& pages, Tick& now, size_t uses) {
  for (size_t i = 0; i < uses; ++i) touch(pages[now % pages.size()].history, now), ++now;
}

}  // namespace

TEST_CASE("history: nothing is expected of a page used once") {
  CHECK(next_use(History{}, 100) == kFar);
  CHECK(next_use(after({5}), 100) == kFar);
  CHECK_FALSE(retired(after({5}), 100000));
}

TEST_CASE("history: touches of one submission are one") {
  History history = after({5, 5, 5});
  CHECK(history.uses == 1);
  touch(history, 4);
  CHECK(history.last == 5);
}

TEST_CASE("history: a rhythm is followed from its second beat") {
  CHECK(next_use(after({100, 300}), 350) == 500);
  CHECK(next_use(after({100, 300, 501, 699}), 750) == Approx(898).margin(3));
  // Late, but still on its way.
  CHECK(next_use(after({100, 300, 500}), 740) == 741);
}

TEST_CASE("history: forward and backward alternate") {
  // Page 20 of a sweep over 100 pages up and down: 160 ticks, then 40.
  std::vector<Tick> touches;
  for (Tick step = 0; step < 4; ++step) {
    touches.push_back(1000 + step * 200 + 20);
    touches.push_back(1000 + step * 200 + 180);
  }
  History history = after(touches);
  CHECK(next_use(history, touches.back() + 1) == Approx(1000 + 4 * 200 + 20).margin(1));
  touch(history, 1820);
  CHECK(next_use(history, 1821) == Approx(1980).margin(1));
}

TEST_CASE("history: four different intervals in a step") {
  std::vector<Tick> touches;
  const Tick offsets[] = {100, 700, 760, 950};
  for (Tick step = 0; step < 4; ++step) {
    for (const Tick offset : offsets) touches.push_back(step * 1000 + offset);
  }
  History history = after(touches);
  for (Tick step = 4; step < 6; ++step) {
    for (const Tick offset : offsets) {
      CHECK(next_use(history, history.last + 1) == Approx(step * 1000 + offset).margin(3));
      touch(history, step * 1000 + offset);
    }
  }
}

TEST_CASE("history: a burst of launches is one use") {
  History history;
  for (Tick cycle = 1; cycle <= 5; ++cycle) {
    for (Tick i = 0; i < 6; ++i) touch(history, cycle * 1000 + i * 2);
  }
  CHECK(next_use(history, 5500) == Approx(6000).margin(15));
  CHECK(touch_interval(history, 5500) < 300);
}

TEST_CASE("history: in a burst the next touch is near") {
  History history;
  for (Tick cycle = 1; cycle <= 5; ++cycle) {
    for (Tick i = 0; i < 12; ++i) touch(history, cycle * 10000 + i * 3);
  }
  for (Tick i = 0; i < 6; ++i) touch(history, 60000 + i * 3);
  CHECK(next_use(history, 60016) <= 60020);
  CHECK(next_use(history, 60100) > 69000);  // it ended early
  for (Tick i = 6; i < 12; ++i) touch(history, 60000 + i * 3);
  CHECK(next_use(history, 60034) > 69000);  // it ended as ever
}

TEST_CASE("history: touches in a row that read parts cost one reading together") {
  const auto cost_of = [](float cost, unsigned touches, float between = 0) {
    History history;
    for (Tick cycle = 1; cycle <= 12; ++cycle) {
      for (Tick i = 0; i < touches; ++i) {
        touch(history, cycle * 10000 + i * 4, cost);
        if (between > 0) touch(history, cycle * 10000 + i * 4 + 2, between);
      }
    }
    return history.use_cost;
  };
  const float link = kLink_ns_per_byte;
  CHECK(cost_of(link / 10, 5) == Approx(link / 2).epsilon(0.06));
  CHECK(cost_of(link / 10, 40) == Approx(link).epsilon(0.06));
  CHECK(cost_of(link, 12) == Approx(12 * link).epsilon(0.06));  // each of these reads all of it
  // Two functions in turn, as where a tensor is worked through slice by slice: each reads it.
  CHECK(cost_of(link / 10, 10, link / 20) == Approx(1.5 * link).epsilon(0.06));
}

TEST_CASE("history: what one submission uses several times counts as often") {
  const float link = kLink_ns_per_byte;
  const auto replayed = [](unsigned nodes, float cost) {
    History history;
    for (Tick replay = 1; replay <= 30; ++replay) {
      touch(history, replay * 100, cost);
      touch_again(history, nodes - 1, cost);
    }
    return history;
  };
  CHECK(replayed(6, link).touches_per_use == Approx(6));
  CHECK(replayed(6, link).use_cost == Approx(6 * link).epsilon(0.01));
  CHECK(replayed(6, link / 10).use_cost == Approx(link / 10).epsilon(0.01));
  CHECK(touch_interval(replayed(6, link), 3000) == Approx(100.0 / 6));
  CHECK(touch_interval(replayed(1, link), 3000) == Approx(100));
  CHECK(next_use(replayed(6, link), 3005) == Approx(3100).margin(2));
}

TEST_CASE("history: a new pace replaces a rhythm") {
  History history = after({1000, 20000, 40000});
  Tick now = 40000;
  for (int i = 0; i < 60; ++i) touch(history, now += 5);
  CHECK(next_use(history, now) <= now + 10);
}

TEST_CASE("history: uses at random are expected one mean from now") {
  std::mt19937 random(7);
  std::exponential_distribution<double> wait(1.0 / 500);
  History history;
  Tick now = 1;
  for (int i = 0; i < 200; ++i) touch(history, now += 20 + static_cast<Tick>(wait(random)));
  const Tick next = next_use(history, now + 100);
  CHECK(next > now + 100 + 250);
  CHECK(next < now + 100 + 1100);
}

TEST_CASE("history: who is silent for long is not waited for") {
  const History history = after({100, 300, 500, 700, 900, 1100});
  CHECK_FALSE(retired(history, 1400));
  CHECK(retired(history, 1600));
  CHECK(next_use(history, 1600) == kFar);
  // Who has shown less of a rhythm is waited for longer.
  CHECK_FALSE(retired(after({100, 300}), 1600));
  CHECK(retired(after({100, 300}), 2000));
}

TEST_CASE("victims: on a cycle as few pages come in as are away, and always the same ones") {
  auto pages = table(100, 80);
  Tick now = 0;
  cycle(pages, now, 300);
  std::set<uint32_t> moving;
  uint32_t misses = 0;
  constexpr int kRounds = 8, kCounted = 4;
  for (int round = 0; round < kRounds; ++round) {
    for (uint32_t i = 0; i < 100; ++i) {
      touch(pages[i].history, now++);
      if (pages[i].resident) continue;
      pages[i].needed = true;
      const auto ids = victims(pages, 64 * kMiB, now);
      REQUIRE(ids.size() == 1);
      pages[ids[0]].resident = false;
      pages[i].resident = pages[i].host_copy = true;
      pages[i].needed = false;
      if (round < kRounds - kCounted) continue;
      ++misses;
      moving.insert(i);
    }
  }
  CHECK(misses >= 20 * kCounted);
  CHECK(misses <= 22 * kCounted);
  CHECK(moving.size() <= 40);
}

TEST_CASE("victims: among equals the one with a copy on the host leaves") {
  auto pages = table(100, 100);
  Tick now = 0;
  cycle(pages, now, 350);
  pages[47].host_copy = true;
  pages[20].host_copy = true;  // used much sooner
  CHECK(victims(pages, 64 * kMiB, now) == std::vector<uint32_t>{47});
}

TEST_CASE("victims: large pages leave before many small ones, and none is larger than it must be") {
  auto pages = table(100, 100);  // of which nothing is known
  const Tick now = 350;
  for (uint32_t i = 47; i < 50; ++i) pages[i].bytes = 4 * kMiB;
  CHECK(victims(pages, 60 * kMiB, now).size() == 1);
  const auto ids = victims(pages, 4 * kMiB, now);
  REQUIRE(ids.size() == 1);
  CHECK(pages[ids[0]].bytes == 4 * kMiB);
}

TEST_CASE("victims: never one that is needed, fixed or away; the smallest last") {
  auto pages = table(10, 8);
  pages[0].needed = true;
  pages[1].movable = false;
  pages[2].bytes = 2 * kMiB;
  const auto ids = victims(pages, 100 * 64 * kMiB, 1000);
  CHECK(std::set<uint32_t>(ids.begin(), ids.end()) == std::set<uint32_t>{2, 3, 4, 5, 6, 7});
  CHECK(ids.back() == 2);
  CHECK(victims(pages, 0, 1000).empty());
  CHECK(victims({}, 100, 1000).empty());
}

TEST_CASE("victims: with nothing learned, an even share of the address range") {
  for (const bool in_order : {true, false}) {
    auto pages = table(1000, 1000);
    if (!in_order) std::shuffle(pages.begin(), pages.end(), std::mt19937(3));
    auto ids = victims(pages, 250 * 64 * kMiB, 1);
    REQUIRE(ids.size() == 250);
    std::sort(ids.begin(), ids.end());
    for (size_t i = 1; i < ids.size(); ++i) {
      CHECK(ids[i] - ids[i - 1] >= 2);
      CHECK(ids[i] - ids[i - 1] <= 8);
    }
  }
}

TEST_CASE("victims: one at a time spreads as well as all at once") {
  auto pages = table(400, 400);
  std::set<uint32_t> gone;
  for (int i = 0; i < 100; ++i) {
    const auto ids = victims(pages, 64 * kMiB, 1);
    REQUIRE(ids.size() == 1);
    pages[ids[0]].resident = false;
    gone.insert(ids[0]);
  }
  const auto at_once = victims(table(400, 400), 100 * 64 * kMiB, 1);
  CHECK(gone == std::set<uint32_t>(at_once.begin(), at_once.end()));
}

TEST_CASE("victims: a scan leaves before the working set, a forgotten set before the scan") {
  auto pages = table(60, 60);
  Tick now = 0;
  for (int round = 0; round < 6; ++round) {
    for (uint32_t i = 0; i < 20; ++i) touch(pages[i].history, ++now);
  }
  for (uint32_t i = 40; i < 60; ++i) touch(pages[i].history, ++now);  // once each
  for (uint32_t i = 20; i < 40; ++i) pages[i].history = after({1, 3, 5});
  now += 50;  // the working set is late too, by more than a cycle
  CHECK(retired(pages[0].history, now));
  const auto ids = victims(pages, 40 * 64 * kMiB, now);
  REQUIRE(ids.size() == 40);
  for (int i = 0; i < 20; ++i) CHECK((ids[i] >= 20 && ids[i] < 40));
  for (int i = 20; i < 40; ++i) CHECK(ids[i] >= 40);
}

TEST_CASE("victims: the other policies") {
  auto pages = table(10, 10);
  Tick now = 0;
  cycle(pages, now, 33);
  Context context;
  context.kind = Kind::lru;
  CHECK(victims(pages, 64 * kMiB, now, context) == std::vector<uint32_t>{3});
  context.kind = Kind::pin;
  CHECK(victims(pages, 64 * kMiB, now, context).empty());
  for (const Kind kind : {Kind::automatic, Kind::pin, Kind::lru}) {
    CHECK(parse_kind(kind_name(kind)) == kind);
  }
  CHECK_FALSE(parse_kind("best"));
}

TEST_CASE("companions: the next ones of the cycle, not beyond what leaves for them") {
  auto pages = table(100, 90);  // 90 to 99 are spilled
  Tick now = 0;
  cycle(pages, now, 390);  // the next is page 90
  pages[90].needed = true;
  const auto ids = companions(pages, 3 * 64 * kMiB, 64 * kMiB, now);
  CHECK(ids == std::vector<uint32_t>{91, 92, 93});
  // Everything on the device is used again before them.
  auto behind = table(100, 90);
  now = 0;
  cycle(behind, now, 400);  // the next is page 0; 90 to 99 were just used
  CHECK(companions(behind, 3 * 64 * kMiB, 64 * kMiB, now).empty());
  // Nothing is known of them.
  auto fresh = table(100, 90);
  CHECK(companions(fresh, 3 * 64 * kMiB, 0, 5).empty());
}

TEST_CASE("plan: needed pages first, room for all of them") {
  auto pages = table(200, 100);
  Tick now = 0;
  cycle(pages, now, 700);  // the next is page 100
  pages[100].needed = true;
  const Plan result = plan(pages, 1024 * kMiB, now);
  CHECK(result.promote == std::vector<uint32_t>{100, 101, 102, 103});
  CHECK(result.demote.size() == 4);
  Context context;
  context.free_bytes = 128 * kMiB;
  CHECK(plan(pages, 1024 * kMiB, now, context).demote.size() == 2);
  CHECK(plan(pages, 0, now).promote == std::vector<uint32_t>{100});
  pages[100].needed = false;
  CHECK(plan(pages, 1024 * kMiB, now).promote.empty());
}

TEST_CASE("exchanges: nothing on a cycle, the often used for the seldom used otherwise") {
  auto pages = table(100, 50);
  Tick now = 0;
  cycle(pages, now, 1000);
  CHECK(exchanges(pages, 1024 * kMiB, now).promote.empty());
  // Page 70 turns hot; page 10 is used every other cycle.
  for (int round = 0; round < 40; ++round) {
    for (uint32_t i = 0; i < 100; ++i) {
      ++now;
      if (i != 10 || round % 2 == 0) touch(pages[i].history, now);
      if (i % 10 == 5) touch(pages[70].history, now);
    }
  }
  const Plan result = exchanges(pages, 1024 * kMiB, now);
  CHECK(result.promote == std::vector<uint32_t>{70});
  CHECK(result.demote == std::vector<uint32_t>{10});
  CHECK(exchanges(pages, 32 * kMiB, now).promote.empty());
}

TEST_CASE(
    "exchanges: what another phase used much makes room once the program goes round without it") {
  std::vector<PageView> pages = table(40, 30);
  Tick now = 0;
  // Two phases: the first five pages in bursts, once in each; all others once a round of the
  // second.
  const auto first_phase = [&] {
    for (int i = 0; i < 200; ++i, now += 4) {
      for (uint32_t page = 0; page < 5; ++page) touch(pages[page].history, now + page % 4);
    }
  };
  const auto rounds = [&](int count) {
    for (int round = 0; round < count; ++round) {
      for (uint32_t page = 5; page < 40; ++page) touch(pages[page].history, now), now += 4;
    }
  };
  first_phase();
  rounds(200);
  first_phase();
  rounds(2);
  CHECK(exchanges(pages, 1024 * kMiB, now).promote.empty());  // may be just one of the phase's own
  rounds(20);
  const Plan result = exchanges(pages, 1024 * kMiB, now);
  CHECK(result.promote.size() == 5);
  CHECK(std::set<uint32_t>(result.demote.begin(), result.demote.end()) ==
        std::set<uint32_t>{0, 1, 2, 3, 4});
}

TEST_CASE(
    "exchanges: a table of which each touch reads a few rows makes room for what is read whole") {
  const auto pass = [](float cost_of_table) {
    auto pages = table(40, 30);  // 30 to 39 are spilled
    Tick now = 0;
    for (int round = 0; round < 40; ++round) {
      for (uint32_t i = 0; i < 40; ++i)
        touch(pages[i].history, ++now, i < 4 ? cost_of_table : kLink_ns_per_byte);
    }
    return exchanges(pages, 1024 * kMiB, now);
  };
  CHECK(pass(kLink_ns_per_byte).promote.empty());
  CHECK(pass(kLink_ns_per_byte * 0.8f).promote.empty());  // no clear difference
  CHECK(pass(0).promote.empty());                         // not known
  const Plan result = pass(kLink_ns_per_byte / 1000);
  CHECK(result.promote.size() == 4);
  CHECK(std::set<uint32_t>(result.demote.begin(), result.demote.end()) ==
        std::set<uint32_t>{0, 1, 2, 3});
}

TEST_CASE("exchanges: being named often by what reads parts keeps no page on the device") {
  // A training step: weights are read forward and backward, and once by the optimizer, as are its
  // states. It names everything in ten launches or more, the states longest.
  auto pages = table(40, 40);
  for (uint32_t i = 0; i < 10; ++i) pages[i].resident = false;  // of the 20 weights
  Tick now = 0;
  for (int step = 0; step < 8; ++step) {
    for (int pass = 0; pass < 2; ++pass) {
      for (uint32_t i = 0; i < 20; ++i) touch(pages[i].history, now += 20, kLink_ns_per_byte);
      now += 200;
    }
    for (uint32_t launch = 0; launch < 60; ++launch) {
      ++now;
      for (uint32_t i = 0; i < 40; ++i) {
        const uint32_t from = i % 20, times = i < 20 ? 10 : 40;
        if (launch >= from && launch < from + times)
          touch(pages[i].history, now, kLink_ns_per_byte / 8);
      }
    }
  }
  const Plan result = exchanges(pages, 1024 * kMiB, now);
  CHECK(result.promote.size() == 10);
  for (const uint32_t id : result.demote) CHECK(id >= 20);
}

TEST_CASE("exchanges: nothing for the sake of chance") {
  auto pages = table(200, 100);
  std::mt19937 random(5);
  Tick now = 0;
  size_t moved = 0;
  for (int i = 0; i < 20000; ++i) {
    touch(pages[random() % pages.size()].history, ++now);
    if (i % 100 != 0 || i < 4000) continue;
    const Plan result = exchanges(pages, 1024 * kMiB, now);
    for (const uint32_t id : result.demote) pages[id].resident = false;
    for (const uint32_t id : result.promote) pages[id].resident = true;
    moved += result.promote.size();
  }
  CHECK(moved <= 15);
}

TEST_CASE("victims: what is as well read in place leaves before what would have to come back") {
  auto pages = table(100, 100);
  Tick now = 0;
  const auto cheap = [](uint32_t i) { return i >= 30 && i < 40; };
  for (int pass = 0; pass < 4; ++pass) {
    for (uint32_t i = 0; i < 100; ++i) touch(pages[i].history, ++now, cheap(i) ? 0.005f : 0.2f);
  }
  // The furthest is page 99, but those few cost little, wherever they are.
  for (const uint32_t id : victims(pages, 3 * 64 * kMiB, now)) CHECK(cheap(id));
  for (int pass = 0; pass < 16; ++pass) {
    for (uint32_t i = 0; i < 100; ++i) touch(pages[i].history, ++now, 0.2f);
  }
  for (const uint32_t id : victims(pages, 3 * 64 * kMiB, now)) CHECK_FALSE(cheap(id));
}

TEST_CASE("victims: who waits for its part of the round is not out of use") {
  auto pages = table(100, 100);
  Tick now = 0;
  // Twenty pages are used many times in a row, once in a round of all.
  for (int round = 0; round < 8; ++round) {
    for (int burst = 0; burst < 10; ++burst) {
      for (uint32_t i = 0; i < 20; ++i) touch(pages[i].history, ++now);
    }
    for (uint32_t i = 20; i < 100; ++i) touch(pages[i].history, now += 20);
  }
  for (const uint32_t id : victims(pages, 10 * 64 * kMiB, now)) CHECK(id >= 20);
  // Out of use: silent for longer than a round while others go on.
  for (int round = 0; round < 3; ++round) {
    for (uint32_t i = 20; i < 100; ++i) touch(pages[i].history, now += 20);
  }
  for (const uint32_t id : victims(pages, 10 * 64 * kMiB, now)) CHECK(id < 20);
}

TEST_CASE("victims: the tails of allocations stay as long as large pages can go") {
  auto pages = table(100, 100);
  for (uint32_t i = 0; i < 100; i += 2) pages[i].bytes = 4 * kMiB;
  Tick now = 0;
  cycle(pages, now, 400);
  const auto ids = victims(pages, 20 * 64 * kMiB, now);
  CHECK(ids.size() == 20);
  for (const uint32_t id : ids) CHECK(pages[id].bytes == 64 * kMiB);
}

TEST_CASE("copies: those of pages that stay are given up first") {
  auto pages = table(100, 90);
  Tick now = 0;
  cycle(pages, now, 350);  // the next is page 50
  for (auto& page : pages) page.host_copy = page.id % 2 == 0;
  auto ids = copies_to_drop(pages, 2 * 64 * kMiB, now);
  REQUIRE(ids.size() == 2);
  for (const uint32_t id : ids) {
    CHECK((id >= 50 && id <= 56));
    CHECK(id % 2 == 0);
  }
  // Never of spilled pages: those have nothing else.
  ids = copies_to_drop(pages, 1000 * 64 * kMiB, now);
  CHECK(ids.size() == 45);
  for (const uint32_t id : ids) CHECK(id < 90);
}

TEST_CASE("population: steps are half octaves") {
  CHECK(Population::step_of(0) == 0);
  CHECK(Population::step_of(1) == 0);
  CHECK(Population::step_of(1.5f) == 1);
  CHECK(Population::step_of(2) == 2);
  CHECK(Population::step_of(1024) == 20);
  CHECK(Population::step_of(1e30f) == Population::kSteps - 1);
}

TEST_CASE("population: draws have no memory, clusters have") {
  std::mt19937 random(9);
  const auto chance = [&] { return static_cast<double>(random()) / 4294967296.0; };
  const auto learn = [&](double stay) {
    PopulationSample sample;
    for (int page = 0; page < 200; ++page) {
      History history;
      Tick now = 1;
      std::exponential_distribution<double> wait(1.0 / (2000 + 10 * page));
      for (int i = 0; i < 40; ++i) {
        touch(history, now += chance() < stay ? 100 : 100 + static_cast<Tick>(wait(random)));
      }
      sample.add(history);
    }
    return sample.result();
  };
  const Population draws = learn(0);
  CHECK_FALSE(draws.rhythmic);
  for (const float silent : {500.0f, 1500.0f, 4000.0f}) {
    CHECK(draws.wait[Population::step_of(silent)] == Approx(1).margin(0.25));
  }
  const Population clusters = learn(0.5);
  CHECK(clusters.wait[Population::step_of(10)] < 0.6);
  CHECK(clusters.wait[Population::step_of(400)] > 1.2);
}

TEST_CASE("policy: ten thousand pages") {
  auto pages = table(10000, 6000);
  Tick now = 0;
  cycle(pages, now, 45000);
  for (uint32_t i = 0; i < 16; ++i) pages[6000 + i].needed = true;
  CHECK(victims(pages, 1024 * kMiB, now).size() == 16);
  CHECK(plan(pages, 2048 * kMiB, now).promote.size() > 16);
}
