#include "interpose/trace/summary.h"

#include <catch2/catch.hpp>

#include "interpose/trace/line_reader.h"
#include "tests/tools/scratch.h"

namespace {

using namespace flexlom;
using trace::LineReader;
using trace::Summary;

Summary summarize(const std::vector<std::string>& lines) {
  Summary summary;
  uint64_t number = 0;
  for (const std::string& line : lines) summary.add_line(++number, line, false);
  return summary;
}

}  // namespace

TEST_CASE("peaks are per device and know their time and their host part") {
  Summary log = summarize({
      R"({"kind":"alloc","seq":1,"t":100,"device":0,"address":"0x1000","asked_bytes":90,"given_bytes":100})",
      R"({"kind":"alloc","seq":2,"t":200,"device":0,"address":"0x2000","asked_bytes":50,"given_bytes":50,"extra_bytes":30})",
      R"({"kind":"alloc","seq":3,"t":250,"device":1,"address":"0x9000","asked_bytes":7,"given_bytes":7})",
      R"({"kind":"free","t":300,"device":0,"address":"0x1000"})",
      R"({"kind":"alloc","seq":4,"t":400,"device":0,"address":"0x1000","asked_bytes":60,"given_bytes":60})",
  });
  CHECK(log.devices.at(0).in_use.most_bytes == 150);
  CHECK(log.since_start(log.devices.at(0).in_use.most_at_ns) == 100);
  CHECK(log.devices.at(0).host_at_peak_bytes == 30);
  CHECK(log.devices.at(0).in_use.now_bytes == 110);
  CHECK(log.devices.at(1).in_use.most_bytes == 7);
  CHECK(log.live.size() == 3);
  const trace::SiteId spilled = log.live.at(0x2000).site;
  CHECK(log.sites[spilled].asked_bytes == 50);
  CHECK(log.sites[spilled].spilled_count == 1);
}

TEST_CASE("a log begins with the first record that has a time") {
  Summary log = summarize({
      R"({"kind":"module","base":"0x1000","begin":"0x1000","end":"0x2000","path":"/bin/x"})",
      R"({"kind":"frame","id":1,"ip":"0x1100"})",
      R"({"kind":"alloc","seq":1,"t":86400000000000,"device":0,"address":"0x10","asked_bytes":8})",
      R"({"kind":"free","t":86400000000500,"device":0,"address":"0x10"})",
  });
  CHECK(log.first_ns == 86400000000000);
  CHECK(log.since_start(log.devices.at(0).in_use.most_at_ns) == 0);
  CHECK(log.since_start(log.last_ns) == 500);
  // A time of zero is one, too.
  log = summarize({R"({"kind":"warning","t":0})", R"({"kind":"warning","t":7})"});
  CHECK(log.since_start(log.last_ns) == 7);
}

TEST_CASE("a spill before or after its alloc counts once") {
  for (bool before : {true, false}) {
    std::string spill =
        R"({"kind":"spill","seq":1,"t":5,"device":0,"address":"0x10","extra_bytes":64})";
    std::string alloc =
        R"({"kind":"alloc","seq":1,"t":5,"device":0,"address":"0x10","asked_bytes":128})";
    Summary log = before ? summarize({spill, alloc}) : summarize({alloc, spill});
    CHECK(log.spilled_bytes == 64);
    CHECK(log.devices.at(0).spilled.most_bytes == 64);
    CHECK(log.devices.at(0).host_at_peak_bytes == 64);
    CHECK(log.live.at(0x10).host_bytes == 64);
  }
}

TEST_CASE("frames held on device and host") {
  Summary log = summarize({
      R"({"kind":"map","t":1,"device":0,"address":"0x1","given_bytes":100,"note":"device"})",
      R"({"kind":"map","t":2,"device":0,"address":"0x2","given_bytes":40,"note":"host"})",
      R"({"kind":"unmap","t":3,"device":0,"address":"0x1","given_bytes":100,"note":"device"})",
      R"({"kind":"map","t":4,"device":0,"address":"0x1","given_bytes":60,"note":"device"})",
      R"({"kind":"unmap","t":5,"device":0,"address":"0x7","given_bytes":1000,"note":"host"})",
  });
  CHECK(log.devices.at(0).held.most_bytes == 100);
  CHECK(log.devices.at(0).held.now_bytes == 60);
  CHECK(log.host_held.most_bytes == 40);
  CHECK(log.host_held.now_bytes == 0);
}

