// flexlom report: what a trace log says, as text or JSON.
#include <fmt/format.h>

#include <charconv>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "interpose/tool/commands.h"
#include "interpose/tool/output.h"
#include "interpose/tool/report_text.h"
#include "interpose/trace/summary.h"

namespace flexlom::tool {
namespace {

constexpr const char* usage = R"(usage: flexlom report [--top N] [--json] FILE...

Reads trace logs written with FLEXLOM_TRACE (or flexlom run --trace); "-" is standard input.
  --top N   lines in each list (default 10)
  --json    one JSON object per log
The exit status is 1 when a log cannot be read at all. Damaged lines are counted and reported.
)";

bool parse_top(std::string_view text, size_t& top) {
  auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), top);
  return problem == std::errc() && end == text.data() + text.size();
}

}  // namespace

int report_command(Words words) {
  bool json = false;
  size_t top = 10;
  std::vector<std::string> files;
  bool options_ended = false;
  for (size_t i = 0; i < words.size(); i++) {
    std::string_view word = words[i];
    if (options_ended || word == "-" || !word.starts_with('-')) {
      files.emplace_back(word);
    } else if (word == "--") {
      options_ended = true;
    } else if (word == "--help") {
      fmt::print("{}", usage);
      return 0;
    } else if (word == "--json") {
      json = true;
    } else if (word.starts_with("--top=") || (word == "--top" && i + 1 < words.size())) {
      std::string_view value = word == "--top" ? words[++i] : word.substr(strlen("--top="));
      if (!parse_top(value, top)) {
        complain(fmt::format("report: --top needs a number, not '{}'", value));
        return exit_usage;
      }
    } else {
      complain(fmt::format("report: unknown option '{}'; see flexlom help report", word));
      return exit_usage;
    }
  }
  if (files.empty()) {
    fmt::print(stderr, "{}", usage);
    return exit_usage;
  }

  int status = 0;
  for (const std::string& file : files) {
    trace::Summary summary;
    std::string error;
    if (!trace::read_log(file, summary, &error)) {
      complain(error);
      status = 1;
      continue;
    }
    fmt::print("{}", json ? report_json(file, summary, top) : report_text(file, summary, top));
  }
  return status;
}

}  // namespace flexlom::tool
