// Who held what and when: the parts of a summary that lists are made of.
#include <catch2/catch.hpp>
#include <random>
#include <string>

#include "interpose/tool/groups.h"
#include "interpose/tool/report_text.h"
#include "interpose/trace/summary.h"
#include "tests/tools/scratch.h"

namespace {

using namespace flexlom;
using tool::Filter;
using tool::Group;
using trace::Allocation;
using trace::Summary;

std::string alloc_line(uint64_t t, uint64_t address, uint64_t bytes, int device = 0,
                       const std::string& call = "cuMemAlloc_v2", uint64_t host_bytes = 0) {
  char text[400];
  snprintf(text, sizeof text,
           R"({"kind":"alloc","t":%llu,"device":%d,"address":"0x%llx","asked_bytes":%llu,)"
           R"("given_bytes":%llu,"extra_bytes":%llu,"call":"%s"})",
           static_cast<unsigned long long>(t), device, static_cast<unsigned long long>(address),
           static_cast<unsigned long long>(bytes), static_cast<unsigned long long>(bytes),
           static_cast<unsigned long long>(host_bytes), call.c_str());
  return text;
}

std::string free_line(uint64_t t, uint64_t address) {
  char text[100];
  snprintf(text, sizeof text, R"({"kind":"free","t":%llu,"address":"0x%llx"})",
           static_cast<unsigned long long>(t), static_cast<unsigned long long>(address));
  return text;
}

class Log {
 public:
  Log& operator<<(const std::string& line) {
    summary.add_line(++number_, line, false);
    return *this;
  }
  Summary summary;

 private:
  uint64_t number_ = 0;
};

}  // namespace

TEST_CASE("the holders of a peak are those of that moment, freed since or not") {
  Log log;
  log << alloc_line(1, 0x1000, 100) << alloc_line(2, 0x2000, 200, 0, "cuMemAllocAsync", 150)
      << free_line(3, 0x1000) << alloc_line(4, 0x3000, 50) << alloc_line(5, 0x9000, 70, 1);
  const auto groups = tool::top_groups(tool::peak_groups(log.summary, 0, {}), 10,
                                       [](const Group& g) { return g.bytes; });
  REQUIRE(groups.size() == 2);
  CHECK(groups[0].call == "cuMemAllocAsync");
  CHECK(groups[0].bytes == 200);
  CHECK(groups[0].host_bytes == 150);
  CHECK(groups[1].bytes == 100);
  CHECK((groups[1].lowest == 0x1000 && groups[1].end == 0x1000 + 100));
  CHECK(tool::peak_groups(log.summary, 1, {}).size() == 1);
  CHECK(tool::peak_groups(log.summary, 2, {}).empty());
}

TEST_CASE("a page that moves after the peak was elsewhere at the peak") {
  Log log;
  log << alloc_line(1, 0x1000, 100)
      << R"({"kind":"map","t":1,"device":0,"address":"0x1000","given_bytes":100,"note":"device"})"
      << R"({"kind":"demote","t":2,"device":0,"address":"0x1000","given_bytes":100})";
  CHECK(log.summary.live.at(0x1000).host_bytes == 100);
  CHECK(tool::peak_groups(log.summary, 0, {}).at(0).host_bytes == 0);
  log << free_line(3, 0x1000);
  CHECK(tool::peak_groups(log.summary, 0, {}).at(0).host_bytes == 0);
  log << alloc_line(4, 0x1000, 500);
  CHECK(tool::peak_groups(log.summary, 0, {}).at(0).bytes == 500);
  REQUIRE(log.summary.moved_most(5).size() == 1);
  CHECK(log.summary.moved_most(5)[0].freed);
  CHECK(log.summary.moved_most(5)[0].demoted_bytes == 100);
}

TEST_CASE("the holders of a peak add up to it, in any order of events") {
  for (uint32_t seed = 0; seed < 30; seed++) {
    Log log;
    std::mt19937 random(seed);
    for (uint64_t t = 1; t < 400; t++) {
      const uint64_t address = 0x1000 * (1 + random() % 30);
      if (random() % 2 == 0) {
        log << alloc_line(t, address, 1 + random() % 900, static_cast<int>(random() % 2),
                          "cuMemAlloc_v2", random() % 300);
      } else {
        log << free_line(t, address);
      }
    }
    for (const auto& [ordinal, device] : log.summary.devices) {
      uint64_t bytes = 0, host = 0;
      for (const Group& group : tool::peak_groups(log.summary, ordinal, {})) {
        bytes += group.bytes;
        host += group.host_bytes;
      }
      CHECK(bytes == device.in_use.most_bytes);
      CHECK(host == device.host_at_peak_bytes);
    }
    uint64_t live = 0, of_sites = 0;
    for (const auto& [address, allocation] : log.summary.live) live += allocation.given_bytes;
    for (trace::SiteId id = 0; id < log.summary.sites.size(); id++)
      of_sites += log.summary.sites[id].live_bytes;
    CHECK(live == of_sites);
  }
}

