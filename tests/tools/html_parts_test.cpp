// The parts of flexlom html that thin out what they are given.
#include <catch2/catch.hpp>

#include "interpose/tool/html_encode.h"
#include "interpose/tool/html_icicle.h"
#include "interpose/tool/html_page_map.h"
#include "interpose/tool/html_samples.h"
#include "interpose/trace/json_line.h"

namespace {

using namespace flexlom::tool;
using flexlom::trace::JsonLine;

constexpr uint64_t mib = uint64_t{1} << 20;
constexpr uint64_t base = 0x500000000000;

// What data.js does.
std::vector<uint64_t> unpacked(std::string_view text) {
  std::vector<uint64_t> numbers;
  uint64_t bits = 0, number = 0;
  int have = 0, shift = 0;
  for (char c : text) {
    if (c == '=') break;
    const std::string_view digits =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    bits = bits << 6 | digits.find(c);
    if ((have += 6) < 8) continue;
    have -= 8;
    const uint64_t byte = bits >> have & 255;
    number |= (byte & 127) << shift;
    shift += 7;
    if (byte < 128) {
      numbers.push_back(number);
      number = 0;
      shift = 0;
    }
  }
  return numbers;
}

struct Grid {
  explicit Grid(const std::string& json) {
    JsonLine line;
    REQUIRE(line.parse(json));
    rows = *line.number("rows");
    columns = *line.number("columns");
    shift = *line.number("shift");
    std::string text(*line.text("cells"));
    const std::vector<uint64_t> runs = unpacked(text);
    for (size_t i = 0; i + 1 < runs.size(); i += 2) cells.insert(cells.end(), runs[i + 1], runs[i]);
    text = *line.text("starts");
    starts = unpacked(text);
  }
  uint64_t at(uint64_t row, uint64_t column) const { return cells.at(row * columns + column); }

