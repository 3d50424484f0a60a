#include "interpose/options.h"

#include <catch2/catch.hpp>
#include <map>
#include <set>

namespace {

using namespace flexlom;

std::map<std::string, std::string> environment;

const char* fake_getenv(const char* name) {
  auto found = environment.find(name);
  return found == environment.end() ? nullptr : found->second.c_str();
}

constexpr double kib = 1024, gib = kib * kib * kib;

struct Parsed {
  Options options;
  std::vector<OptionError> errors;
};

Parsed parse_one(const std::string& variable, const std::string& text) {
  environment = {{"FLEXLOM_" + variable, text}};
  Parsed parsed;
  parsed.options = parse_options(fake_getenv, &parsed.errors);
  return parsed;
}

}  // namespace

TEST_CASE("an empty environment gives the defaults") {
  environment.clear();
  std::vector<OptionError> errors;
  Options options = parse_options(fake_getenv, &errors);
  CHECK(errors.empty());
  CHECK(options.device_limit.all.kind == Limit::Kind::unset);
  CHECK(options.host_limit.kind == Limit::Kind::unset);
  CHECK(options.trace.empty());
  CHECK_FALSE((options.stats || options.strict || options.coverage || options.disable ||
               options.quiet || options.verbose));
  CHECK(options.live);
  CHECK(options.soft_oom == SoftOom::automatic);
  CHECK(options.idle_trim_ms == 5000);
}

TEST_CASE("an empty variable counts as not set") {
  for (size_t i = 0; i < option_count; i++) {
    Parsed parsed = parse_one(std::string(option_table[i].variable).substr(8), "");
    CHECK(parsed.errors.empty());
  }
}

TEST_CASE("sizes are understood with and without units") {
  auto [text, bytes] = GENERATE(table<const char*, double>({
      {"24G", 24 * gib},
      {"24g", 24 * gib},
      {"24GB", 24 * gib},
      {"24GiB", 24 * gib},
      {"1.5G", 1.5 * gib},
      {".5G", 0.5 * gib},
      {"1.5 GiB", 1.5 * gib},
      {" 2M ", 2 * kib * kib},
      {"3T", 3 * kib * gib},
      {"1048576", kib * kib},
      {"12345678B", 12345678},
      {"0", 0},
      {"0G", 0},
      {"2.G", 2 * gib},
      {"64k", 64 * kib},
  }));
  CAPTURE(text);
  Parsed parsed = parse_one("HOST_LIMIT", text);
  REQUIRE(parsed.errors.empty());
  CHECK(parsed.options.host_limit.kind == Limit::Kind::bytes);
  CHECK(parsed.options.host_limit.value == bytes);
  CHECK(parsed.options.host_limit.of(1) == static_cast<uint64_t>(bytes));
}

TEST_CASE("percentages are shares of the whole and never more than it") {
  Parsed parsed = parse_one("HOST_LIMIT", "12.5%");
  REQUIRE(parsed.errors.empty());
  CHECK(parsed.options.host_limit.kind == Limit::Kind::percent);
  CHECK(parsed.options.host_limit.of(8000) == 1000);
  CHECK(parse_one("HOST_LIMIT", "100%").options.host_limit.of(UINT64_MAX) == UINT64_MAX);
  CHECK(parse_one("HOST_LIMIT", "0%").options.host_limit.of(UINT64_MAX) == 0);
}

TEST_CASE("an unset limit is the whole") { CHECK(Limit{}.of(77) == 77); }

TEST_CASE("what is no size is named, with the accepted form and the default") {
  const char* text = GENERATE("junk", "24X", "G", "-1G", "1e9", "24G5", "inf", "nan", "101%", "%",
                              "1,5G", "24", "99999999999999999999T", "0x10", "24 G G", "..5G", " ");
  CAPTURE(text);
  Parsed parsed = parse_one("HOST_LIMIT", text);
  REQUIRE(parsed.errors.size() == 1);
  CHECK(parsed.errors[0].variable == "FLEXLOM_HOST_LIMIT");
  CHECK(parsed.errors[0].text == text);
  CHECK(parsed.errors[0].accepted.find("64G") != std::string::npos);
  CHECK(parsed.errors[0].used == "50% of available memory");
  CHECK(parsed.options.host_limit.kind == Limit::Kind::unset);
}

