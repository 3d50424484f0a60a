// The simulator of policies counts right, and the policy keeps what the bench promises.
#include <catch2/catch.hpp>

#include <sstream>

#include "tests/bench/policy_replay.h"

using namespace flexlom::sim;
using flexlom::pool::policy::Kind;

namespace {

constexpr uint64_t kPage = uint64_t{64} << 20;

// `rounds` over four pages where three fit; the first round is not counted.
Trace four_pages(int rounds) {
  Trace trace;
  for (int i = 0; i < 4; ++i) trace.add_page(kPage);
  trace.budget_bytes = 3 * kPage;
  for (int round = 0; round < rounds; ++round) {
    if (round == 1) trace.count_from_here();
    for (uint32_t i = 0; i < 4; ++i) trace.begin(), trace.touch(i);
  }
  return trace;
}

Trace parse(const std::string& text) {
  std::istringstream in(text);
  return read_trace(in, "text");
}

double ratio(const Traffic& a, const Traffic& b) {
  return static_cast<double>(a.total()) / static_cast<double>(b.total());
}

}  // namespace

TEST_CASE("replay: a cycle of four in three by hand") {
  const Trace trace = four_pages(7);           // 24 counted uses
  CHECK(replay_min(trace, false).moves == 8);  // one of three: 3 is next, evict the last used
  CHECK(replay_promoting(trace, Kind::lru, 0).moves == 24);
  CHECK(best_static(trace, false).in_bytes == 6 * kPage);
  CHECK(best_static(trace, true).moves == 12);  // two pages stay, two pass through one frame
  CHECK(replay_in_place(trace, Kind::pin, 0).in_bytes == 6 * kPage);
}

TEST_CASE("replay: what was written is written back") {
  Trace trace;
  for (int i = 0; i < 2; ++i) trace.add_page(kPage);
  trace.budget_bytes = kPage;
  for (int i = 0; i < 10; ++i) trace.begin(), trace.touch(i % 2, i % 2 == 0);
  const Traffic traffic = replay_promoting(trace, Kind::lru, 0);
  // Page 0 is written in each of its five residencies; page 1 has a copy after its first.
  CHECK(traffic.out_bytes == 6 * kPage);
}

TEST_CASE("replay: pages of an allocation") {
  Trace trace;
  CHECK(trace.add_allocation(uint64_t{187} << 20).size() == 6);  // 2x64 32 16 8 4
  CHECK(trace.bytes() == uint64_t{188} << 20);
}

TEST_CASE("trace: text is read") {
  const Trace trace =
      parse("# two pages\nbudget 100\npage 64\npage 32\n\ntouch 0 1!\ncount\ntouch 1 # again\n");
  CHECK(trace.budget_bytes == 100);
  CHECK(trace.bytes() == 96);
  REQUIRE(trace.submissions() == 2);
  CHECK(trace.counted_from == 1);
  REQUIRE(trace.touches.size() == 3);
  CHECK_FALSE(trace.touches[0].write);
  CHECK(trace.touches[1].write);
  CHECK(trace.touches[2].page == 1);
}

TEST_CASE("trace: what is wrong is named with its line") {
  const char* const broken[] = {
      "budget 1\ntouch 0\n",          "budget 1\npage\n",
      "budget 1\npage 0\n",           "budget 1\npage 9\ntouch x\n",
      "budget 1\npage 9\ntouch 0?\n", "budget 1\npage 9\ntouch -1\n",
      "budget 1\nfree 1\n",           "budget 1\npage 9\ntouch 99999999999999999999\n"};
  for (const char* text : broken) {
    CHECK_THROWS_WITH(parse(text), Catch::Matchers::Contains("text:"));
  }
  CHECK_THROWS_WITH(parse("page 9\n"), "text: no budget");
}

TEST_CASE("policy: keeps to its share of MIN, and is no worse than pages as built") {
  constexpr uint64_t batch = 8 * kPage;
  int looked = 0;
  for (const Trace& trace : made_up_traces()) {
    if (!trace.odds.empty() || trace.name.find("drifting") != std::string::npos) continue;
    if (trace.name.find("decode") != std::string::npos) continue;  // long; the bench has them
    CAPTURE(trace.name);
    ++looked;
    CHECK(ratio(replay_promoting(trace, Kind::automatic, batch), replay_min(trace, false)) <=
          trace.target);
    CHECK(ratio(replay_in_place(trace, Kind::automatic, batch),
                replay_in_place(trace, Kind::pin, batch)) <= 1.005);
  }
  CHECK(looked >= 10);
}

TEST_CASE("policy: draws that nobody can foresee cost little more than knowing their odds") {
  int looked = 0;
  for (const Trace& trace : made_up_traces()) {
    if (trace.odds.empty()) continue;
    CAPTURE(trace.name);
    ++looked;
    CHECK(ratio(replay_promoting(trace, Kind::automatic, 8 * kPage), best_static(trace, true)) <=
          1.1);
  }
  CHECK(looked >= 5);
}
