// flexlom advise: what it reads from a log, and that the model obeys what it is made of.
#include <fmt/format.h>
#include <catch2/catch.hpp>

#include <fstream>

#include "interpose/tool/advise_log.h"
#include "interpose/tool/advise_model.h"
#include "interpose/tool/advise_plot.h"
#include "interpose/tool/replay_log.h"
#include "interpose/trace/writer.h"
#include "tests/tools/scratch.h"

using namespace flexlom;
using namespace flexlom::tool;

namespace {

constexpr uint64_t kMiB = uint64_t{1} << 20;
constexpr uint64_t kBase = 0x500000000000;

struct Log {
  trace::Summary summary;
  AdviseReader reader;
  uint64_t number = 0;

  void line(const std::string& text) {
    if (summary.add_line(++number, text, false)) reader.record(summary.record(), summary);
  }
  void alloc(uint64_t index, uint64_t mib, uint64_t t = 1) {
    line(fmt::format(R"({{"kind":"alloc","t":{},"device":0,"address":"{:#x}","asked_bytes":{},)"
                     R"("given_bytes":{},"call":"cuMemAlloc_v2"}})",
                     t, kBase + index * mib * kMiB, mib * kMiB, mib * kMiB));
  }
  void launch(uint64_t t, unsigned fn, uint64_t index, uint64_t mib) {
    line(fmt::format(R"({{"kind":"launch","t":{},"fn":{},"on":"{:x}"}})", t, fn,
                     (kBase + index * mib * kMiB) >> 21));
  }
  AdviseJob job() {
    AdviseJob job;
    REQUIRE(reader.finish(summary, -1, &job));
    return job;
  }
};

// `passes` over `layers` blocks of 64 MiB, each read by a kernel that takes `ns` on the device.
AdviseJob cycle(unsigned layers, unsigned passes, uint64_t ns, uint64_t gap_ns) {
  Log log;
  log.line(R"({"kind":"header","format":1,"version":"0","t":1})");
  for (unsigned i = 0; i < layers; ++i) log.alloc(i, 64);
  log.line(R"({"kind":"function","t":1,"fn":1,"threads":4096,"name":"layer"})");
  log.line(fmt::format(R"({{"kind":"timed","fn":1,"ns":{},"host_ns":0}})", ns));
  uint64_t t = 1000;
  for (unsigned p = 0; p < passes; ++p) {
    for (unsigned i = 0; i < layers; ++i) log.launch(t += gap_ns, 1, i, 64);
    log.line(fmt::format(R"({{"kind":"wait","t":{},"ns":{}}})", t + 1000, 1000));
  }
  return log.job();
}

uint64_t middle(const AdviseJob& job) { return (job.first_launch_ns + job.last_ns) / 2; }

}  // namespace

TEST_CASE("advise reads allocations, submissions and times") {
  Log log;
  log.alloc(0, 64);
  log.alloc(1, 64);
  log.line(R"({"kind":"function","t":2,"fn":7,"threads":64,"name":"gemm"})");
  log.line(R"({"kind":"function","t":2,"fn":8,"call":"cuMemcpyDtoH_v2"})");
  log.line(R"({"kind":"launch","t":100,"fn":7,"on":"2800000,2800020"})");
  log.line(R"({"kind":"launch","t":100,"fn":7,"on":"2800000"})");  // the rest of a long list
  log.line(R"({"kind":"launch","t":200,"fn":8,"on":"9999999"})");  // of no known allocation
  log.line(R"({"kind":"timed","fn":7,"ns":90000,"host_ns":4000})");
  log.line(R"({"kind":"timed","fn":7,"ns":70000,"host_ns":1000})");
  log.line(R"({"kind":"timed","fn":7,"ns":3000,"host_ns":1,"spilled_bytes":1000})");
  const AdviseJob job = log.job();
  CHECK(job.launches == 2);
  CHECK(job.touches.size() == 3);
  CHECK(job.unknown_touches == 1);
  CHECK(job.peak_bytes == 128 * kMiB);
  CHECK(job.functions.at(7).kernel);
  CHECK_FALSE(job.functions.at(8).kernel);
  CHECK(job.functions.at(7).resident_ns == Approx(67500));
  CHECK(job.functions.at(7).in_place_rate() == Approx(3));
}

TEST_CASE("advise tells launches of one kernel apart by what they touch") {
  Log log;
  log.alloc(0, 64);
  log.alloc(1, 1024);
  log.line(R"({"kind":"launch","t":100,"fn":7,"on":"2800000"})");
  log.line(R"({"kind":"launch","t":200,"fn":7,"on":"2800200"})");
  log.line(R"({"kind":"launch","t":300,"fn":7,"on":"2800200"})");
  log.line(R"({"kind":"timed","fn":7,"launch":2,"ns":401500,"host_ns":0})");
  log.line(R"({"kind":"timed","fn":7,"launch":1,"ns":21500,"host_ns":0})");
  log.line(R"({"kind":"timed","fn":7,"launch":3,"ns":301500,"host_ns":0})");
  log.line(R"({"kind":"timed","fn":7,"launch":999,"ns":11500,"host_ns":0})");  // of none that was
  const AdviseJob job = log.job();
  const AdviseFunction& f = job.functions.at(7);
  CHECK(f.resident_ns == Approx(10000));
  CHECK(f.resident_ns_of(64 * kMiB) == Approx(20000));
  CHECK(f.resident_ns_of(1024 * kMiB) == Approx(300000));
  CHECK(f.resident_ns_of(1) == Approx(20000));
  CHECK(f.resident_ns_of(100 * kMiB) == Approx(20000));
  CHECK(f.resident_ns_of(700 * kMiB) == Approx(300000));
  CHECK(f.resident_ns_of(uint64_t{1} << 40) == Approx(300000));
}

TEST_CASE("what a kernel names beside its data does not make it read less of them") {
  // 64 MiB read at the device's speed, and 1 GiB of work space that it hardly uses.
  Log log;
  log.line(R"({"kind":"header","format":1,"version":"0","t":1})");
  log.alloc(0, 1024);
  for (unsigned i = 0; i < 16; ++i) log.alloc(16 + i, 64);
  uint64_t t = 1000;
  for (unsigned pass = 0; pass < 40; ++pass) {
    for (unsigned i = 0; i < 16; ++i) {
      t += 20'000;
      log.line(fmt::format(R"({{"kind":"launch","t":{},"fn":1,"on":"2800000,{:x}"}})", t,
                           0x2800000 + (16 + i) * 32));
    }
    if (pass == 0) log.line(R"({"kind":"timed","fn":1,"launch":3,"ns":17100,"host_ns":0})");
  }
  const AdviseJob job = log.job();
  REQUIRE(job.unknown_touches == 0);
  const LinkModel link;
  const Prediction half = predict(job, link, 1536 * kMiB, middle(job));
  // About half of 1 GiB over the link in each of 20 passes, at the speed that kernels usually reach.
  CHECK(half.seconds == Approx(20 * 512.0 * kMiB / link.in_place / 0.82).epsilon(0.2));
}

// An optimizer: every launch is given sixteen tensors and updates four of them, so each tensor is
// named four times in a row and crosses the link once each way.
TEST_CASE("a list of tensors is read and written once, in however many launches") {
  Log log;
  log.line(R"({"kind":"header","format":1,"version":"0","t":1})");
  for (unsigned i = 0; i < 64; ++i) log.alloc(i, 64);  // weights, then states
  log.line(R"({"kind":"timed","fn":1,"ns":17100,"host_ns":0})");
  log.line(R"({"kind":"timed","fn":2,"ns":125000,"host_ns":0})");
  uint64_t t = 1000;
  const auto base = [](unsigned index) { return (kBase + index * 64 * kMiB) >> 21; };
  for (unsigned pass = 0; pass < 40; ++pass) {
    for (unsigned i = 0; i < 4 * 32; ++i) log.launch(t += 20'000, 1, i % 32, 64);
    for (unsigned k = 0; k < 8; ++k) {
      std::string names;
      for (unsigned i = 0; i < 16; ++i)
        names += fmt::format("{}{:x}", i > 0 ? "," : "", base(32 + (4 * k + i) % 32));
      t += 20'000;
      log.line(fmt::format(R"({{"kind":"launch","t":{},"fn":2,"on":"{}"}})", t, names));
    }
  }
  const AdviseJob job = log.job();
  REQUIRE(job.unknown_touches == 0);
  const LinkModel link;
  const double all = predict(job, link, 8192 * kMiB, middle(job)).seconds;
  // Room for the weights and half of the states.
  const Prediction less = predict(job, link, 3072 * kMiB + 64 * kMiB, middle(job));
  const double crossing = 20 * 1024.0 * kMiB / link.in_place;
  CHECK(less.in_place_bytes > 60 * 1024 * kMiB);  // as often as they are named
  CHECK(less.seconds - all > crossing);
  CHECK(less.seconds - all < 1.5 * crossing);
}

TEST_CASE("advise takes no damage from damaged records") {
  Log log;
  log.alloc(0, 64);
  log.line(R"({"kind":"alloc","t":1,"address":"0x1","asked_bytes":72057594037927936})");
  log.line(R"({"kind":"launch","t":5,"fn":1,"on":"zz"})");
  log.line(R"({"kind":"launch","t":6,"fn":1,"on":""})");
  log.line(R"({"kind":"launch","t":7,"fn":99999999999,"on":"1"})");
  log.line(R"({"kind":"launch","t":8,"on":"1"})");
  log.line(R"({"kind":"launch","t":9,"fn":1,"on":5})");
  log.line(R"({"kind":"wait","t":2,"ns":18446744073709551615})");
  log.line(R"({"kind":"timed","fn":0,"ns":1})");
  log.line(R"({"kind":"free","t":9,"address":"0x77"})");
  log.launch(10, 1, 0, 64);
  const AdviseJob job = log.job();
  CHECK(job.left_out >= 5);
  const Prediction p = predict(job, LinkModel(), 16 * kMiB, 0);
  CHECK(p.seconds >= 0);
}

TEST_CASE("with all its memory a job takes what its kernels and its pace take") {
  // The device is the slower one, then the program.
  const AdviseJob slow_device = cycle(16, 8, 1'001'500, 10'000);
  const LinkModel link;
  const Prediction busy = predict(slow_device, link, 4096 * kMiB, 0);
  CHECK(busy.up_bytes + busy.in_place_bytes == 0);
  CHECK(busy.whole_seconds == Approx(16 * 8 * 0.001).epsilon(0.02));
  const AdviseJob slow_program = cycle(16, 8, 101'500, 1'000'000);
  CHECK(predict(slow_program, link, 4096 * kMiB, 0).whole_seconds ==
        Approx(16 * 8 * 0.001).epsilon(0.02));
}

TEST_CASE("what streams is read in place at the speed of the link") {
  // 64 MiB at the device's speed take 16 us.
  const AdviseJob job = cycle(32, 40, 17'100, 20'000);
  const LinkModel link;
  const uint64_t from = middle(job);
  const double all = predict(job, link, 4096 * kMiB, from).seconds;
  const Prediction half = predict(job, link, 1024 * kMiB + 64 * kMiB, from);
  CHECK(half.up_bytes < half.in_place_bytes);
  // About half of 2 GiB over the link in each of 20 passes.
  const double bound = 20 * 1024.0 * kMiB / link.in_place;
  CHECK(half.seconds > all);
  CHECK(half.seconds == Approx(bound).epsilon(0.25));
}

TEST_CASE("what rereads is promoted, and pays for it") {
  // Twenty times the time of reading once.
  const AdviseJob job = cycle(32, 40, 320'000, 20'000);
  const LinkModel link;
  const uint64_t from = middle(job);
  const double all = predict(job, link, 4096 * kMiB, from).seconds;
  const Prediction half = predict(job, link, 1024 * kMiB + 64 * kMiB, from);
  CHECK(half.up_bytes > 0);
  const double least = all + 20 * 960.0 * kMiB / link.copy * 0.9;
  CHECK(half.seconds > least);
  CHECK(half.seconds < all + 3 * (least - all));
}

TEST_CASE("less memory is never much faster") {
  const AdviseJob job = cycle(32, 30, 100'000, 20'000);
  const LinkModel link;
  double before = 0;
  for (const uint64_t percent : {110u, 90u, 70u, 50u, 30u}) {
    const double seconds = predict(job, link, 2048 * kMiB * percent / 100, middle(job)).seconds;
    CHECK(seconds > before * 0.95);
    before = seconds;
  }
}

TEST_CASE("the knee is where the curve bends") {
  std::vector<PlotPoint> points = {{4, 3, false}, {6, 2, false}, {8, 1.1, false}, {12, 1, false}};
  CHECK(knee_of(points) == 2);
  points = {{4, 1, false}, {8, 1, false}};
  CHECK(knee_of(points) == 0);  // all of it is as good
  const std::string svg = advise_svg({{1, 2, true}, {2, 1, false}}, "a<b>&\"c\"");
  CHECK(svg.find("a&lt;b&gt;&amp;&quot;c&quot;") != std::string::npos);
  CHECK(advise_ascii({{1, 1, false}}).find('o') != std::string::npos);
}

TEST_CASE("records of submissions are short, and long lists come back whole") {
  Scratch scratch;
  const std::string path = scratch / "log";
  std::vector<uint64_t> bases;
  for (uint64_t i = 0; i < 200; ++i) bases.push_back(kBase + (i << 26));
  {
    auto writer = trace::Writer::open(path, nullptr);
    REQUIRE(writer != nullptr);
    trace::Event alloc;
    alloc.device = 0;
    for (const uint64_t base : bases) {
      alloc.address = base;
      alloc.asked_bytes = alloc.given_bytes = 64 * kMiB;
      writer->alloc(alloc);
    }
    writer->function({3, "kernel\"name", nullptr, false, 4096});
    writer->launch({3, 0, bases.data(), 200, 123456789012345});
    writer->launch({3, 0, bases.data(), 3, 123456789022345});
    writer->timed({3, 5000, 700, 0, 2});
    writer->wait(60000);
  }
  std::ifstream file(path);
  std::string text;
  Log log;
  size_t launches = 0, shortest = 1000;
  while (std::getline(file, text)) {
    log.line(text);
    if (text.find("\"kind\":\"launch\"") == std::string::npos) continue;
    ++launches;
    shortest = std::min(shortest, text.size());
    CHECK(text.size() < 700);
  }
  CHECK(launches == 6);
  CHECK(shortest <= 100);  // of three allocations
  const AdviseJob job = log.job();
  CHECK(job.launches == 2);
  CHECK(job.touches.size() == 203);
  CHECK(job.functions.at(3).name == "kernel\"name");
  CHECK(job.functions.at(3).resident_ns_by_size.size() == 1);
  CHECK(job.unknown_touches == 0);
}

TEST_CASE("replay takes allocations and frees in order, and nothing that does not fit") {
  Scratch scratch;
  const std::string path = scratch / "log";
  std::ofstream(path) << R"({"kind":"header","format":1,"version":"0","t":1}
{"kind":"alloc","t":1,"address":"0x10","asked_bytes":100,"call":"cuMemAlloc_v2"}
{"kind":"alloc","t":2,"address":"0x20","asked_bytes":50,"stream":"0x7","call":"cuMemAllocAsync"}
{"kind":"free","t":3,"address":"0x10","call":"cuMemFree_v2"}
{"kind":"free","t":3,"address":"0x99","call":"cuMemFree_v2"}
{"kind":"alloc","t":4,"address":"0x20","asked_bytes":70,"call":"cuMemAlloc_v2"}
{"kind":"alloc","t":5,"address":"0x30","asked_bytes":0}
)";
  ReplayTrace replay;
  std::string error;
  REQUIRE(read_replay(path, -1, &replay, &error));
  CHECK(replay.steps.size() == 5);  // the block at 0x20 was freed, though the log does not say so
  CHECK(replay.blocks == 3);
  CHECK(replay.peak_bytes == 150);
  CHECK(replay.streams == 1);
  CHECK(replay.steps[1].in_order);
  CHECK(replay.left_out == 2);
  CHECK_FALSE(read_replay(path, 3, &replay, &error));
  CHECK(error.find("no allocations") != std::string::npos);
}
