// flexlom export: a trace log in the formats of other tools.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <limits>

#include "interpose/tool/arguments.h"
#include "interpose/tool/commands.h"
#include "interpose/tool/export.h"
#include "interpose/tool/output.h"
#include "interpose/tool/progress.h"

namespace flexlom::tool {
namespace {

constexpr const char* usage =
    R"(usage: flexlom export --to FORMAT [-o FILE] [OPTIONS] LOG

Turns a trace log ("-" is standard input) into what another tool opens. The formats:
  folded      folded stacks, for flamegraph.pl, speedscope and ui.perfetto.dev. The frames are
              device, callers (if the log has them), driver call, stream, size class, place
  speedscope  the same for speedscope.app, all costs in one file
  chrome      a timeline for ui.perfetto.dev and chrome://tracing: bytes on device and host,
              allocations, moves, failures. An allocation has the innermost callers; the event of
              its stack_id, on the row "call stacks", has all of them
  torch       a PyTorch memory snapshot, for pytorch.org/memory_viz; pages that move are segments
              mapped and unmapped, and what lies on the host is shown as one more device
  csv         one line for each event, with the levels after it; a call stack is written in the
              first line that has it, and the lines with the same stack_id have the same
  -o FILE            write to FILE, not to standard output
  --cost COST        folded: what widths are (default peak_space): )";

constexpr const char* usage_rest = R"(
  --focus RE         folded, speedscope, chrome: only what matches this regular expression, as in
  --ignore RE        flexlom report; without what matches
  --begin S --end S  chrome, csv: only from one second of the run to another
  --min-bytes SIZE   chrome, csv: without smaller allocations
  --counters         chrome: the levels only, no event for each allocation and move
  --full-stacks      csv, chrome: the whole call stack with every event, not once for each stack
  --limit N          torch: the last N events of each device (default 100000; 0: all)
{}The exit status is 1 when the log cannot be read at all, or the output cannot be written. Damaged
lines are left out, and told of on standard error.
)";

struct Format {
  const char* name;
  std::unique_ptr<Exporter> (*make)(OutputFile& out, const ExportOptions& options);
  std::string_view options;                                    // that mean something to it
  uint64_t most_bytes = std::numeric_limits<uint64_t>::max();  // that viewers take
  const char* smaller_with = "";
};

// chrome://tracing holds a file as one text, and both viewers need many times its size in memory.
constexpr uint64_t most_chrome_bytes = uint64_t{256} << 20;

constexpr std::array formats = {
    Format{"folded", folded_exporter, "--cost --focus --ignore"},
    Format{"speedscope", speedscope_exporter, "--focus --ignore"},
    Format{"chrome", chrome_exporter,
           "--focus --ignore --begin --end --min-bytes --counters --full-stacks", most_chrome_bytes,
           "--counters, --min-bytes, --begin and --end"},
    Format{"torch", torch_exporter, "--limit"},
    Format{"csv", csv_exporter, "--begin --end --min-bytes --full-stacks"},
};

struct Request {
  const Format* format = nullptr;
  std::string output = "-";
  ExportOptions options;
  SymbolOptions symbols;
  std::vector<std::string> used;  // options that only some formats know
};

const Format* find_format(const std::string& name) {
  for (const Format& format : formats) {
    if (name == format.name) return &format;
  }
  return nullptr;
}

// True: the option is one that formats have.
bool format_option(Arguments& arguments, std::string_view option, ExportOptions& options) {
  std::string error;
  if (option == "--cost") {
    if (auto text = arguments.value()) {
      options.cost = *text;
      if (!is_cost(*text))
        arguments.complain_about(
            fmt::format("--cost is one of {}, not '{}'", cost_names(), printable(*text)));
    }
  } else if (option == "--focus") {
    if (auto text = arguments.value(); text && !options.filter.focus(*text, &error))
      arguments.complain_about("--focus: " + error);
  } else if (option == "--ignore") {
    if (auto text = arguments.value(); text && !options.filter.ignore(*text, &error))
      arguments.complain_about("--ignore: " + error);
  } else if (option == "--begin") {
    if (auto ns = arguments.seconds_ns()) options.begin_ns = *ns;
  } else if (option == "--end") {
    if (auto ns = arguments.seconds_ns()) options.end_ns = *ns;
  } else if (option == "--min-bytes") {
    if (auto bytes = arguments.bytes()) options.min_bytes = *bytes;
  } else if (option == "--counters") {
    options.counters_only = true;
  } else if (option == "--full-stacks") {
    options.full_stacks = true;
  } else if (option == "--limit") {
    if (auto number = arguments.number()) options.limit = *number;
  } else {
    return false;
  }
  return true;
}