TEST_CASE("what lives shorter than a millisecond is counted") {
  Log log;
  log << alloc_line(1'000'000, 0x1000, 8) << free_line(1'999'999, 0x1000)
      << alloc_line(2'000'000, 0x1000, 8) << free_line(3'000'000, 0x1000)
      << alloc_line(5'000'000, 0x1000, 8) << free_line(4'000'000, 0x1000);  // other thread's clock
  const trace::Site& site = log.summary.sites[0];
  CHECK(site.allocs == 3);
  CHECK(site.short_lived == 2);
  CHECK(site.lifetime_ns == 1'999'999);
  CHECK(tool::report_text("x", log.summary, 5).find("2 allocations freed within") !=
        std::string::npos);
}

TEST_CASE("a failure names the holders of its device at that moment") {
  Log log;
  log << alloc_line(1, 0x1000, 100) << alloc_line(2, 0x2000, 100) << alloc_line(3, 0x3000, 150)
      << alloc_line(4, 0x4000, 999, 1)
      << R"({"kind":"out_of_memory","t":5,"device":0,"asked_bytes":7,"given_bytes":11,"extra_bytes":12})"
      << free_line(6, 0x1000) << free_line(7, 0x2000);
  REQUIRE(log.summary.failures.size() == 1);
  const trace::Failure& failure = log.summary.failures[0];
  CHECK(failure.in_use_bytes == 350);
  CHECK((failure.device_held_bytes == 11 && failure.host_held_bytes == 12));
  REQUIRE(failure.holders.size() == 2);
  CHECK((failure.holders[0].count == 2 && failure.holders[0].bytes == 200));
  CHECK((failure.holders[1].count == 1 && failure.holders[1].bytes == 150));
}

