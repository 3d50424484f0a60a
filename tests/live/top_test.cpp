// flexlom top: the lines and the JSON of made-up processes.
#include "interpose/tool/top.h"

#include <time.h>

#include <array>
#include <catch2/catch.hpp>
#include <random>

#include "interpose/trace/json_text.h"

using namespace flexlom;
using namespace flexlom::tool::top;

namespace {

constexpr uint64_t kSecond = 1'000'000'000;
constexpr uint64_t kMiB = 1 << 20;
constexpr uint64_t kGiB = 1 << 30;
constexpr uint64_t kNow = 100'000 * kSecond;

live::Sample sample(uint64_t held_bytes, uint64_t age_s) {
  live::Sample s{};
  s.active_since_ns = kNow - age_s * kSecond;
  s.now.at_ns = kNow - kSecond / 4;
  s.before.at_ns = s.now.at_ns - 2 * kSecond;
  s.device_count = 1;
  s.devices[0].held_bytes = held_bytes;
  s.devices[0].budget_bytes = 24 * kGiB;
  s.devices[0].peak_bytes = held_bytes;
  s.devices[0].live = 3;
  std::snprintf(s.devices[0].name, sizeof s.devices[0].name, "Some GPU");
  for (uint8_t i = 0; i < 16; ++i) s.devices[0].uuid[i] = static_cast<uint8_t>(i * 17);
  return s;
}

live::Process process(pid_t pid, const char* command, const live::Sample& s) {
  live::Process p;
  p.pid = pid;
  p.command = command;
  p.state = 'S';
  std::memcpy(p.reading.head.magic, live::kMagic, sizeof live::kMagic);
  std::snprintf(p.reading.head.version, sizeof p.reading.head.version, "0.1.0");
  p.reading.sample = s;
  return p;
}

Look busy() {
  Look look;
  look.now_ns = kNow;
  look.user = 1000;
  live::Sample training = sample(22 * kGiB + 100 * kMiB, 3723);
  training.host_held_bytes = 12 * kGiB + 300 * kMiB;
  training.host_budget_bytes = 64 * kGiB;
  training.now.promoted_bytes = 20 * kGiB;
  training.before.promoted_bytes = 4 * kGiB;
  training.now.demoted_bytes = 15 * kGiB;
  training.before.demoted_bytes = 4 * kGiB;
  training.now.demoted_copied_bytes = 10 * kGiB;
  training.before.demoted_copied_bytes = 4 * kGiB;
  training.now.in_place_bytes = 50 * kMiB;
  training.largest = {0, 0x500000200000, 2 * kGiB, kGiB, "cuMemAlloc"};
  live::Sample two = sample(3 * kGiB, 65);
  two.device_count = 2;
  two.devices[1] = two.devices[0];
  two.devices[1].ordinal = 3;
  two.devices[1].held_bytes = kGiB;
  two.largest = {3, 0x4c0000000000, 512 * kMiB, 0, "cuMemAllocAsync"};
  live::Sample fresh = sample(9 * kMiB + 800 * 1024, 0);
  fresh.before = {};
  live::Process future = process(7, "python serve.py", sample(0, 0));
  future.reading.sample.reset();
  future.reading.problem = "runs under flexlom 9.0";
  look.processes = {process(4242, "python train.py --lr 1e-4", training), future,
                    process(99, "./solver", two), process(123456, "fresh", fresh)};
  sort(&look.processes, Order::device, false);
  return look;
}

std::vector<pid_t> pids(const Look& look) {
  std::vector<pid_t> all;
  for (const auto& p : look.processes) all.push_back(p.pid);
  return all;
}

std::string join(const std::vector<std::string>& all) {
  std::string text;
  for (const std::string& line : all) text += line + "\n";
  return text;
}

}  // namespace

TEST_CASE("top: the lines of a busy machine") {
  setenv("TZ", "UTC", 1);
  tzset();
  CHECK(join(lines(busy(), {})) ==
        R"(flexlom top: 4 processes of user 1000, 00:00:00
26.1 GiB on devices, 12.3 GiB on the host; per second 8 GiB up, 5.5 GiB down, 25 MiB in place
    PID DEV DEVICE BUDGET   HOST   UP/s DOWN/s INPL/s LARGEST BY       AGE COMMAND
   4242   0  22.1G    24G  12.3G     8G   5.5G    25M      2G alloc   1h02 python train.py --lr 1e-4
     99  x2     4G    48G      0      0      0      0    512M async   1:05 ./solver
          0     3G    24G                                                    Some GPU
          3     1G    24G                                512M async          Some GPU
 123456   0   9.8M    24G      0      -      -      -       -           0s fresh
      7 python serve.py: runs under flexlom 9.0
)");
}