TEST_CASE("device limits hold for all devices or for single ones") {
  Parsed parsed = parse_one("DEVICE_LIMIT", "0:24G,1:50%");
  REQUIRE(parsed.errors.empty());
  CHECK(parsed.options.device_limit.for_device(0).of(1) == static_cast<uint64_t>(24 * gib));
  CHECK(parsed.options.device_limit.for_device(1).of(1000) == 500);
  CHECK(parsed.options.device_limit.for_device(2).kind == Limit::Kind::unset);

  parsed = parse_one("DEVICE_LIMIT", " 80% , 3 : 2G ");
  REQUIRE(parsed.errors.empty());
  CHECK(parsed.options.device_limit.for_device(0).of(1000) == 800);
  CHECK(parsed.options.device_limit.for_device(3).of(1) == static_cast<uint64_t>(2 * gib));
}

TEST_CASE("wrong device limits are refused whole") {
  const char* text = GENERATE("0:24G,", ",", "0:24G,0:12G", "24G,12G", ":24G", "x:24G",
                              "0:", "-1:1G", "0:1:2G", "99999:1G", "0:24G;1:2G", "0 1:2G");
  CAPTURE(text);
  Parsed parsed = parse_one("DEVICE_LIMIT", text);
  REQUIRE(parsed.errors.size() == 1);
  CHECK(parsed.options.device_limit.each.empty());
  CHECK(parsed.options.device_limit.all.kind == Limit::Kind::unset);
}

TEST_CASE("switches know eight words in any case") {
  for (const char* text : {"1", "on", "ON", "yes", "true", "True", " on "}) {
    CHECK(parse_one("STATS", text).options.stats);
    CHECK(parse_one("STATS", text).errors.empty());
  }
  for (const char* text : {"0", "off", "no", "FALSE"}) {
    CHECK_FALSE(parse_one("QUIET", text).options.quiet);
    CHECK(parse_one("QUIET", text).errors.empty());
  }
  for (const char* text : {"2", "y", "enable", "-", "onn"})
    CHECK(parse_one("VERBOSE", text).errors.size() == 1);
}

TEST_CASE("the choice of soft failures") {
  CHECK(parse_one("SOFT_OOM", "auto").options.soft_oom == SoftOom::automatic);
  CHECK(parse_one("SOFT_OOM", "on").options.soft_oom == SoftOom::on);
  CHECK(parse_one("SOFT_OOM", "off").options.soft_oom == SoftOom::off);
  CHECK(parse_one("SOFT_OOM", "maybe").errors.size() == 1);
}

TEST_CASE("milliseconds") {
  CHECK(parse_one("IDLE_TRIM_MS", "0").options.idle_trim_ms == 0);
  CHECK(parse_one("IDLE_TRIM_MS", "-1").options.idle_trim_ms == -1);
  CHECK(parse_one("IDLE_TRIM_MS", "250").options.idle_trim_ms == 250);
  for (const char* text : {"-2", "1.5", "5s", "9999999999999"}) {
    CHECK(parse_one("IDLE_TRIM_MS", text).errors.size() == 1);
    CHECK(parse_one("IDLE_TRIM_MS", text).options.idle_trim_ms == 5000);
  }
}

