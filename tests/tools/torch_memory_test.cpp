#include "interpose/tool/torch_memory.h"

#include <catch2/catch.hpp>
#include <random>
#include <string>

#include "interpose/tool/pickle.h"

namespace {

using namespace flexlom::tool;

constexpr uint64_t page = 0x200000;
constexpr uint64_t base = 0x500000000000;

std::string told(const TorchMemory& memory, int place) {
  std::string text;
  auto events = memory.events().find(place);
  if (events == memory.events().end()) return text;
  for (const TorchEvent& e : events->second) {
    const char* const names[] = {"alloc", "free", "map", "unmap", "oom"};
    text += std::string(names[static_cast<int>(e.action)]) + " " +
            std::to_string(e.action == TorchAction::oom ? e.address : (e.address - base) / page) +
            "+" + std::to_string(e.size) + "; ";
  }
  return text;
}

// What the events before say must be there; and the segments at the end, too.
class Checker {
 public:
  void check(const TorchMemory& memory) {
    std::map<std::pair<int, uint64_t>, uint64_t> mapped, blocks;
    for (const auto& [place, events] : memory.events()) {
      for (const TorchEvent& e : events) {
        const std::pair key(place, e.address);
        switch (e.action) {
          case TorchAction::map:
            REQUIRE_FALSE(covered(mapped, place, e.address, 1));
            mapped.emplace(key, e.size);
            break;
          case TorchAction::unmap:
            REQUIRE(mapped.at(key) == e.size);
            for (const auto& [block, size] : blocks)
              REQUIRE_FALSE((block.first == place && block.second >= e.address &&
                             block.second < e.address + e.size));
            mapped.erase(key);
            break;
          case TorchAction::alloc:
            REQUIRE(covered(mapped, place, e.address, e.size));
            REQUIRE_FALSE(covered(blocks, place, e.address, 1));
            blocks.emplace(key, e.size);
            break;
          case TorchAction::free:
            REQUIRE(blocks.at(key) == e.size);
            blocks.erase(key);
            break;
          case TorchAction::oom:
            break;
        }
      }
    }
    size_t seen = 0;
    uint64_t mapped_bytes = 0;
    for (const auto& [key, size] : mapped) mapped_bytes += size;
    memory.each_segment([&](const TorchMemory::Segment& segment) {
      uint64_t at = segment.address;
      for (const TorchMemory::Block& block : segment.blocks) {
        REQUIRE(block.address == at);
        REQUIRE(block.size != 0);
        at += block.size;
        if (block.requested == 0) continue;
        REQUIRE(blocks.at({segment.place, block.address}) == block.requested);
        seen++;
      }
      REQUIRE(at == segment.address + segment.size);
      mapped_bytes -= segment.size;
    });
    REQUIRE(seen == blocks.size());
    REQUIRE(mapped_bytes == 0);
  }

 private:
  static bool covered(const std::map<std::pair<int, uint64_t>, uint64_t>& ranges, int place,
                      uint64_t address, uint64_t size) {
    auto after = ranges.upper_bound({place, address});
    if (after == ranges.begin()) return false;
    const auto& [key, length] = *std::prev(after);
    return key.first == place && address + size <= key.second + length;
  }
};

}  // namespace

TEST_CASE("a page that leaves takes its part of an allocation with it") {
  TorchMemory memory(0);
  memory.map(0, base, page, 1);
  memory.map(0, base + page, page, 2);
  memory.alloc(0, base, page + 100, page + 512, 7, 0, 3);
  memory.move(base, TorchMemory::host, 4);
  CHECK(told(memory, 0) ==
        "map 0+2097152; map 1+2097152; alloc 0+2097152; alloc 1+100; free 0+2097152; "
        "unmap 0+2097152; ");
  CHECK(told(memory, TorchMemory::host) == "map 0+2097152; alloc 0+2097152; ");
  memory.move(base, 0, 5);
  memory.free(base, 6);
  memory.unmap(base, 7);
  CHECK(told(memory, TorchMemory::host) ==
        "map 0+2097152; alloc 0+2097152; free 0+2097152; unmap 0+2097152; ");
  int segments = 0;
  memory.each_segment([&](const TorchMemory::Segment& segment) {
    segments++;
    CHECK(segment.address == base + page);
    REQUIRE(segment.blocks.size() == 1);
    CHECK(segment.blocks[0].requested == 0);
  });
  CHECK(segments == 1);
  Checker().check(memory);
}

