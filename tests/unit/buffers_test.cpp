// Where the buffers in an allocation lie, from the addresses that are named.
#include "pool/residency/buffers.h"

#include <catch2/catch.hpp>
#include <random>

using flexlom::pool::policy::Buffers;

namespace {

constexpr uint32_t kGranules = 1000;

bool is(Buffers::Extent extent, uint32_t begin, uint32_t end) {
  return extent.begin == begin && extent.end == end;
}

// One after the other, `rounds` times.
void go_round(Buffers& buffers, std::initializer_list<uint32_t> begins, int rounds) {
  for (int i = 0; i < rounds; ++i) {
    for (const uint32_t begin : begins) buffers.name(begin);
  }
}

}  // namespace

TEST_CASE("buffers: each reaches to the next, the last as far as the largest") {
  Buffers buffers(kGranules);
  CHECK(is(buffers.name(100), 100, 101));  // nothing is known yet
  CHECK(is(buffers.name(40), 40, 100));
  CHECK(is(buffers.name(0), 0, 40));
  CHECK(is(buffers.name(100), 100, 160));
  CHECK(is(buffers.name(990), 990, kGranules));
  CHECK(is(buffers.name(100), 100, 990));
  CHECK(buffers.count() == 4);
  CHECK(is(buffers.name(kGranules + 7), kGranules - 1, kGranules));
}

TEST_CASE("buffers: an arena is told by buffers that are used in turn") {
  Buffers buffers(kGranules);
  SECTION("four of them") {
    go_round(buffers, {0, 100, 300, 350}, 1);
    CHECK_FALSE(buffers.many());
    go_round(buffers, {0, 100, 300, 350}, 1);
    CHECK(buffers.many());
  }
  SECTION("not two, however often") {
    go_round(buffers, {0, 500}, 1000);
    CHECK_FALSE(buffers.many());
  }
  SECTION("not a table that is filled piece by piece, and then used as a whole") {
    for (uint32_t piece = 0; piece < 10; ++piece) go_round(buffers, {piece * 100}, 3);
    CHECK_FALSE(buffers.many());
    CHECK(buffers.count() == 10);
    for (int i = 0; i < 400; ++i) buffers.name(0);
    CHECK_FALSE(buffers.many());
  }
}

TEST_CASE("buffers: what is no longer named ends") {
  Buffers buffers(kGranules);
  go_round(buffers, {0, 100, 200, 300, 400, 500}, 20);
  CHECK(is(buffers.name(200), 200, 300));
  // The program has cut it up anew.
  int rounds = 0;
  while (rounds < 1000 && !is(buffers.name(200), 200, 500)) {
    go_round(buffers, {0, 500, 600, 700}, 1);
    ++rounds;
  }
  CHECK(rounds > 10);
  CHECK(rounds < 100);
  CHECK(buffers.many());
  // And uses it for something else altogether.
  for (int i = 0; i < 400; ++i) buffers.name(0);
  CHECK_FALSE(buffers.many());
  CHECK(is(buffers.name(0), 0, 1) == (buffers.count() > 1));
}

TEST_CASE("buffers: one that is seldom used stays as long as it keeps its pace") {
  Buffers buffers(kGranules);
  for (int round = 0; round < 5; ++round) {
    buffers.name(600);
    for (int i = 0; i < 500; ++i) go_round(buffers, {0, 500}, 1);
  }
  CHECK(is(buffers.name(500), 500, 600));
  for (int i = 0; i < 2000; ++i) go_round(buffers, {0, 500}, 1);
  CHECK(buffers.name(500).end > 600);
}

// A training step of a large model names some ten thousand addresses, its optimizer's states once.
TEST_CASE("buffers: a round may be long") {
  Buffers buffers(kGranules);
  for (int round = 0; round < 4; ++round) {
    for (uint32_t state = 600; state < 1000; state += 100) buffers.name(state);
    for (int i = 0; i < 20000; ++i) go_round(buffers, {0, 300}, 1);
  }
  CHECK(is(buffers.name(600), 600, 700));
  CHECK(is(buffers.name(300), 300, 600));
}

// The counts agree with the beginnings, whatever is named.
TEST_CASE("buffers: any order of names") {
  std::mt19937 random(7);
  for (const uint32_t granules : {1u, 2u, 63u, 64u, 65u, 4000u}) {
    Buffers buffers(granules);
    for (int i = 0; i < 20000; ++i) {
      const uint32_t at = random() % granules;
      const Buffers::Extent extent = buffers.name(at);
      if (extent.begin != at || extent.end <= at || extent.end > granules) FAIL(granules);
      if (buffers.count() == 0 || buffers.count() > granules) FAIL(granules);
    }
  }
}
