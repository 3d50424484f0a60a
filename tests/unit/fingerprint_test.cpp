// The fingerprint function on the host. That the kernel computes the same is fingerprint_check's to
// say.
#include <catch2/catch.hpp>

#include <algorithm>
#include <bit>
#include <cinttypes>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <functional>
#include <random>
#include <string>
#include <unordered_set>
#include <vector>

#include "kernels/fingerprint_host.h"

using namespace flexlom::kernels;

namespace {

using Words = std::vector<uint32_t>;
constexpr size_t kUnitWords = kFingerprintUnitBytes / 4;
#ifdef FLEXLOM_CHECK
constexpr int kShare = 8;  // builds that are several times slower do an eighth of the long tests
#else
constexpr int kShare = 1;
#endif

Fingerprint of(const Words& page) {
  return fingerprint_of(page.size() * 4, [&](uint64_t at) {
    return page[at / 4] | uint64_t{page[at / 4 + 1]} << 32;
  });
}

Words random_page(size_t units, uint32_t seed) {
  std::mt19937 random(seed);
  Words page(units * kUnitWords);
  for (uint32_t& word : page) word = random();
  return page;
}

// Pages as programs have them: contents where a weak sum would see nothing change.
std::vector<std::pair<std::string, Words>> typical_pages(size_t units) {
  std::vector<std::pair<std::string, Words>> all{{"random", random_page(units, 1)}};
  all.emplace_back("zeros", Words(units * kUnitWords));
  all.emplace_back("ones", Words(units * kUnitWords, 0xffffffffu));
  all.emplace_back("float 1.0", Words(units * kUnitWords, 0x3f800000u));
  Words counter(units * kUnitWords), sparse(units * kUnitWords), halves = random_page(units, 2);
  for (size_t i = 0; i < counter.size(); ++i) counter[i] = static_cast<uint32_t>(i);
  for (size_t i = 0; i < sparse.size(); i += 97) sparse[i] = 1;
  for (uint32_t& word : halves) word &= 0x0fff0fffu;
  all.emplace_back("counter", counter);
  all.emplace_back("sparse", sparse);
  all.emplace_back("small halves", halves);
  return all;
}

std::string text(const Fingerprint& f) {
  char out[40];
  snprintf(out, sizeof out, "%016" PRIx64 " %016" PRIx64, f.low, f.high);
  return out;
}

struct Hash {
  size_t operator()(const Fingerprint& f) const { return f.low ^ f.high * 3; }
};

}  // namespace

TEST_CASE("fingerprint: the values are part of the interface") {
  // The kernel in a program's memory and the host function of a later build must agree, and a
  // change of the function must be meant.
  CHECK(text(of(Words(kUnitWords))) == "f2acb71a56524772 22ecc63adca7cd30");
  CHECK(text(of(Words(2 * kUnitWords))) == "f89d96b3f9cca1e0 1ead4037c68e2b5e");
  Words counter(4 * kUnitWords);
  for (size_t i = 0; i < counter.size(); ++i) counter[i] = static_cast<uint32_t>(i * i);
  CHECK(text(of(counter)) == "7ce4df5a41e7dd8c 33c6073c4d771dc1");
}

TEST_CASE("fingerprint: no word of the key comes twice") {
  // Two lanes with one key would miss the same changes.
  std::unordered_set<uint32_t> seen;
  for (uint32_t n = 0; n < 2 * (kStripPairs + kLanes - 1); ++n)
    CHECK(seen.insert(fingerprint_key(n)).second);
}

TEST_CASE("fingerprint: bytes in memory and words through a loader are the same page") {
  const Words page = random_page(3, 7);
  std::vector<uint64_t> memory(page.size() / 2);
  memcpy(memory.data(), page.data(), page.size() * 4);
  CHECK(fingerprint_of(memory.data(), page.size() * 4) == of(page));
}

TEST_CASE("fingerprint: a page of zeros is not the same as a longer or an empty one") {
  std::unordered_set<Fingerprint, Hash> seen{of({})};
  for (size_t units = 1; units <= 64; ++units)
    CHECK(seen.insert(of(Words(units * kUnitWords))).second);
  CHECK(seen.count(Fingerprint{}) == 0);
}

