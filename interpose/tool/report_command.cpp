// flexlom report: what a trace log says, as text or JSON.
#include <fmt/format.h>

#include <string>
#include <vector>

#include "interpose/tool/arguments.h"
#include "interpose/tool/commands.h"
#include "interpose/tool/output.h"
#include "interpose/tool/progress.h"
#include "interpose/tool/report_text.h"
#include "interpose/tool/symbols.h"
#include "interpose/trace/summary.h"

namespace flexlom::tool {
namespace {

constexpr const char* usage =
    R"(usage: flexlom report [--top N] [--json] [--focus RE] [--ignore RE] [--diff BASE] FILE...

Reads trace logs written with FLEXLOM_TRACE (or flexlom run --trace); "-" is standard input.
  --top N      lines in each list (default 10)
  --focus RE   only what matches this extended regular expression in the lists. It is searched for
               in the device, callers, call, stream and size class of an allocation, written as
               gpu0;cuMemAllocAsync;stream 0x7f00;1 MiB to 2 MiB
  --ignore RE  without what matches this
  --diff BASE  what has changed since this other log: by the functions that called where both have
               call stacks, what has grown most first; else by call and size
  --json       one JSON object per log
{}The exit status is 1 when a log cannot be read at all. Damaged lines are counted and reported.
)";

bool read(const std::string& file, trace::Summary& summary) {
  std::string error;
  const bool good = read_with_progress(file, summary, &error);
  if (!good) complain(printable(error));
  return good;
}

}  // namespace

int report_command(Words words) {
  bool json = false;
  size_t top = 10;
  std::string base_file;
  Filter filter;
  SymbolOptions symbol_options;
  Arguments arguments("report", words);
  while (const auto option = arguments.option()) {
    std::string error;
    if (*option == "--help") {
      fmt::print(usage, SymbolOptions::usage);
      return 0;
    } else if (*option == "--json") {
      json = true;
    } else if (*option == "--top") {
      if (auto number = arguments.number()) top = *number;
    } else if (*option == "--diff") {
      if (auto text = arguments.value()) base_file = *text;
    } else if (*option == "--focus") {
      if (auto text = arguments.value(); text && !filter.focus(*text, &error))
        arguments.complain_about("--focus: " + error);
    } else if (*option == "--ignore") {
      if (auto text = arguments.value(); text && !filter.ignore(*text, &error))
        arguments.complain_about("--ignore: " + error);
    } else if (!symbol_options.take(arguments, *option)) {
      arguments.unknown();
    }
  }
  if (arguments.failed()) return exit_usage;
  if (arguments.files().empty()) {
    fmt::print(stderr, usage, SymbolOptions::usage);
    return exit_usage;
  }

  trace::Summary base;
  SymbolOptions base_symbol_options = symbol_options;
  base_symbol_options.perf_map.clear();  // the option is of the other process
  Symbols base_symbols(base_symbol_options);
  base_symbols.attach(base);
  if (!base_file.empty() && !read(base_file, base)) return 1;
  int status = 0;
  for (const std::string& file : arguments.files()) {
    trace::Summary summary;
    Symbols symbols(symbol_options);
    symbols.attach(summary);
    if (!read(file, summary)) {
      status = 1;
    } else if (!base_file.empty()) {
      const NamedLog before{base_file, base}, now{file, summary};
      fmt::print("{}",
                 json ? diff_json(before, now, top, filter) : diff_text(before, now, top, filter));
    } else {
      fmt::print("{}", json ? report_json(file, summary, top, filter)
                            : report_text(file, summary, top, filter));
    }
    tell_of(symbols);
  }
  tell_of(base_symbols);
  return status;
}

}  // namespace flexlom::tool