TEST_CASE("a page that moves takes its bytes with it, without map and unmap") {
  const std::vector<std::string> before = {
      R"({"kind":"alloc","seq":1,"t":1,"device":0,"address":"0x1000","asked_bytes":150,"given_bytes":160})",
      R"({"kind":"map","t":2,"device":0,"address":"0x1000","given_bytes":100,"note":"device"})",
      R"({"kind":"map","t":3,"device":0,"address":"0x1064","given_bytes":60,"note":"device"})",
      R"({"kind":"demote","t":10,"device":0,"address":"0x1064","given_bytes":60,"note":"copied"})",
      R"({"kind":"demote","t":11,"device":0,"address":"0x1000","given_bytes":100,"note":"clean"})",
      R"({"kind":"promote","t":20,"device":0,"address":"0x1064","given_bytes":60,"note":"copied"})",
  };
  Summary log = summarize(before);
  const trace::DeviceUse& device = log.devices.at(0);
  CHECK(device.held.most_bytes == 160);
  CHECK(device.held.now_bytes == 60);
  CHECK(log.host_held.most_bytes == 160);
  CHECK(log.since_start(log.host_held.most_at_ns) == 10);
  CHECK(log.host_held.now_bytes == 100);
  CHECK(device.spilled.most_bytes == 160);
  CHECK(device.spilled.now_bytes == 100);
  CHECK(log.live.at(0x1000).host_bytes == 100);
  CHECK(device.in_use.most_bytes == 160);
  CHECK(device.moves.demoted_pages == 2);
  CHECK(device.moves.demoted_bytes == 160);
  CHECK(device.moves.clean_pages == 1);
  CHECK(device.moves.clean_bytes == 100);
  CHECK(device.moves.promoted_bytes == 60);
  CHECK(device.moves.first_ns == 10);
  CHECK(device.moves.last_ns == 20);
  CHECK((log.maps == 2 && log.unmaps == 0 && log.spills == 0));

  // What is unmapped leaves from where it was moved to, whatever its record says.
  std::vector<std::string> all = before;
  all.push_back(R"({"kind":"free","t":30,"device":0,"address":"0x1000"})");
  all.push_back(
      R"({"kind":"unmap","t":31,"device":0,"address":"0x1000","given_bytes":100,"note":"device"})");
  all.push_back(
      R"({"kind":"unmap","t":32,"device":0,"address":"0x1064","given_bytes":60,"note":"device"})");
  log = summarize(all);
  CHECK(log.devices.at(0).held.now_bytes == 0);
  CHECK(log.devices.at(0).spilled.now_bytes == 0);
  CHECK(log.host_held.now_bytes == 0);
}

TEST_CASE("a move does no harm where its page is not known") {
  Summary log = summarize({
      R"({"kind":"map","t":1,"device":0,"address":"0x1000","given_bytes":100,"note":"device"})",
      R"({"kind":"demote","t":2,"device":0,"address":"0x9000","given_bytes":70,"note":"copied"})",
      R"({"kind":"promote","t":3,"device":0,"address":"0x1000","given_bytes":100})",
      R"({"kind":"unmap","t":4,"device":0,"address":"0x1000","given_bytes":100,"note":"host"})",
      R"({"kind":"demote","t":5,"device":0,"address":"0x1000","given_bytes":100,"note":"copied"})",
      R"({"kind":"demote","t":6,"device":0,"given_bytes":100})",
      R"({"kind":"demote","t":6,"device":0,"address":"0x1000","given_bytes":18446744073709551615})",
  });
  CHECK(log.host_held.most_bytes == 0);
  CHECK(log.devices.at(0).held.most_bytes == 100);
  CHECK(log.devices.at(0).held.now_bytes == 0);
  CHECK(log.devices.at(0).moves.demoted_bytes == 170);
  CHECK(log.devices.at(0).moves.promoted_pages == 1);
  CHECK(log.bad_line_count == 2);
}

TEST_CASE("a page of cached memory, and one beside an allocation, change no allocation") {
  Summary log = summarize({
      R"({"kind":"alloc","t":1,"device":0,"address":"0x2000","asked_bytes":16,"given_bytes":16})",
      R"({"kind":"map","t":2,"device":0,"address":"0x1000","given_bytes":100,"note":"device"})",
      R"({"kind":"map","t":2,"device":0,"address":"0x2010","given_bytes":100,"note":"device"})",
      R"({"kind":"demote","t":3,"device":0,"address":"0x1000","given_bytes":100})",
      R"({"kind":"demote","t":3,"device":0,"address":"0x2010","given_bytes":100})",
  });
  CHECK(log.host_held.now_bytes == 200);
  CHECK(log.live.at(0x2000).host_bytes == 0);
  CHECK(log.devices.at(0).spilled.most_bytes == 0);
}