TEST_CASE("an allocation outside of known pages brings its own segment") {
  TorchMemory memory(0);
  memory.map(0, base + page, page, 1);
  memory.alloc(0, base, 3 * page, 3 * page, 1, 5, 2);
  CHECK(told(memory, 0) ==
        "map 1+2097152; map 0+2097152; map 2+2097152; alloc 0+2097152; alloc 1+2097152; "
        "alloc 2+2097152; ");
  memory.free(base, 3);
  uint64_t mapped = 0;
  memory.each_segment([&](const TorchMemory::Segment& segment) { mapped += segment.size; });
  CHECK(mapped == page);
  Checker().check(memory);
}

TEST_CASE("only the last events are kept, and impossible ones do nothing") {
  TorchMemory memory(2);
  for (uint64_t i = 0; i < 5; i++) memory.map(0, base + i * page, page, i);
  CHECK(told(memory, 0) == "map 3+2097152; map 4+2097152; ");
  CHECK(memory.dropped() == 3);
  memory.map(0, UINT64_MAX - 5, page, 1);
  memory.alloc(0, base, UINT64_MAX, 5, 0, 0, 1);
  memory.alloc(0, base, 0, 0, 0, 0, 1);
  memory.unmap(base + 1, 1);
  memory.move(base + 99 * page, 0, 1);
  memory.free(base, 1);
  CHECK(memory.dropped() == 3);
  memory.out_of_memory(0, 77, 5, 3, 9);
  CHECK(told(memory, 0) == "map 4+2097152; oom 5+77; ");
  CHECK(memory.events().at(0).back().frame == 3);
}

TEST_CASE("whatever a log says, blocks lie in segments and nothing overlaps") {
  for (uint32_t seed = 0; seed < 20; seed++) {
    TorchMemory memory(0);
    std::mt19937 random(seed);
    auto below = [&random](uint32_t n) { return random() % n; };
    for (int step = 0; step < 600; step++) {
      const uint64_t quarter = page / 4;
      const uint64_t address = base + below(40) * quarter;
      const uint64_t size = (1 + below(9)) * quarter;
      const auto at = static_cast<uint64_t>(step);
      switch (below(8)) {
        case 0:
        case 1:
          memory.map(below(4) == 0 ? TorchMemory::host : 0, address, size, at);
          break;
        case 2:
          memory.unmap(address, at);
          break;
        case 3:
          memory.move(address, below(2) == 0 ? TorchMemory::host : 0, at);
          break;
        case 4:
        case 5:
          memory.alloc(0, address, size - below(1000), size, 1, 0, at);
          break;
        default:
          memory.free(address, at);
          break;
      }
    }
    Checker().check(memory);
  }
}

TEST_CASE("pickles are protocol 2 with little-endian numbers") {
  std::string out;
  Pickle pickle(out);
  pickle.begin();
  pickle.number(1);
  pickle.integer(-2);
  pickle.number(uint64_t{1} << 40);
  pickle.text("ab");
  pickle.number(UINT64_MAX);  // numbers of snapshots have a sign
  pickle.stop();
  using namespace std::string_literals;
  CHECK(out ==
        "\x80\x02J\x01\0\0\0J\xfe\xff\xff\xff\x8a\x08\0\0\0\0\0\x01\0\0X\x02\0\0\0ab"
        "\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f."s);
}
