// When to move and when to ask: rules that residency and the trace advisor share.
#include <catch2/catch.hpp>

#include "pool/residency/decisions.h"

using namespace flexlom::pool::policy;

namespace {

constexpr uint64_t kMiB = uint64_t{1} << 20;

PageView page_of(uint32_t id, uint64_t bytes, bool resident) {
  PageView page;
  page.id = id;
  page.bytes = bytes;
  page.address = 0x500000000000 + id * bytes;
  page.resident = resident;
  return page;
}

}  // namespace

TEST_CASE("a function is measured first, then promoted for when it is slow in place") {
  Profile profile;
  auto choice = profile.choose(64 * kMiB, 1, Kind::automatic);
  CHECK(choice.measure);
  CHECK_FALSE(choice.promote_first);
  // Ten times the link's time for the same bytes.
  profile.observe(64 * kMiB, static_cast<uint64_t>(64 * kMiB * kLink_ns_per_byte * 10));
  choice = profile.choose(64 * kMiB, 1, Kind::automatic);
  CHECK(choice.promote_first);
  CHECK_FALSE(choice.measure);
  // The same rate over few bytes is not worth stopping the device.
  CHECK_FALSE(profile.choose(64 << 10, 1, Kind::automatic).promote_first);
  CHECK_FALSE(profile.choose(64 * kMiB, 1, Kind::pin).promote_first);
}

TEST_CASE("what is as well read in place is measured again now and then") {
  Profile profile;
  profile.choose(64 * kMiB, 1, Kind::automatic);
  profile.observe(64 * kMiB, static_cast<uint64_t>(64 * kMiB * kLink_ns_per_byte));
  int measured = 0;
  for (int i = 0; i < 128; ++i) {
    const auto choice = profile.choose(64 * kMiB, 1, Kind::automatic);
    CHECK_FALSE(choice.promote_first);
    measured += choice.measure;
  }
  CHECK(measured == 2);
}

// As long as it is not known where the buffers of an arena begin, each launch seems to name much
// more than it reads, and to read it fast.
TEST_CASE("a rate is forgotten when what it was measured with turns out to be smaller") {
  Profile profile;
  const auto ns = static_cast<uint64_t>(64 * kMiB * kLink_ns_per_byte * 10);
  CHECK(profile.choose(6400 * kMiB, 1, Kind::automatic, 6400 * kMiB).measure);
  CHECK(profile.choose(6400 * kMiB, 1, Kind::automatic, 6400 * kMiB).measure);
  profile.observe(6400 * kMiB, ns);
  auto choice = profile.choose(6400 * kMiB, 1, Kind::automatic, 6400 * kMiB);
  CHECK_FALSE((choice.promote_first || choice.measure || choice.forgot));
  choice = profile.choose(4800 * kMiB, 1, Kind::automatic, 4800 * kMiB);  // a little is nothing
  CHECK_FALSE((choice.promote_first || choice.measure || choice.forgot));
  choice = profile.choose(64 * kMiB, 1, Kind::automatic, 64 * kMiB);
  CHECK((choice.measure && choice.forgot && !choice.promote_first));
  profile.observe(6400 * kMiB, ns);  // was still under way
  CHECK(profile.ns_per_byte() == 0);
  profile.observe(64 * kMiB, ns);
  choice = profile.choose(64 * kMiB, 1, Kind::automatic, 64 * kMiB);
  CHECK((choice.promote_first && !choice.forgot));
  // Less of it is spilled: that is no other buffer. And of what is no arena nothing is guessed.
  CHECK_FALSE(profile.choose(8 * kMiB, 1, Kind::automatic, 64 * kMiB).forgot);
  CHECK_FALSE(profile.choose(8 * kMiB, 1, Kind::automatic).forgot);
}

TEST_CASE("the rate is the lower median of the last five") {
  Profile profile;
  CHECK(profile.observe(0, 5) == 0);
  CHECK(profile.observe(100, 900) == Approx(9));
  CHECK(profile.observe(100, 100) == Approx(1));  // of two the lower one
  CHECK(profile.observe(100, 300) == Approx(3));
  for (int i = 0; i < 5; ++i) profile.observe(100, 700);
  CHECK(profile.ns_per_byte() == Approx(7));
}