  uint64_t rows = 0, columns = 0, shift = 0;
  std::vector<uint64_t> cells, starts;
};

TEST_CASE("numbers survive packing", "[html]") {
  PackedNumbers packed;
  const std::vector<uint64_t> numbers = {0, 1, 127, 128, 300, uint64_t{1} << 56, 7};
  for (uint64_t number : numbers) packed.put(number);
  REQUIRE(unpacked(packed.base64()) == numbers);
  PackedNumbers steps;
  uint64_t before = 0;
  for (uint64_t value : {5, 3, 3, 10}) steps.put_step(value, before);
  REQUIRE(unpacked(steps.base64()) == std::vector<uint64_t>{10, 3, 0, 14});
  REQUIRE(PackedNumbers().base64().empty());
}

TEST_CASE("text is harmless in a page", "[html]") {
  REQUIRE(html_text("a<b>&\"'\xff") == "a&lt;b&gt;&amp;&quot;&#39;?");
  REQUIRE(html_json_string("</script><!--") == R"("\u003c/script\u003e\u003c!--")");
}

TEST_CASE("few samples are exact, many are thinned", "[html]") {
  Samples<LevelSample> samples(8);
  samples.at(10).note({5, 0}, 9);
  samples.at(11).note({7, 1}, 9);
  samples.at(9).note({6, 0}, 4);  // of another thread, a little late
  REQUIRE(samples.all().size() == 2);
  REQUIRE(samples.interval_ns() == 1);
  REQUIRE(samples.all()[1].most == Levels{7, 1});
  REQUIRE(samples.all()[1].last == Levels{6, 0});
  REQUIRE(samples.all()[1].held_last == 4);

  uint64_t highest = 0;
  for (uint64_t i = 0; i < 10'000; i++) {
    const uint64_t level = i * 7919 % 1000;
    highest = std::max(highest, level);
    samples.at(100 + i * 10).note({level, 0}, 0);
    REQUIRE(samples.all().size() <= 8);
  }
  uint64_t found = 0;
  for (const LevelSample& sample : samples.all()) found = std::max(found, sample.most.sum());
  REQUIRE(found == highest);
  REQUIRE(samples.all().back().last.sum() == 9999 * 7919 % 1000);
}

TEST_CASE("traffic is kept whole when it is thinned", "[html]") {
  Samples<TrafficSample> samples(4);
  for (uint64_t i = 0; i < 1000; i++) samples.at(i * i).promoted_bytes += i;
  uint64_t sum = 0;
  for (const TrafficSample& sample : samples.all()) sum += sample.promoted_bytes;
  REQUIRE(sum == 999 * 1000 / 2);
  samples.thin_to(1);
  REQUIRE(samples.all().size() == 1);
  REQUIRE(samples.all()[0].promoted_bytes == sum);
}

TEST_CASE("the page map says where a page lay", "[html]") {
  PageMap map;
  map.map(100, base, 2 * mib, false);
  map.use(100, base, 2 * mib, true);
  map.map(100, base + 64 * mib, 4 * mib, true);
  map.move(200, base, true);
  map.use(300, base, 2 * mib, false);
  map.unmap(400, base);
  const Grid grid(map.json(0, 500, 1 << 20));
  REQUIRE(grid.rows == 3);
  REQUIRE(grid.columns == 4);
  REQUIRE(grid.starts == std::vector<uint64_t>{100, 100, 100, 100});
  constexpr uint64_t device = 7, host = 7 << 3, used = 7 << 6, down = 1 << 10;
  REQUIRE(grid.at(0, 0) == (device | used));
  REQUIRE(grid.at(0, 1) == (host | used | down));
  REQUIRE(grid.at(0, 2) == host);
  REQUIRE(grid.at(0, 3) == 0);
  for (uint64_t column = 0; column < 4; column++) REQUIRE(grid.at(2, column) == host);
}

TEST_CASE("an allocation may be written before its pages are") {
  flexlom::trace::LiveAllocations live;
  flexlom::trace::Allocation allocation;
  allocation.address = base + mib;
  allocation.given_bytes = 2 * mib;
  live.emplace(allocation.address, allocation);
  PageMap map;
  map.use(5, allocation.address, allocation.given_bytes, true);  // nothing is there yet
  map.map(10, base, 4 * mib, false, live);
  const Grid grid(map.json(0, 20, 1 << 20));
  REQUIRE(grid.rows == 2);
  for (uint64_t row = 0; row < 2; row++) {
    REQUIRE((grid.at(row, 0) & 7) == 7);
    REQUIRE(grid.at(row, 0) >> 6 == 4);  // half of it
  }
}

TEST_CASE("the page map stays small whatever it is given", "[html]") {
  PageMap map;
  uint64_t random = 1;
  auto next = [&random] { return random = random * 6364136223846793005u + 1442695040888963407u; };
  for (uint64_t i = 0; i < 50'000; i++) {
    const uint64_t address = (next() >> 33) % 20'000 * 2 * mib;
    const uint64_t at_ns = i * 1000;
    map.map(at_ns, address, 2 * mib, i % 3 == 0);
    map.use(at_ns, address, mib, true);
    if (i % 5 == 0) map.move(at_ns, address, i % 2 == 0);
  }
  // Where addresses end, and more than there are.
  map.map(1, ~uint64_t{0}, ~uint64_t{0}, true);
  map.map(2, 0, ~uint64_t{0}, false);
  map.use(3, 5, ~uint64_t{0}, true);
  map.unmap(4, ~uint64_t{0});
  const std::string json = map.json(0, 60'000'000, 10'000);
  REQUIRE(json.size() < 40'000);
  const Grid grid(json);
  REQUIRE(grid.rows <= PageMap::most_rows);
  REQUIRE(grid.columns <= PageMap::most_columns);
  REQUIRE(grid.cells.size() == grid.rows * grid.columns);
  REQUIRE(grid.starts.size() == grid.columns);
}

TEST_CASE("merged cells of the page map are averages", "[html]") {
  PageMap map;
  map.map(0, base, 2 * mib, false);
  for (uint64_t i = 1; i <= 4 * PageMap::most_columns; i++)
    map.move(i * 64, base, i % 2 == 1);  // half of the time on the host
  const Grid grid(map.json(0, 4 * PageMap::most_columns * 64, 1 << 20));
  REQUIRE(grid.columns <= PageMap::most_columns);
  const uint64_t cell = grid.at(0, grid.columns / 2);
  REQUIRE((cell & 7) >= 3);
  REQUIRE((cell & 7) <= 4);
  REQUIRE((cell >> 3 & 7) >= 3);
  REQUIRE((cell >> 3 & 7) <= 4);
  REQUIRE(cell >> 9 == 3);  // moved both ways
}

TEST_CASE("an icicle lists parents first and the biggest first", "[html]") {
  Icicle icicle;
  REQUIRE(icicle.empty());
  icicle.add({"gpu0", "a", "x"}, 10 * mib, 0, 1);
  icicle.add({"gpu0", "b"}, 30 * mib, 20 * mib, 2);
  icicle.add({"gpu0", "a", "</script>"}, 5 * mib, 99 * mib, 1);
  icicle.add({"gpu0", "tiny"}, 100, 0, 7);
  REQUIRE(icicle.json() ==
          R"({"names":["gpu0","b","a","x","\u003c/script\u003e","smaller ones"],"nodes":[)"
          "[-1,0,47186020,26214400,11],[0,1,31457280,20971520,2],[0,2,15728640,5242880,2],"
          "[2,3,10485760,0,1],[2,4,5242880,5242880,1],[0,5,100,0,7]]}");
}

}  // namespace
