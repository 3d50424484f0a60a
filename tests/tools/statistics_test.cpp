#include "interpose/statistics.h"

#include <catch2/catch.hpp>
#include <map>
#include <sstream>

namespace {

using namespace flexlom;

std::map<std::string, std::string> fields(const std::string& line) {
  std::map<std::string, std::string> all;
  std::istringstream words(line);
  for (std::string word; words >> word;) {
    const size_t equals = word.find('=');
    REQUIRE(equals != std::string::npos);
    CHECK(all.emplace(word.substr(0, equals), word.substr(equals + 1)).second);
  }
  return all;
}

pool::ResidencyStats some_moves() {
  pool::ResidencyStats s;
  s.moves.promoted_pages = 3;
  s.moves.promoted_bytes = 90'000;
  s.moves.demoted_pages = 4;
  s.moves.demoted_bytes = 80'000;
  s.moves.demoted_copied_bytes = 15'000;
  s.moves.clean_pages = 2;
  s.moves.batches = 5;
  s.moves.shut_ns = 6000;
  s.moves.longest_shut_ns = 4000;
  s.moves.given_up[static_cast<size_t>(pool::GaveUp::capture)] = 7;
  s.moves.given_up[static_cast<size_t>(pool::GaveUp::no_memory)] = 1;
  s.in_place = 8;
  s.in_place_bytes = 9;
  return s;
}

}  // namespace

TEST_CASE("the line of moves keeps its keys, and its rates count what crossed the link") {
  auto f = fields(moves_text(some_moves()));
  CHECK(f.at("promoted_bytes") == "90000");
  CHECK(f.at("demoted_bytes") == "80000");
  CHECK(f.at("demoted_copied_bytes") == "15000");
  CHECK(f.at("clean_pages") == "2");
  CHECK(f.at("batches") == "5");
  CHECK(f.at("shut_us") == "6");
  CHECK(f.at("longest_shut_us") == "4");
  CHECK(f.at("in_place") == "8");
  CHECK(f.at("in_place_bytes") == "9");
  CHECK(f.at("given_up_capture") == "7");
  CHECK(f.at("given_up_memory") == "1");
  CHECK(f.at("given_up_work") == "0");
  CHECK(f.at("promoted_pages") == "3");
  CHECK(f.at("demoted_pages") == "4");
  CHECK(f.at("promoted_gbps") == "15.00");
  CHECK(f.at("demoted_gbps") == "2.50");
  for (const char* key : {"begin_us", "drain_us", "compare_us", "place_us", "demote_us", "wait_us",
                          "promoted_for", "measured", "arenas", "given_up_readers", "given_up_context"})
    CHECK(f.count(key) == 1);
}

TEST_CASE("nothing moved gives no rate, not a division by zero") {
  auto f = fields(moves_text({}));
  CHECK(f.at("promoted_gbps") == "0.00");
  CHECK(f.at("demoted_gbps") == "0.00");
}

TEST_CASE("the line of a device keeps its keys") {
  pool::PoolStats s;
  s.device_peak_bytes = 11;
  s.host_peak_bytes = 12;
  s.device_held_bytes = 13;
  s.asked_bytes = 14;
  auto f = fields(device_text(s, 2, 1500, 6));
  CHECK(f.at("device_peak_bytes") == "11");
  CHECK(f.at("host_peak_bytes") == "12");
  CHECK(f.at("device_held_bytes") == "13");
  CHECK(f.at("asked_bytes") == "14");
  CHECK(f.at("device") == "2");
  CHECK(f.at("at_ms") == "1500");
  CHECK(f.at("warnings") == "6");
  for (const char* key :
       {"spilled_bytes", "allocs", "frees", "ooms", "budget_bytes", "asked_peak_bytes"})
    CHECK(f.at(key) == "0");
}

TEST_CASE("the log gets the same numbers") {
  const trace::MoveTotals totals = move_totals(some_moves());
  CHECK(totals.promoted_pages == 3);
  CHECK(totals.promoted_bytes == 90'000);
  CHECK(totals.demoted_copied_bytes == 15'000);
  CHECK(totals.clean_pages == 2);
  CHECK(totals.given_up == 8);
  CHECK(totals.shut_ns == 6000);
  CHECK(totals.in_place_bytes == 9);
  pool::PoolStats s;
  s.host_peak_bytes = 5;
  s.live = 3;
  s.ooms = 2;
  const trace::Stats stats = trace_stats(s, 1);
  CHECK(stats.device == 1);
  CHECK(stats.host_peak_held_bytes == 5);
  CHECK(stats.live_count == 3);
  CHECK(stats.failures == 2);
}

TEST_CASE("every reason has its own word") {
  std::map<std::string, int> words;
  for (size_t i = 0; i < static_cast<size_t>(pool::GaveUp::count_); ++i)
    ++words[word_of(static_cast<pool::GaveUp>(i))];
  CHECK(words.size() == static_cast<size_t>(pool::GaveUp::count_));
  CHECK(words.count("other") == 0);
}