TEST_CASE("whoever writes what it has promoted is better left to read in place") {
  const uint64_t bytes = 64 * kMiB;
  const auto link_ns = static_cast<uint64_t>(static_cast<double>(bytes) * kLink_ns_per_byte);
  const auto choose = [&](Profile& profile) {
    return profile.choose(bytes, 1, Kind::automatic).promote_first;
  };
  // Reads and writes in place, a little slower than the link.
  Profile writes;
  choose(writes);
  writes.observe(bytes, link_ns * 3 / 2);
  CHECK(choose(writes));
  writes.promoted(0, 0);  // of what left it is not known
  CHECK(choose(writes));
  writes.promoted(bytes, bytes);  // one page does not say much
  CHECK(choose(writes));
  writes.promoted(bytes, bytes);
  CHECK_FALSE(choose(writes));
  // The same, but what leaves was seldom written.
  Profile reads;
  choose(reads);
  reads.observe(bytes, link_ns * 3 / 2);
  for (int i = 0; i < 100; ++i) {
    reads.promoted(bytes, i % 16 == 8 ? bytes : 0);
    CHECK(choose(reads));
  }
  // It writes from now on: not at once, but within a few batches.
  int until = 0;
  for (; choose(reads) && until < 1000; ++until) reads.promoted(bytes, bytes);
  CHECK(until > 1);
  CHECK(until < 64);
  // Whoever is slower than both ways still has its pages moved.
  Profile slow;
  choose(slow);
  slow.observe(bytes, 10 * link_ns);
  for (int i = 0; i < 8; ++i) slow.promoted(bytes, bytes);
  CHECK(choose(slow));
  // And the others are given another try, ever farther apart.
  std::vector<int> tries;
  for (int i = 0; i < 10'000; ++i) {
    if (!choose(writes)) continue;
    if (tries.empty() || i - tries.back() > 2) tries.push_back(i);
    writes.promoted(bytes, bytes);
  }
  REQUIRE(tries.size() == 5);
  CHECK(tries[4] - tries[3] > 2 * (tries[1] - tries[0]));
}