TEST_CASE("sites are bounded, whatever sizes, calls and failures a log has") {
  Log log;
  for (uint64_t i = 0; i < 70'000; i++) log << alloc_line(1, 0x1000, 1 + i);
  for (int i = 0; i < 1000; i++) log << alloc_line(1, 0x1000, 5, 0, "call" + std::to_string(i));
  for (int i = 0; i < 3000; i++) log << R"({"kind":"out_of_memory","t":5,"device":0})";
  CHECK(log.summary.sites.size() <= trace::Sites::most_sites + 1);
  CHECK(log.summary.sites.crowded_out() > 4000);
  CHECK(log.summary.failure_count == 3000);
  CHECK(log.summary.allocs == 71'000);
}

TEST_CASE("frames have no separator in them, and size classes have their upper end") {
  CHECK(tool::size_class(1) == "up to 512 B");
  CHECK(tool::size_class(512) == "up to 512 B");
  CHECK(tool::size_class(513) == "512 B to 1 KiB");
  CHECK(tool::size_class(1024) == "512 B to 1 KiB");
  CHECK(tool::size_class(64 << 20) == "32 MiB to 64 MiB");
  CHECK(tool::size_class(uint64_t{1} << 63) == "more than 4 EiB");
  CHECK(tool::size_class(0) == "other sizes");
  Log log;
  log << alloc_line(1, 0x1000, 600, 3, R"(a;b\nc)");
  CHECK(tool::folded_frames(log.summary, 0) == "gpu3;a:b c;512 B to 1 KiB");
  log << R"({"kind":"alloc","t":1,"device":0,"stream":"0x7f0","address":"0x1","asked_bytes":1})";
  CHECK(tool::folded_frames(log.summary, 1) == "gpu0;unknown call;stream 0x7f0;up to 512 B");
}

TEST_CASE("a filter keeps what it is told to") {
  Log log;
  log << alloc_line(1, 0x1000, 600) << alloc_line(1, 0x2000, 600, 0, "cuMemAllocAsync")
      << alloc_line(1, 0x3000, 5000, 1, "cuMemAllocAsync");
  Filter filter;
  std::string error;
  REQUIRE(filter.focus("Async", &error));
  CHECK(tool::all_groups(log.summary, filter).size() == 2);
  REQUIRE(filter.ignore("^gpu1;", &error));
  REQUIRE(tool::live_groups(log.summary, filter).size() == 1);
  CHECK(tool::biggest_live(log.summary, 5, filter).at(0).address == 0x2000);
  CHECK_FALSE(filter.focus("(", &error));
  CHECK(error.find("no regular expression") != std::string::npos);
}

TEST_CASE("a difference names what is new, gone and grown") {
  Log base, now;
  base << alloc_line(1, 0x1000, 100) << alloc_line(2, 0x2000, 300);
  now << alloc_line(1, 0x1000, 100) << alloc_line(2, 0x2000, 100) << alloc_line(3, 0x3000, 70);
  const std::string text = tool::diff_text({"a", base.summary}, {"b", now.summary}, 10, Filter());
  CHECK(text.find("-300 B       300 B -> 0 B         cuMemAlloc_v2 of 300 B on device 0  (gone)") !=
        std::string::npos);
  CHECK(text.find("+100 B       100 B -> 200 B       cuMemAlloc_v2 of 100 B on device 0\n") !=
        std::string::npos);
  CHECK(text.find("(new)") != std::string::npos);
  const std::string same = tool::diff_text({"a", base.summary}, {"b", base.summary}, 10, Filter());
  CHECK(same.find("(gone)") == std::string::npos);
}

TEST_CASE("runs with call stacks are compared by the functions that called") {
  // The same program, loaded elsewhere, that calls from another place in the same frame of code in
  // no file; sizes may differ, a stack is what makes a group.
  auto run = [](Log& log, const std::string& base, const std::string& nowhere) {
    log << R"({"kind":"module","base":")" + base + R"(000","begin":")" + base + R"(000","end":")" +
               base + R"(fff","path":"/bin/train"})"
        << R"({"kind":"frame","id":1,"ip":")" + base + R"(100"})"
        << R"({"kind":"frame","id":2,"parent":1,"ip":")" + base + R"(200"})"
        << R"({"kind":"frame","id":3,"parent":1,"ip":")" + nowhere + R"("})";
  };
  auto alloc = [](uint64_t address, uint64_t bytes, int frame) {
    std::string line = alloc_line(address, address, bytes);
    line.pop_back();
    return line + R"(,"frame":)" + std::to_string(frame) + "}";
  };
  Log base, now, none;
  run(base, "0x555500000", "0x7f0000000010");
  run(now, "0x5555aaaaa", "0x7f0000000777");
  base << alloc(0x1000, 500, 2) << alloc(0x2000, 100, 3) << alloc(0x3000, 9000, 1);
  now << alloc(0x1000, 300, 2) << alloc(0x3000, 300, 2) << alloc(0x2000, 400, 3);
  none << alloc_line(1, 0x1000, 500);
  const tool::NamedLog before{"a", base.summary}, after{"b", now.summary};
  const std::string text = tool::diff_text(before, after, 10, Filter());
  CAPTURE(text);
  CHECK(text.find("  by caller, what has grown most first\n") != std::string::npos);
  const std::string live = text.substr(text.find("\nlive at the end\n"));
  const size_t grown_most = live.find(
      "+300 B       100 B -> 400 B       cuMemAlloc_v2 of 100 B to "
      "400 B on device 0\n              0x7f0000000777\n");
  const size_t grown = live.find(
      "+100 B       500 B -> 600 B       cuMemAlloc_v2 of 300 B to 500 "
      "B on device 0\n              train+0x200\n              "
      "train+0x100\n");
  const size_t gone = live.find("(gone)\n              train+0x100\n");
  REQUIRE(grown_most != std::string::npos);
  REQUIRE(grown != std::string::npos);
  REQUIRE(gone != std::string::npos);
  CHECK((grown_most < grown && grown < gone));
  const std::string json = tool::diff_json(before, after, 10, Filter());
  CHECK(json.find(R"("by":"caller")") != std::string::npos);
  CHECK(json.find(R"("base":500,"now":600,"stack":[{"function":"train+0x200"},)"
                  R"({"function":"train+0x100"}]})") != std::string::npos);
  // One log without them: by size, and it says why.
  const std::string by_size = tool::diff_text({"a", none.summary}, after, 10, Filter());
  CHECK(by_size.find("by call and size, because a has no call stacks") != std::string::npos);
  CHECK(by_size.find("train") == std::string::npos);
  CHECK(tool::diff_json({"a", none.summary}, after, 10, Filter()).find(R"("stack")") ==
        std::string::npos);
}

TEST_CASE("a reader is told of its progress and may be stopped") {
  Scratch scratch;
  std::string text;
  for (uint64_t i = 0; i < 100'000; i++) text += alloc_line(i, 0x1000 * i, 5) + "\n";
  const std::string path = scratch.write("log", text);
  Summary all, part;
  std::string error;
  uint64_t records = 0, told = 0, total = 0;
  trace::ReadHooks hooks;
  hooks.record = [&](const trace::Record& record) {
    records++;
    CHECK(record.kind == trace::Kind::alloc);
  };
  hooks.progress = [&](uint64_t done, uint64_t whole) {
    CHECK(done >= told);
    told = done;
    total = whole;
  };
  REQUIRE(trace::read_log(path, all, &error, hooks));
  CHECK(records == 100'000);
  CHECK(total == text.size());
  CHECK(told > text.size() / 2);
  told = 0;
  hooks.stop = [&] { return records > 100'000; };
  REQUIRE(trace::read_log(path, part, &error, hooks));
  CHECK(part.records < 100'000);
}
