// flexlom doctor: one line for each thing that must be right on this machine.
#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <string_view>

#include "interpose/tool/commands.h"
#include "interpose/tool/doctor.h"
#include "interpose/tool/output.h"

namespace flexlom::tool {
namespace {

constexpr const char* usage = R"(usage: flexlom doctor [--json] [--library FILE] [-- PROGRAM]

Checks the library, the driver and its devices, memory and its limits, the environment, and makes
one allocation in a child process. With a program, also whether it can be preloaded.
The exit status is 1 when a check says FAIL.
)";

const char* word_of(Verdict verdict) {
  return verdict == Verdict::ok ? "ok" : verdict == Verdict::warn ? "warn" : "FAIL";
}

void print_text(const Findings& findings) {
  for (const Check& check : findings.checks()) {
    fmt::print("{:<5} {} \u2014 {}{}{}\n", word_of(check.verdict), check.name, check.fact,
               check.remedy.empty() ? "" : " \u2014 ", check.remedy);
  }
}

void print_json(const Findings& findings) {
  std::string out;
  for (const Check& check : findings.checks()) {
    out += fmt::format(R"({}    {{"status":{},"name":{},"fact":{},"remedy":{}}})",
                       out.empty() ? "" : ",\n", json_string(word_of(check.verdict)),
                       json_string(check.name), json_string(check.fact), json_string(check.remedy));
  }
  fmt::print("{{\n  \"ok\": {},\n  \"checks\": [\n{}\n  ]\n}}\n",
             findings.any_failed() ? "false" : "true", out);
}

}  // namespace

bool Findings::any_failed() const {
  return std::any_of(checks_.begin(), checks_.end(),
                     [](const Check& check) { return check.verdict == Verdict::fail; });
}

int doctor_command(Words words) {
  bool json = false;
  std::string library, program;
  for (size_t i = 0; i < words.size(); i++) {
    std::string_view word = words[i];
    if (word == "--json") {
      json = true;
    } else if (word == "--help") {
      fmt::print("{}", usage);
      return 0;
    } else if (word.starts_with("--library=")) {
      library = word.substr(std::string_view("--library=").size());
    } else if (word == "--library" && i + 1 < words.size()) {
      library = words[++i];
    } else if ((word == "--" && i + 1 < words.size()) || !word.starts_with('-')) {
      program = word == "--" ? words[i + 1] : words[i];
      break;
    } else {
      complain(fmt::format("doctor: unknown argument '{}'; see flexlom help doctor", word));
      return exit_usage;
    }
  }

  Findings findings;
  Setting setting;
  check_library(findings, setting, library);
  check_options(findings, setting);
  check_preloads(findings, setting);
  check_output(findings, setting);
  check_driver(findings, setting);
  check_memory(findings, setting);
  if (!program.empty()) check_target(findings, program);
  check_self_test(findings, setting);
  if (json) {
    print_json(findings);
  } else {
    print_text(findings);
  }
  return findings.any_failed() ? 1 : 0;
}

}  // namespace flexlom::tool