TEST_CASE("where the device may only have waited for the program, it is measured again") {
  const uint64_t bytes = 64 * kMiB;
  const auto link_ns = static_cast<uint64_t>(static_cast<double>(bytes) * kLink_ns_per_byte);
  Profile profile;
  CHECK(profile.choose(bytes, 1, Kind::automatic).measure);
  // Loading the code took twice as long as the link: whether the work did, too, is not known.
  CHECK(profile.observe(bytes, 2 * link_ns, 2 * link_ns - 10'000) == Approx(kLink_ns_per_byte));
  auto choice = profile.choose(bytes, 1, Kind::automatic);
  CHECK_FALSE(choice.promote_first);
  CHECK(choice.measure);
  // It reads hardly anything.
  CHECK(profile.observe(bytes, 8'000, 5'000) < kLink_ns_per_byte / 100);
  CHECK_FALSE(profile.choose(bytes, 1, Kind::automatic).measure);

  // Slow for sure, however long the program took.
  Profile slow;
  slow.choose(bytes, 1, Kind::automatic);
  CHECK(slow.observe(bytes, 10 * link_ns, link_ns) > 9 * kLink_ns_per_byte);
  CHECK(slow.choose(bytes, 1, Kind::automatic).promote_first);

  // A program that is always that slow is not measured at every turn.
  Profile never_clear;
  int measured = 0;
  for (int i = 0; i < 64; ++i) {
    if (!never_clear.choose(bytes, 1, Kind::automatic).measure) continue;
    ++measured;
    never_clear.observe(bytes, 2 * link_ns, 2 * link_ns);
  }
  CHECK(measured == 4);
}

TEST_CASE("frames kept ready for promotions are used by exchanges while there are none") {
  ReadyFrames frames;
  CHECK(frames.to_leave(0, 128) == 128);  // nothing is known yet
  CHECK(frames.to_leave(0, 128) == 0);
  CHECK(frames.to_leave(3, 128) == 128);
  CHECK(frames.to_leave(4, 128) == 128);
  CHECK(frames.to_leave(4, 128) == 0);
}

TEST_CASE("exchanges are looked for soon after one, and ever more seldom without") {
  ExchangePace pace;
  std::vector<uint64_t> asked;
  for (uint64_t n = 1; n <= 2000; ++n) {
    if (!pace.due(n, 0)) continue;
    asked.push_back(n);
    pace.done(n, 0, false);
  }
  CHECK(asked == std::vector<uint64_t>{8, 24, 56, 120, 248, 504, 1016, 1528});
  CHECK(pace.due(2040, 0));
  pace.done(2040, 0, true);
  CHECK_FALSE(pace.due(2047, 0));
  CHECK(pace.due(2048, 0));
}

TEST_CASE("exchanges are looked for after much was read in place, though few submissions did") {
  ExchangePace pace;
  std::vector<uint64_t> asked;
  for (uint64_t n = 1; n <= 400; ++n) {
    const uint64_t bytes = n * 256 * kMiB;
    if (!pace.due(n, bytes)) continue;
    asked.push_back(n);
    CHECK_FALSE(pace.due(n + 1, bytes + 64 * 1024 * kMiB));  // while it is being answered
    pace.done(n, bytes, false);
  }
  CHECK(asked == std::vector<uint64_t>{8, 24, 56, 88, 120, 152, 184, 216, 248, 280, 312, 344, 376});
  ExchangePace few;  // however much they are, eight at least
  for (uint64_t n = 1; n < 8; ++n) CHECK_FALSE(few.due(n, n * 64 * 1024 * kMiB));
}

TEST_CASE("what reads parts reads all of it once, in however many touches") {
  const double part = kLink_ns_per_byte / 4, all = kLink_ns_per_byte;
  CHECK_FALSE(better_promoted(part, 512 * kMiB, 3));
  CHECK_FALSE(better_promoted(part, 512 * kMiB, 70));
  CHECK(better_promoted(all, 512 * kMiB, 3));
}

TEST_CASE("young pages leave for new ones only when there are no others") {
  const uint64_t budget = 1024 * kMiB;
  CHECK(is_young(900 * kMiB, 1000 * kMiB, budget));
  CHECK_FALSE(is_young(800 * kMiB, 1000 * kMiB, budget));
  std::vector<PageView> pages = {page_of(0, 64 * kMiB, true), page_of(1, 64 * kMiB, true)};
  pages[0].needed = true;
  CHECK(leave_for_new(pages, 64 * kMiB, 1, Kind::automatic) == std::vector<uint32_t>{1});
  pages[0].needed = pages[1].needed = true;
  CHECK(leave_for_new(pages, 128 * kMiB, 1, Kind::automatic).size() == 2);
}

TEST_CASE("a promotion leaves some frames ready for the next one") {
  CHECK(ready_bytes(uint64_t{64} << 30) == 128 * kMiB);
  CHECK(ready_bytes(1024 * kMiB) == 32 * kMiB);
  std::vector<PageView> pages;
  for (uint32_t i = 0; i < 8; ++i) pages.push_back(page_of(i, 64 * kMiB, i != 0));
  pages[0].needed = true;
  const auto all_spare = pages;
  auto copy = all_spare;
  CHECK(plan_promotion(copy, 256 * kMiB, 128 * kMiB, 64 * kMiB, 1, Kind::automatic).demote.empty());
  copy = all_spare;
  const Plan tight = plan_promotion(copy, 256 * kMiB, 0, 64 * kMiB, 1, Kind::automatic);
  CHECK(tight.promote == std::vector<uint32_t>{0});
  REQUIRE(tight.demote.size() == 2);  // for the page, and for the frames kept ready
  CHECK(tight.demote[0] != tight.demote[1]);
}