TEST_CASE("fingerprint: every single bit of a unit counts") {
  for (auto& [name, page] : typical_pages(1)) {
    INFO(name);
    const Fingerprint before = of(page);
    std::unordered_set<Fingerprint, Hash> seen{before};
    const size_t step = name == "random" || name == "zeros" ? 1 : 61;
    for (size_t bit = 0; bit < page.size() * 32; bit += step) {
      page[bit / 32] ^= 1u << bit % 32;
      if (!seen.insert(of(page)).second) FAIL("bit " << bit);
      page[bit / 32] ^= 1u << bit % 32;
    }
    REQUIRE(of(page) == before);
  }
}

TEST_CASE("fingerprint: two words that change places, and blocks that do") {
  std::mt19937 random(11);
  for (auto& [name, page] : typical_pages(3)) {
    INFO(name);
    const Fingerprint before = of(page);
    int swaps = 0;
    // Near words, words of the same place in other strips and units, and blocks of 2^n words.
    for (int round = 0; round < 3000; ++round) {
      const size_t block = size_t{1} << (round % 3 == 0 ? random() % 10 : 0);
      const size_t a = random() % (page.size() / block) * block;
      const size_t distances[] = {1, 2, 4, 128, kUnitWords, block * (1 + random() % 64)};
      const size_t distance = std::max(block, distances[random() % 6]);
      const size_t b = (a + distance) % page.size();
      if (b + block > page.size() || (b > a ? b - a : a - b) < block) continue;
      if (std::equal(page.begin() + a, page.begin() + a + block, page.begin() + b)) continue;
      std::swap_ranges(page.begin() + a, page.begin() + a + block, page.begin() + b);
      if (of(page) == before) FAIL("words " << a << " and " << b << ", block of " << block);
      std::swap_ranges(page.begin() + a, page.begin() + a + block, page.begin() + b);
      ++swaps;
    }
    if (name == "random" || name == "counter") CHECK(swaps > 2000);
    REQUIRE(of(page) == before);
  }
}

TEST_CASE("fingerprint: a page shifted by any number of words is another page") {
  for (auto& [name, page] : typical_pages(2)) {
    if (std::adjacent_find(page.begin(), page.end(), std::not_equal_to<>()) == page.end()) continue;
    INFO(name);
    std::unordered_set<Fingerprint, Hash> seen;
    // 97 words on, the sparse page would be itself again but for its end.
    for (size_t shift = 0; shift < page.size(); ++shift) {
      if (!seen.insert(of(page)).second) FAIL("shift " << shift);
      std::rotate(page.begin(), page.begin() + 1, page.end());
    }
  }
}

TEST_CASE("fingerprint: parts set to zero, one and the same part written elsewhere") {
  std::unordered_set<Fingerprint, Hash> seen;
  const Words noise = random_page(4, 21);
  CHECK(seen.insert(of(noise)).second);
  for (size_t from = 0; from < noise.size(); from += 4) {
    for (size_t length : {1, 2, 4, 128}) {
      if (from + length > noise.size()) continue;
      Words cleared = noise;
      std::fill_n(cleared.begin() + from, length, 0);
      if (!seen.insert(of(cleared)).second) FAIL("cleared " << from << ", " << length);
      Words moved(noise.size());
      std::copy_n(noise.begin(), length, moved.begin() + from);
      if (!seen.insert(of(moved)).second) FAIL("moved to " << from << ", " << length);
    }
  }
}

TEST_CASE("fingerprint: changes that cancel in a plain sum") {
  std::mt19937 random(31);
  for (auto& [name, page] : typical_pages(2)) {
    INFO(name);
    const Fingerprint before = of(page);
    std::unordered_set<Fingerprint, Hash> seen{before};
    for (int round = 0; round < 4000 / kShare; ++round) {
      Words changed = page;
      const size_t a = random() % page.size();
      const size_t b = round % 2 == 0 ? a ^ (size_t{1} << random() % 11) : random() % page.size();
      if (a == b) continue;
      const uint32_t delta = 1u << random() % 32;
      // Opposite changes, the same bit twice, and two signs turned over.
      changed[a] += delta;
      changed[b] -= delta;
      if (of(changed) == before) FAIL("opposite " << a << ", " << b << " by " << delta);
      changed = page;
      changed[a] ^= delta;
      changed[b] ^= delta;
      if (of(changed) == before) FAIL("twice " << a << ", " << b << " by " << delta);
      changed = page;
      changed[a] ^= 0x80000000u;
      changed[b] ^= 0x80000000u;
      if (of(changed) == before) FAIL("signs " << a << ", " << b);
    }
  }
}