TEST_CASE("seconds") {
  CHECK(parse_one("IDLE_TRIM_MS", "0").options.stats_every.seconds == 0);
  for (const char* text : {"5", "5s", "5 S", " 05 "}) {
    CAPTURE(text);
    CHECK(parse_one("STATS_EVERY", text).errors.empty());
    CHECK(parse_one("STATS_EVERY", text).options.stats_every.seconds == 5);
  }
  CHECK(parse_one("STATS_EVERY", "0").options.stats_every.seconds == 0);
  CHECK(parse_one("STATS_EVERY", "999999").options.stats_every.seconds == 999'999);
  for (const char* text : {"-1", "1.5", "5ms", "s", " ", "on", "1e3", "5ss", "1000000"}) {
    CAPTURE(text);
    CHECK(parse_one("STATS_EVERY", text).errors.size() == 1);
    CHECK(parse_one("STATS_EVERY", text).options.stats_every.seconds == 0);
  }
}

TEST_CASE("every wrong variable is reported, and the right ones still count") {
  environment = {{"FLEXLOM_STATS", "yes"}, {"FLEXLOM_QUIET", "?"}, {"FLEXLOM_HOST_LIMIT", "lots"}};
  std::vector<OptionError> errors;
  Options options = parse_options(fake_getenv, &errors);
  CHECK(options.stats);
  CHECK(errors.size() == 2);
  CHECK(parse_options(fake_getenv, nullptr).stats);
}

TEST_CASE("the table is complete and without doubles") {
  std::set<std::string> variables, options;
  for (size_t i = 0; i < option_count; i++) {
    const OptionRow& row = option_table[i];
    CHECK(std::string(row.variable).rfind("FLEXLOM_", 0) == 0);
    CHECK(variables.insert(row.variable).second);
    CHECK(options.insert(row.option).second);
    for (const char* text : {row.default_value, row.accepted, row.help}) CHECK(*text != '\0');
    CHECK(*name_of(row.kind) != '\0');
    // The launcher's option is the variable in lower case with dashes.
    std::string expected;
    for (const char* c = row.variable + 8; *c != '\0'; c++)
      expected += *c == '_' ? '-' : static_cast<char>(std::tolower(*c));
    CHECK(expected == row.option);
  }
  CHECK(option_count == 23);
}

TEST_CASE("ways of finding callers are understood") {
  auto [text, mode] = GENERATE(table<const char*, StackMode>({
      {"auto", StackMode::automatic},
      {"fp", StackMode::fp},
      {"FP", StackMode::fp},
      {" dwarf ", StackMode::dwarf},
      {"off", StackMode::off},
      {"0", StackMode::off},
      {"no", StackMode::off},
  }));
  Parsed parsed = parse_one("STACKS", text);
  CHECK(parsed.errors.empty());
  CHECK(parsed.options.stacks == mode);
  for (const char* wrong : {"on", "1", "lbr", "fp,dwarf"}) {
    parsed = parse_one("STACKS", wrong);
    CHECK(parsed.errors.size() == 1);
    CHECK(parsed.options.stacks == StackMode::automatic);
  }
}

TEST_CASE("a row can judge a value") {
  for (size_t i = 0; i < option_count; i++) {
    const OptionRow& row = option_table[i];
    if (row.kind == OptionKind::limit) {
      CHECK(row.accepts("24G"));
      CHECK_FALSE(row.accepts("24Q"));
    }
    if (row.kind == OptionKind::count) {
      CHECK(row.accepts(" 12 "));
      for (const char* wrong : {"256", "-1", "1.5", "12x", "99999"})
        CHECK_FALSE(row.accepts(wrong));
    }
    if (row.kind == OptionKind::flag) {
      CHECK(row.accepts("off"));
      CHECK_FALSE(row.accepts("offf"));
    }
  }
}

TEST_CASE("what guarded memory is filled with") {
  struct Row {
    const char* text;
    bool fill;
    uint32_t pattern;
  };
  const Row row = GENERATE(Row{"nan", true, 0x7fff7fff}, Row{" NaN ", true, 0x7fff7fff},
                           Row{"off", false, 0x7fff7fff}, Row{"0xdeadBEEF", true, 0xdeadbeef},
                           Row{"0X0", true, 0});
  const Parsed parsed = parse_one("GUARD_FILL", row.text);
  CHECK(parsed.errors.empty());
  CHECK(parsed.options.guard_fill.fill == row.fill);
  CHECK(parsed.options.guard_fill.pattern == row.pattern);
  const char* bad = GENERATE("0x", "deadbeef", "0x123456789", "0xg", "on", "0x 1");
  CHECK(parse_one("GUARD_FILL", bad).errors.size() == 1);
}