TEST_CASE("top: a small screen shows what fits, and says that there is more") {
  Layout layout;
  layout.columns = 40;
  layout.lines = 7;
  layout.keys = true;
  const auto all = lines(busy(), layout);
  REQUIRE(all.size() == 7);
  for (const std::string& line : all) CHECK(line.size() <= 40);
  CHECK(all[3] == "   4242   0  22.1G    24G  12.3G     8G");
  CHECK(all[5] == "... and 4 more lines");
  CHECK(all[6] == "q quit  sort: [d device] h host m moved");
  for (size_t small = 1; small < 12; ++small) {
    layout.lines = small;
    layout.columns = small;
    CHECK(lines(busy(), layout).size() == small);
  }
  layout.lines = 24;
  layout.columns = 200;
  CHECK(lines(busy(), layout).size() == 24);
  CHECK(lines({}, layout).size() == 24);
}

TEST_CASE("top: nobody there") {
  const std::string text = join(lines({}, {}));
  CHECK(text.find("0 processes") != std::string::npos);
  CHECK(text.find("no process of this user has allocated under flexlom") != std::string::npos);
}

TEST_CASE("top: what is not as usual stands before the command") {
  Look look;
  look.now_ns = kNow;
  look.processes = {process(1, "a", sample(kMiB, 100)), process(2, "b", sample(kMiB, 100))};
  look.processes[0].state = 'T';
  look.processes[1].reading.sample->now.at_ns = kNow - 12 * kSecond;
  const auto all = lines(look, {});
  CHECK(all[3].ends_with(" [stopped] a"));
  CHECK(all[4].ends_with(" [no news for 12s] b"));
}

TEST_CASE("top: orders") {
  Look look = busy();
  CHECK(pids(look) == std::vector<pid_t>{4242, 99, 123456, 7});
  const auto sorted = [&](Order order, bool reverse = false) {
    sort(&look.processes, order, reverse);
    return pids(look);
  };
  CHECK(sorted(Order::device, true) == std::vector<pid_t>{123456, 99, 4242, 7});
  CHECK(sorted(Order::host) == std::vector<pid_t>{4242, 99, 123456, 7});
  CHECK(sorted(Order::moved) == std::vector<pid_t>{4242, 99, 123456, 7});
  CHECK(sorted(Order::in_place) == std::vector<pid_t>{4242, 99, 123456, 7});
  CHECK(sorted(Order::largest) == std::vector<pid_t>{4242, 99, 123456, 7});
  CHECK(sorted(Order::age, true) == std::vector<pid_t>{123456, 99, 4242, 7});
  CHECK(sorted(Order::pid) == std::vector<pid_t>{99, 4242, 123456, 7});
}

TEST_CASE("top: rates") {
  live::Sample s = sample(0, 10);
  s.now.promoted_bytes = 300;
  s.before.promoted_bytes = 100;
  s.now.in_place_bytes = 5;
  s.before.in_place_bytes = 50;  // a page that lies
  const auto rates = rates_of(s);
  REQUIRE(rates);
  CHECK(rates->window_s == Approx(2));
  CHECK(rates->promoted == Approx(100));
  CHECK(rates->in_place == 0);
  s.before.at_ns = 0;
  CHECK(!rates_of(s));
  s.before.at_ns = s.now.at_ns;
  CHECK(!rates_of(s));
}

TEST_CASE("top: short amounts have at most six characters") {
  CHECK(short_bytes(0) == "0");
  CHECK(short_bytes(512) == "512B");
  CHECK(short_bytes(1000) == "1K");
  CHECK(short_bytes(1024) == "1K");
  CHECK(short_bytes(9.8 * kMiB) == "9.8M");
  CHECK(short_bytes(144.0 * kMiB) == "144M");
  CHECK(short_bytes(999.0 * kMiB) == "999M");
  CHECK(short_bytes(1023.0 * kMiB) == "1G");
  CHECK(short_bytes(-5) == "0");
  CHECK(short_bytes(std::numeric_limits<double>::quiet_NaN()) == "0");
  for (double bytes = 1; bytes < 1.8e19; bytes *= 1.07) CHECK(short_bytes(bytes).size() <= 6);
}