TEST_CASE("a page is mapped twice when its unmap was dropped, and held once") {
  Summary log = summarize({
      R"({"kind":"map","t":1,"device":0,"address":"0x1000","given_bytes":100,"note":"device"})",
      R"({"kind":"map","t":2,"device":0,"address":"0x1000","given_bytes":60,"note":"host"})",
  });
  CHECK(log.devices.at(0).held.now_bytes == 0);
  CHECK(log.host_held.now_bytes == 60);
}

TEST_CASE("moves that were given up are counted by their reason") {
  std::vector<std::string> lines(3, R"({"kind":"gave_up","t":9,"device":1,"note":"capture"})");
  lines.push_back(R"({"kind":"gave_up","t":12,"device":1})");
  for (int i = 0; i < 1000; i++)
    lines.push_back(R"({"kind":"gave_up","t":15,"device":1,"note":"r)" + std::to_string(i) +
                    std::string(500, '!') + R"("})");
  Summary log = summarize(lines);
  const trace::Moves& moves = log.devices.at(1).moves;
  CHECK(moves.given_up_count == 1004);
  CHECK(moves.given_up.at("capture") == 3);
  CHECK(moves.given_up.at("") == 1);
  CHECK(moves.given_up.size() <= 33);
  CHECK(moves.given_up.at("other") == 970);
  for (const auto& [why, count] : moves.given_up) CHECK(why.size() <= 64);
  CHECK(moves.any());
}

TEST_CASE("the program's own totals: the last of them, and the highest of the host's frames") {
  Summary log = summarize({
      R"({"kind":"stats","t":1,"device":0,"host_peak_held_bytes":500})",
      R"({"kind":"moves","t":1,"batches":1,"shut_ns":10})",
      R"({"kind":"stats","t":2,"device":1,"host_peak_held_bytes":400})",
      R"({"kind":"moves","t":2,"batches":2,"shut_ns":30,"in_place":4,"more":"later"})",
  });
  CHECK(log.host_frames_peak_bytes == 500);
  REQUIRE(log.move_totals.has_value());
  CHECK(log.move_totals->batches == 2);
  CHECK(log.move_totals->shut_ns == 30);
  CHECK(log.move_totals->in_place == 4);
  CHECK(log.move_totals->promoted_bytes == 0);
  CHECK(log.unknown_kinds == 0);
}

TEST_CASE("a failure knows its request even when its record does not") {
  Summary log = summarize({
      R"({"kind":"request","seq":5,"t":1,"device":0,"asked_bytes":999,"call":"cuMemAlloc_v2"})",
      R"({"kind":"out_of_memory","seq":5,"t":2,"device":0,"code":2})",
      R"({"kind":"request","seq":6,"t":3,"device":0,"asked_bytes":1,"call":"cuMemAlloc_v2"})",
  });
  REQUIRE(log.failures.size() == 1);
  CHECK(log.failures[0].asked_bytes == 999);
  CHECK(log.failures[0].call == "cuMemAlloc_v2");
  CHECK(log.open_requests.size() == 1);
}

TEST_CASE("what a record released is known until the next one") {
  Summary log;
  log.add_line(1, R"({"kind":"alloc","device":1,"address":"0x10","asked_bytes":7})", false);
  CHECK(!log.released.has_value());
  log.add_line(2, R"({"kind":"alloc","device":0,"address":"0x10","asked_bytes":9})", false);
  REQUIRE(log.released.has_value());  // its free was dropped
  CHECK(log.released->device == 1);
  CHECK(log.released->given_bytes == 7);
  log.add_line(3, R"({"kind":"free","address":"0x99"})", false);
  CHECK(!log.released.has_value());
  log.add_line(4, R"({"kind":"free","address":"0x10"})", false);
  REQUIRE(log.released.has_value());
  CHECK(log.released->given_bytes == 9);
}

TEST_CASE("bad lines, cut lines and unknown kinds are counted and do no harm") {
  Summary log;
  log.add_line(1, "garbage", false);
  log.add_line(2, R"({"no":"kind"})", false);
  log.add_line(3, R"({"kind":"from the future"})", false);
  log.add_line(4, R"({"kind":"free","address":"0x5"})", false);
  log.add_line(5, R"({"kind":"alloc","addr)", true);
  CHECK(log.bad_line_count == 2);
  CHECK(log.bad_lines[0].number == 1);
  CHECK(log.unknown_kinds == 1);
  CHECK(log.unmatched_frees == 1);
  CHECK(log.cut_short);
}

