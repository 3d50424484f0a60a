// flexlom html: the pictures of a trace log, in one file for a browser.
#include <fmt/format.h>
#include <unistd.h>

#include <string>

#include "interpose/tool/arguments.h"
#include "interpose/tool/commands.h"
#include "interpose/tool/export.h"
#include "interpose/tool/html_page.h"
#include "interpose/tool/output.h"
#include "interpose/tool/symbols.h"

namespace flexlom::tool {
namespace {

constexpr const char* usage =
    R"(usage: flexlom html [-o FILE] [--title TEXT] LOG

Makes one HTML file of a trace log ("-" is standard input): memory over time with the budget, where
every page lay and when, who held the memory at the peak, what was moved, and what was held but not
in use. It opens in any browser, without a network, and has nothing to install. Long logs are
thinned out: it stays below 5 MiB.
  -o FILE       write to FILE (default: the name of the log with .html; "-" is standard output)
  --title TEXT  the heading (default: the command that was run)
{}The exit status is 1 when the log cannot be read at all, or the file cannot be written. Damaged
lines are left out, and told of on standard error and in the file.
)";

std::string default_output(const std::string& log) {
  if (log == "-") return "-";
  const size_t dot = log.rfind('.'), slash = log.rfind('/');
  const bool has_ending = dot != log.npos && (slash == log.npos || dot > slash + 1) && dot != 0;
  return log.substr(0, has_ending ? dot : log.size()) + ".html";
}

int make(const std::string& file, const std::string& output, const HtmlOptions& options,
         const SymbolOptions& symbol_options) {
  OutputFile out(output);
  HtmlPage page(out, options);
  if (!export_log(file, symbol_options, page, out)) return 1;
  if (output != "-")
    fmt::print("wrote {} ({}); open it in a browser\n", printable(output),
               human_bytes(out.written_bytes()));
  return 0;
}

}  // namespace

int html_command(Words words) {
  std::string output;
  HtmlOptions options;
  SymbolOptions symbol_options;
  Arguments arguments("html", words);
  while (const auto option = arguments.option()) {
    if (*option == "--help") {
      fmt::print(usage, SymbolOptions::usage);
      return 0;
    } else if (*option == "-o" || *option == "--output") {
      if (auto text = arguments.value()) output = *text;
    } else if (*option == "--title") {
      if (auto text = arguments.value()) options.title = *text;
    } else if (!symbol_options.take(arguments, *option)) {
      arguments.unknown();
    }
  }
  const std::optional<std::string> named = arguments.one_file();
  if (!named) return exit_usage;
  const std::string& file = *named;
  if (output.empty()) output = default_output(file);
  if (would_replace(output, file)) {
    complain("html: the page would replace the log; use -o with another FILE");
    return exit_usage;
  }
  if (output == "-" && isatty(STDOUT_FILENO) == 1) {
    complain("html: a page is no text for a terminal; use -o FILE");
    return exit_usage;
  }
  options.name = file;
  return make(file, output, options, symbol_options);
}

}  // namespace flexlom::tool