TEST_CASE("top: names of processes cannot drive the terminal") {
  CHECK(fit("a\x1b[2Jb\n\x7f\tc", 99) == "a [2Jb   c");
  CHECK(fit("h\xc3\xa9llo", 3) == "h\xc3\xa9l");
  CHECK(fit("a\x9b"
            "b",
            9) == "a?b");  // CSI in one byte
  CHECK(fit("a\xc2\x9b"
            "b",
            9) == "a?b");  // the same in UTF-8
  CHECK(fit("\xe2\x82", 9) == "??");
  CHECK(fit("\xed\xa0\x80", 9) == "???");
  CHECK(fit("abc", 0).empty());
  Look look;
  look.now_ns = kNow;
  look.processes = {process(1, "x\x1b]0;title\x07\"\xff", sample(kMiB, 5))};
  for (const std::string& line : lines(look, {})) {
    for (const char c : line) CHECK(static_cast<unsigned char>(c) >= 0x20);
  }
  CHECK(json(look).find("x\\u001b]0;title\\u0007\\\"?") != std::string::npos);
}

TEST_CASE("top: numbers that cannot be do no harm") {
  Look look;
  look.now_ns = 1;
  live::Sample s;
  std::memset(static_cast<void*>(&s), 0xff, sizeof s);
  for (auto& d : s.devices) d.name[sizeof d.name - 1] = '\0';
  s.largest.call[sizeof s.largest.call - 1] = '\0';
  look.processes = {process(1, "liar", s)};
  sort(&look.processes, Order::largest, true);
  CHECK(lines(look, {}).size() == 3 + 1 + live::kDevices);
  CHECK(json(look).find("\"command\":\"liar\"") != std::string::npos);
}

TEST_CASE("top: pages of random bytes") {
  std::mt19937_64 random(11);
  std::array<unsigned char, live::kPageBytes> page{};
  for (int round = 0; round < 3000; ++round) {
    for (size_t i = 0; i < page.size(); i += sizeof(uint64_t)) {
      // Mostly small numbers: lengths and counts that are nearly right are worse than wild ones.
      const uint64_t word = random() >> (random() % 64);
      std::memcpy(&page[i], &word, sizeof word);
    }
    std::memcpy(page.data(), live::kMagic, sizeof live::kMagic);
    const uint32_t format = round % 8 == 0 ? static_cast<uint32_t>(random()) : live::kFormat;
    std::memcpy(&page[offsetof(live::Head, format)], &format, sizeof format);
    const uint64_t even = 4;
    std::memcpy(&page[offsetof(live::Page, sequence)], &even, sizeof even);
    const size_t length = round % 5 == 0 ? random() % page.size() : page.size();
    live::Process p;
    p.reading = live::read_page([&](void* to, size_t bytes, size_t offset) {
      if (offset + bytes > length) return false;
      std::memcpy(to, &page[offset], bytes);
      return true;
    });
    if (!p.reading.is_page()) continue;
    Look look;
    look.now_ns = kNow;
    look.processes = {p, p};
    sort(&look.processes, order_names[random() % order_names.size()].order, round % 2 == 0);
    Layout layout;
    layout.columns = random() % 100;
    layout.lines = random() % 20;
    layout.keys = round % 3 == 0;
    for (const std::string& line : lines(look, layout)) {
      for (size_t i = 0; i < line.size();) {
        const size_t here = trace::utf8_length(std::string_view(line).substr(i));
        REQUIRE(here > 0);
        REQUIRE(static_cast<unsigned char>(line[i]) >= 0x20);
        i += here;
      }
    }
    const std::string text = json(look);
    REQUIRE(text.find('\n') == std::string::npos);
    REQUIRE(text.find("nan") == std::string::npos);
    REQUIRE(text.find("inf") == std::string::npos);
  }
}

TEST_CASE("top: JSON") {
  Look look = busy();
  look.processes.resize(1);
  CHECK(json(look) ==
        R"({"format":1,"clock_s":0,"user":1000,"processes":[{"pid":4242,)"
        R"("command":"python train.py --lr 1e-4","state":"S","version":"0.1.0","age_s":3723.000,)"
        R"("updated_s_ago":0.250,"devices":[{"device":0,)"
        R"("uuid":"00112233-4455-6677-8899-aabbccddeeff","name":"Some GPU",)"
        R"("budget_bytes":25769803776,"held_bytes":23727177728,"peak_bytes":23727177728,)"
        R"("asked_bytes":0,"live":3,"allocs":0,"frees":0,"failures":0}],)"
        R"("host":{"budget_bytes":68719476736,"held_bytes":13199474688,"peak_bytes":0},)"
        R"("moves":{"promoted_bytes":21474836480,"demoted_bytes":16106127360,)"
        R"("demoted_copied_bytes":10737418240,"in_place_bytes":52428800,)"
        R"("per_second":{"window_s":2.000,"promoted_bytes":8589934592,)"
        R"("demoted_bytes":5905580032,"demoted_copied_bytes":3221225472,)"
        R"("in_place_bytes":26214400}},"largest":{"device":0,"address":"0x500000200000",)"
        R"("bytes":2147483648,"host_bytes":1073741824,"call":"cuMemAlloc"}}]})");
}