TEST_CASE("sums do not wrap below zero, and hostile device numbers stay few") {
  Summary log;
  log.add_line(1, R"({"kind":"alloc","device":0,"address":"0x1","asked_bytes":1,"extra_bytes":5})",
               false);
  log.add_line(2, R"({"kind":"free","address":"0x1"})", false);
  log.add_line(3, R"({"kind":"free","address":"0x1"})", false);
  CHECK(log.devices.at(0).in_use.now_bytes == 0);
  for (uint64_t i = 0; i < 5000; i++)
    log.add_line(4, R"({"kind":"map","device":)" + std::to_string(i) + R"(,"given_bytes":1})",
                 false);
  CHECK(log.devices.size() <= 1024);
  log.add_line(5, R"({"kind":"alloc","device":0,"address":"zz","asked_bytes":1})", false);
  log.add_line(6, R"({"kind":"alloc","device":0,"address":"0x1","asked_bytes":"many"})", false);
  log.add_line(7, R"({"kind":"map","device":0,"given_bytes":18446744073709551615})", false);
  CHECK(log.bad_line_count == 3);
  CHECK(log.live.empty());
}

TEST_CASE("the reader splits lines and bounds them") {
  Scratch scratch;
  std::string error;
  LineReader reader;
  REQUIRE(
      reader.open(scratch.write("f", "one\n\n" + std::string(3 << 20, 'x') + "\nlast"), &error));
  CHECK(reader.next() == LineReader::Line::whole);
  CHECK(reader.text() == "one");
  CHECK(reader.next() == LineReader::Line::whole);
  CHECK(reader.text().empty());
  CHECK(reader.next() == LineReader::Line::too_long);
  CHECK(reader.text().size() == LineReader::most_bytes);
  CHECK(reader.next() == LineReader::Line::unended);
  CHECK(reader.text() == "last");
  CHECK(reader.number() == 4);
  CHECK(reader.next() == LineReader::Line::end);
  CHECK(reader.read_error().empty());
}

TEST_CASE("what is no log is refused with a reason") {
  Scratch scratch;
  std::string error;
  Summary a, b, c, d, e;
  CHECK_FALSE(trace::read_log(scratch / "absent", a, &error));
  CHECK(error.find("No such file") != std::string::npos);
  CHECK_FALSE(trace::read_log(scratch.write("empty", ""), b, &error));
  CHECK(error.find("empty") != std::string::npos);
  std::string noise;
  for (int i = 0; i < 5000; i++) noise += "all work and no play\n";
  CHECK_FALSE(trace::read_log(scratch.write("noise", noise), c, &error));
  CHECK(error.find("not a flexlom trace log") != std::string::npos);
  CHECK_FALSE(trace::read_log(scratch / "", d, &error));
  CHECK(error.find("Is a directory") != std::string::npos);
  CHECK_FALSE(trace::read_log(scratch.write("new", R"({"kind":"header","format":2,"version":"9.9"})"
                                                   "\n"),
                              e, &error));
  CHECK(error.find("format 2") != std::string::npos);
  CHECK(error.find("9.9") != std::string::npos);
}

TEST_CASE("an alloc is completed by its request, and a free by its alloc") {
  trace::Summary log;
  log.add_line(
      1,
      R"({"kind":"request","seq":7,"t":1,"tid":42,"device":1,"stream":"0xa","asked_bytes":100,"call":"cuMemAllocAsync"})",
      false);
  log.add_line(2,
               R"({"kind":"alloc","seq":7,"t":2,"device":1,"address":"0x1000","asked_bytes":100})",
               false);
  CHECK(log.record().call == "cuMemAllocAsync");
  CHECK(log.record().tid == 42);
  CHECK(log.record().stream == 0xa);
  CHECK(log.record().given_bytes == 100u);
  REQUIRE(log.live.size() == 1);
  CHECK(log.sites.call_of(log.live.begin()->second.site) == "cuMemAllocAsync");
  log.add_line(3, R"({"kind":"free","t":3,"device":1,"address":"0x1000","call":"cuMemFreeAsync"})",
               false);
  CHECK(log.record().asked_bytes == 100u);
  CHECK(log.record().given_bytes == 100u);
  CHECK(log.live.empty());
  // Without its request, which may have been dropped, the call is not known; the memory is.
  log.add_line(4,
               R"({"kind":"alloc","seq":8,"t":2,"device":1,"address":"0x1000","asked_bytes":100})",
               false);
  CHECK(log.live.size() == 1);
  CHECK(log.bad_line_count == 0);
}