void check(Arguments& arguments, const Request& request) {
  if (arguments.failed()) return;
  if (request.format == nullptr) return arguments.complain_about("--to FORMAT is missing");
  const std::string known = fmt::format(" {} ", request.format->options);
  for (const std::string& option : request.used) {
    if (known.find(" " + option + " ") == std::string::npos)
      return arguments.complain_about(
          fmt::format("{} means nothing to the format {}", option, request.format->name));
  }
  if (request.options.begin_ns > request.options.end_ns)
    return arguments.complain_about("--begin is after --end: there is nothing in between");
  const std::optional<std::string> log = arguments.one_file();
  if (!log) return;
  if (would_replace(request.output, *log))
    return arguments.complain_about("the export would replace the log; use -o with another FILE");
  if (std::string_view(request.format->name) == "torch" && request.output == "-" &&
      isatty(STDOUT_FILENO) == 1)
    arguments.complain_about("a snapshot is no text for a terminal; use -o FILE");
}

int make(const Request& request, const std::string& file) {
  OutputFile out(request.output);
  const std::unique_ptr<Exporter> exporter = request.format->make(out, request.options);
  if (!export_log(file, request.symbols, *exporter, out)) return 1;
  if (out.written_bytes() == 0) complain(printable(file) + ": there is nothing of this in it");
  if (out.written_bytes() > request.format->most_bytes)
    complain(fmt::format("{} of {} is more than its viewers take (some {}); smaller with {}",
                         human_bytes(out.written_bytes()), request.format->name,
                         human_bytes(request.format->most_bytes), request.format->smaller_with));
  return 0;
}

}  // namespace

bool export_log(const std::string& file, const SymbolOptions& symbol_options, Exporter& exporter,
                OutputFile& out) {
  trace::Summary log;
  Symbols symbols(symbol_options);
  symbols.attach(log);
  trace::ReadHooks hooks;
  hooks.record = [&](const trace::Record& record) { exporter.record(record, log); };
  hooks.stop = [&] { return out.failed(); };
  std::string error;
  if (!read_with_progress(file, log, &error, hooks)) {
    complain(printable(error));
    return false;
  }
  if (!out.failed()) exporter.finish(log);
  if (!out.close()) {
    complain(printable(out.error()));
    return false;
  }
  tell_of_damage(file, log);
  tell_of(symbols);
  return true;
}

std::string format_names() {
  std::string names;
  for (const Format& format : formats)
    names += (names.empty() ? "" : ", ") + std::string(format.name);
  return names;
}

int export_command(Words words) {
  Request request;
  Arguments arguments("export", words);
  while (const auto option = arguments.option()) {
    const std::string_view name = *option;
    if (name == "--help") {
      fmt::print("{}{}", usage, cost_names());
      fmt::print(usage_rest, SymbolOptions::usage);
      return 0;
    }
    if (name == "--to") {
      const auto text = arguments.value();
      if (text && (request.format = find_format(*text)) == nullptr)
        arguments.complain_about(
            fmt::format("--to is one of {}, not '{}'", format_names(), printable(*text)));
    } else if (name == "-o" || name == "--output") {
      if (auto text = arguments.value()) request.output = *text;
    } else if (format_option(arguments, name, request.options)) {
      request.used.emplace_back(name);
    } else if (!request.symbols.take(arguments, name)) {
      arguments.unknown();
    }
  }
  check(arguments, request);
  if (arguments.failed()) return exit_usage;
  request.options.name = arguments.files().front();
  return make(request, arguments.files().front());
}

}  // namespace flexlom::tool
