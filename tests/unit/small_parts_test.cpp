// Size classes, budgets and the address space: checked against the plainest model there is.
#include <catch2/catch.hpp>

#include <algorithm>
#include <random>
#include <thread>
#include <vector>

#include "pool/address_space.h"
#include "pool/budget.h"
#include "pool/shard.h"
#include "pool/size_classes.h"

using namespace flexlom::pool;

TEST_CASE("every small size has the smallest class that holds it") {
  bool right = true;
  for (size_t bytes = 1; bytes <= kSmallLimit; ++bytes) {
    const unsigned c = class_of(bytes);
    right = right && c < kSizeClasses && class_bytes(c) >= bytes && (c == 0 || class_bytes(c - 1) < bytes);
  }
  CHECK(right);
}

TEST_CASE("classes grow, are aligned, and waste at most a quarter above 4 KiB") {
  for (unsigned c = 0; c < kSizeClasses; ++c) {
    CHECK(class_bytes(c) % kAlignment == 0);
    CHECK(kGranule / class_bytes(c) >= 2);
    if (c == 0) continue;
    CHECK(class_bytes(c) > class_bytes(c - 1));
    if (class_bytes(c) > 4096) CHECK(class_bytes(c) - class_bytes(c - 1) - 1 <= class_bytes(c) / 4);
  }
}

TEST_CASE("the key of a request covers it") {
  for (const size_t bytes : {size_t{1}, kSmallLimit - 1, kSmallLimit, kSmallLimit + 1, kGranule, kGranule + 1,
                             size_t{1} << 30, (size_t{1} << 42) - 1}) {
    const SizeKey key = size_key(bytes);
    CHECK(key.bytes() >= bytes);
    CHECK(key.small == (bytes < kSmallLimit));
    if (!key.small) CHECK(key.bytes() - bytes < kGranule);
  }
}

TEST_CASE("a budget gives what it has and no more") {
  Budget budget(100);
  CHECK(budget.take(60));
  CHECK_FALSE(budget.take(41));
  CHECK_FALSE(budget.take(101));
  CHECK_FALSE(budget.take(~uint64_t{0}));
  CHECK(budget.take(40));
  CHECK(budget.room() == 0);
  CHECK_FALSE(budget.take(1));
  budget.give(60);
  CHECK(budget.room() == 60);
  CHECK(budget.peak() == 100);
  CHECK(budget.limit() == 100);
}

TEST_CASE("a budget is never exceeded by threads that race for it") {
  constexpr uint64_t kLimit = 64;
  Budget budget(kLimit);
  std::atomic<int64_t> truth{0};
  std::atomic<bool> over{false};
  std::vector<std::thread> threads;
  for (unsigned t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      std::minstd_rand random(t + 1);
      for (int i = 0; i < 20'000; ++i) {
        const auto bytes = static_cast<int64_t>(random() % 24);
        if (!budget.take(static_cast<uint64_t>(bytes))) continue;
        if (truth.fetch_add(bytes) + bytes > static_cast<int64_t>(kLimit)) over = true;
        truth.fetch_sub(bytes);
        budget.give(static_cast<uint64_t>(bytes));
      }
    });
  }
  for (std::thread& t : threads) t.join();
  CHECK_FALSE(over);
  CHECK(budget.held() == 0);
  CHECK(budget.peak() <= kLimit);
}

TEST_CASE("address space: random taking and giving agrees with a bitmap") {
  constexpr uint32_t kGranules = 257;
  for (unsigned seed = 1; seed <= 20; ++seed) {
    std::mt19937 random(seed);
    AddressSpace space(0x5000'0000'0000, size_t{kGranules} << kGranuleShift);
    REQUIRE(space.granules() == kGranules);
    std::vector<bool> used(kGranules, false);
    std::vector<std::pair<uint32_t, uint32_t>> held;
    for (int step = 0; step < 2000; ++step) {
      if (held.empty() || random() % 5 < 3) {
        const uint32_t count = 1 + random() % (random() % 4 == 0 ? 60 : 6);
        // The model: the first run of `count` free granules.
        uint32_t expected = AddressSpace::kNone;
        for (uint32_t i = 0, run = 0; i < kGranules && expected == AddressSpace::kNone; ++i) {
          run = used[i] ? 0 : run + 1;
          if (run == count) expected = i + 1 - count;
        }
        const uint32_t first = space.take(count);
        REQUIRE(first == expected);
        if (first == AddressSpace::kNone) continue;
        std::fill_n(used.begin() + first, count, true);
        held.emplace_back(first, count);
      } else {
        const size_t i = random() % held.size();
        const auto [first, count] = held[i];
        held[i] = held.back();
        held.pop_back();
        space.give(first, count);
        std::fill_n(used.begin() + first, count, false);
      }
      REQUIRE(space.is_valid());
    }
    for (const auto& [first, count] : held) space.give(first, count);
    REQUIRE(space.is_valid());
    CHECK(space.take(kGranules) == 0);
    CHECK(space.take(1) == AddressSpace::kNone);
  }
}