TEST_CASE("callers are kept with the allocations they made") {
  trace::Summary log;
  log.add_line(
      1,
      R"({"kind":"module","base":"0x1000","begin":"0x1000","end":"0x9000","path":"/lib/libx.so"})",
      false);
  log.add_line(2, R"({"kind":"frame","id":1,"ip":"0x1100"})", false);
  log.add_line(3, R"({"kind":"frame","id":2,"parent":1,"ip":"0x1200"})", false);
  log.add_line(
      4, R"({"kind":"alloc","t":2,"device":0,"address":"0x1","asked_bytes":100,"frame":2})", false);
  log.add_line(
      5, R"({"kind":"alloc","t":2,"device":0,"address":"0x2","asked_bytes":100,"frame":1})", false);
  CHECK(log.bad_line_count == 0);
  REQUIRE(log.sites.size() == 2);
  const auto stack = log.frames.stack(log.sites[log.live.at(1).site].frame);
  REQUIRE(stack.size() == 2);
  CHECK(stack[0].function == "libx.so+0x200");
  CHECK(stack[1].function == "libx.so+0x100");
  // Something else is loaded where the library was: old frames stay what they were.
  log.add_line(
      6, R"({"kind":"module","base":"0x0","begin":"0x800","end":"0x1180","path":"/lib/liby.so"})",
      false);
  log.add_line(7, R"({"kind":"frame","id":3,"ip":"0x1100"})", false);
  log.add_line(8, R"({"kind":"frame","id":4,"ip":"0x1200"})", false);
  CHECK(trace::raw_name(log.frames, log.frames.find(1)) == "libx.so+0x100");
  CHECK(trace::raw_name(log.frames, log.frames.find(3)) == "liby.so+0x1100");
  CHECK(trace::raw_name(log.frames, log.frames.find(4)) == "0x1200");
}

TEST_CASE("what guard mode found comes with its lines and their stacks") {
  const Summary log = summarize({
      R"({"kind":"guard","t":5,"text":"its first line was dropped","frame":1})",
      R"({"kind":"frame","id":1,"ip":"0x1100"})",
      R"({"kind":"guard","t":10,"bug":"refused_free","text":"freed twice"})",
      R"({"kind":"guard","t":11,"frame":1,"text":"  allocated by"})",
      R"({"kind":"guard","t":20,"bug":"kernel_fault"})",
      R"({"kind":"guard","t":21,"bug":7,"text":[],"frame":"x"})",
  });
  CHECK(log.bad_line_count == 0);
  CHECK(log.finding_count == 2);
  REQUIRE(log.findings.size() == 3);
  CHECK(log.findings[0].bug.empty());
  CHECK(log.findings[0].lines.at(0).frame == 0);  // not there yet
  CHECK(log.findings[1].bug == "refused_free");
  CHECK(log.findings[1].at_ns == 10);
  REQUIRE(log.findings[1].lines.size() == 2);
  CHECK(log.findings[1].lines[1].text == "  allocated by");
  CHECK(log.findings[1].lines[1].frame == 1);
  CHECK(log.findings[2].lines.size() == 2);
  // Lists are bounded, counts are not.
  Summary many;
  for (uint64_t i = 1; i <= 3 * Summary::most_listed; ++i)
    many.add_line(i, R"({"kind":"guard","t":1,"bug":"b","text":"x"})", false);
  CHECK(many.findings.size() == Summary::most_listed);
  CHECK(many.finding_count == 3 * Summary::most_listed);
}

TEST_CASE("the budget is the one that statistics say, where there are any") {
  const char* const header =
      R"({"kind":"header","format":1,"t":1,"devices":[{"ordinal":0,"total_bytes":900},)"
      R"({"ordinal":1,"total_bytes":900,"budget_bytes":500}]})";
  const Summary log = summarize({
      header,
      R"({"kind":"stats","t":2,"device":0,"budget_bytes":700})",
      R"({"kind":"stats","t":3,"device":1})",
      R"({"kind":"stats","t":4,"budget_bytes":1})",
      R"({"kind":"stats","t":5,"device":7,"budget_bytes":2})",
  });
  CHECK(log.devices.at(0).budget_bytes == 700);
  CHECK(log.devices.at(1).budget_bytes == 500);
  CHECK(log.devices.count(7) == 0);
  CHECK(summarize({header}).devices.at(0).budget_bytes == 0);
}