TEST_CASE("fingerprint: one bit changed turns over half of all bits, each as often") {
  constexpr int kRounds = 4096;
  for (auto& [name, page] : typical_pages(1)) {
    INFO(name);
    const Fingerprint before = of(page);
    std::mt19937 random(41);
    int per_bit[128] = {}, all = 0;
    for (int round = 0; round < kRounds; ++round) {
      const size_t bit = random() % (page.size() * 32);
      page[bit / 32] ^= 1u << bit % 32;
      const Fingerprint after = of(page);
      page[bit / 32] ^= 1u << bit % 32;
      const uint64_t low = before.low ^ after.low, high = before.high ^ after.high;
      all += std::popcount(low) + std::popcount(high);
      for (int i = 0; i < 64; ++i) {
        per_bit[i] += low >> i & 1;
        per_bit[64 + i] += high >> i & 1;
      }
    }
    // Six standard deviations of a fair coin.
    CHECK(std::abs(all - kRounds * 64) < 6 * std::sqrt(kRounds * 128 / 4.0));
    for (int i = 0; i < 128; ++i) {
      INFO("bit " << i);
      CHECK(std::abs(per_bit[i] - kRounds / 2) < 6 * std::sqrt(kRounds / 4.0));
    }
  }
}

// Strips are added up, so two changes cancel when what one adds is what the other takes away: what
// a change of one bit of a sum does must depend on everything else in the strip, high bits
// included.
TEST_CASE("fingerprint: what a change adds is hardly ever added by another") {
  constexpr size_t kStripsTried = (1 << 16) / kShare;
  for (unsigned lane = 0; lane < kLanes; ++lane) {
    for (const int bit : {0, 31, 32, 63}) {
      std::mt19937_64 random(51);
      std::vector<uint64_t> low, high;
      for (size_t i = 0; i < kStripsTried; ++i) {
        uint64_t sums[kLanes] = {random(), random(), random(), random()};
        FingerprintSums before, after;
        fingerprint_take(before, sums, i);
        sums[lane] ^= uint64_t{1} << bit;
        fingerprint_take(after, sums, i);
        low.push_back((after.low - before.low) >> 16);
        high.push_back((after.high - before.high) >> 16);
      }
      for (auto* word : {&low, &high}) {
        std::sort(word->begin(), word->end());
        INFO("lane " << lane << " bit " << bit);
        CHECK(std::adjacent_find(word->begin(), word->end()) == word->end());
      }
    }
  }
}

// 2^-128 cannot be tested; that each 32 bits of it collide as often as chance has it can. Each page
// differs from all others in few bits, at places that a weak mixer would let cancel.
TEST_CASE("fingerprint: quarters of it collide no more often than chance") {
  constexpr size_t kPages = (1 << 17) / kShare;
  const double expected = double(kPages) * (kPages - 1) / 2 / 4294967296.0;
  for (const int kind : {0, 1, 2}) {
    Words page(kUnitWords);
    std::vector<uint32_t> quarters[4];
    for (uint32_t i = 0; i < kPages; ++i) {
      if (kind == 0) page[0] = i;                              // one word
      if (kind == 1) page[i % kUnitWords] = i;                 // a walk
      if (kind == 2) page[4] = i & 0x1ff, page[900] = i >> 9;  // two strips
      const Fingerprint f = of(page);
      quarters[0].push_back(static_cast<uint32_t>(f.low));
      quarters[1].push_back(static_cast<uint32_t>(f.low >> 32));
      quarters[2].push_back(static_cast<uint32_t>(f.high));
      quarters[3].push_back(static_cast<uint32_t>(f.high >> 32));
    }
    for (auto& quarter : quarters) {
      std::sort(quarter.begin(), quarter.end());
      const auto ends = std::unique(quarter.begin(), quarter.end());
      const auto collisions = static_cast<double>(quarter.end() - ends);
      INFO("kind " << kind << ", expected " << expected);
      CHECK(collisions < expected + 8 * std::sqrt(expected) + 8);
    }
  }
}
