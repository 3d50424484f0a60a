// flexlom leaks: the allocations of a log that were never freed, for people and for CI.
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <tuple>

#include "interpose/tool/arguments.h"
#include "interpose/tool/commands.h"
#include "interpose/tool/output.h"
#include "interpose/tool/progress.h"
#include "interpose/tool/report_text.h"
#include "interpose/tool/suppressions.h"
#include "interpose/tool/symbols.h"

namespace flexlom::tool {
namespace {

using trace::Site;
using trace::SiteId;
using trace::Summary;

constexpr const char* usage =
    R"(usage: flexlom leaks [--suppressions FILE] [--error-exitcode N] [--top N] LOG

Lists the allocations of a trace log ("-" is standard input) that were never freed, those that a
context took along when it was destroyed among them, by who made them. flexlom run --leak-check does
it when the program ends, without a log.
  --suppressions FILE  leaks that are accepted, one "leak:PATTERN" on a line as in LeakSanitizer's
                       files: part of the name, source file or module of one of the callers
  --error-exitcode N   the exit status when there are others (default 1)
  --top N              list the biggest N (default 20)
{}The exit status is 0 when there are none, and 2 when the log or the suppressions cannot be read.
Standard error says when a log is not whole: then some of what it lists may have been freed.
)";

struct Leak {
  std::string call;
  trace::FrameId frame = 0;
  int device = 0;
  uint64_t count = 0, bytes = 0, with_context = 0;
  uint64_t smallest = 0, largest = 0;
};

std::vector<Leak> leaks_of(const Summary& log) {
  std::map<std::tuple<int, uint32_t, trace::FrameId>, Leak> leaks;
  for (SiteId id = 0; id < log.sites.size(); id++) {
    const Site& site = log.sites[id];
    if (site.live_count + site.context_end_count == 0) continue;
    Leak& leak = leaks[{site.device, site.call, site.frame}];
    if (leak.count == 0) leak.smallest = site.asked_bytes;
    leak.call = log.sites.call_name(site.call);
    leak.frame = site.frame;
    leak.device = site.device;
    leak.count += site.live_count + site.context_end_count;
    leak.bytes += site.live_bytes + site.context_end_bytes;
    leak.with_context += site.context_end_count;
    leak.smallest = std::min(leak.smallest, site.asked_bytes);
    leak.largest = std::max(leak.largest, site.asked_bytes);
  }
  std::vector<Leak> list;
  for (auto& [key, leak] : leaks) list.push_back(std::move(leak));
  std::stable_sort(list.begin(), list.end(),
                   [](const Leak& a, const Leak& b) { return a.bytes > b.bytes; });
  return list;
}

std::string sizes_of(const Leak& leak) {
  if (leak.smallest == leak.largest) return human_bytes(leak.smallest);
  return fmt::format("{} to {}", human_bytes(leak.smallest), human_bytes(leak.largest));
}

std::string text_of(const std::string& who, const Summary& log, const std::vector<Leak>& leaks,
                    const Suppressions& suppressions, size_t top) {
  uint64_t count = 0, bytes = 0;
  for (const Leak& leak : leaks) {
    count += leak.count;
    bytes += leak.bytes;
  }
  std::string out;
  if (leaks.empty()) {
    out += fmt::format("{}: no leaks that are not suppressed\n", who);
  } else {
    out += fmt::format("{}: leaks: {} never freed, {}\n", who,
                       count == 1 ? "1 allocation was" : fmt::format("{} allocations were", count),
                       human_bytes(bytes));
  }
  for (size_t i = 0; i < std::min(top, leaks.size()); i++) {
    const Leak& leak = leaks[i];
    out += fmt::format("  {:>10}  in {} on {}, {} of {}", human_bytes(leak.bytes),
                       count_of(leak.count, "allocation", "allocations"), device_name(leak.device),
                       leak.call.empty() ? "unknown call" : printable(leak.call), sizes_of(leak));
    if (leak.with_context != 0)
      out += leak.with_context == leak.count
                 ? ", until the context ended"
                 : fmt::format(", {} of them until the context ended", leak.with_context);
    out += "\n";
    write_stack(out, log, leak.frame, 14);
  }
  if (leaks.size() > top) out += fmt::format("  and {} more callers\n", leaks.size() - top);
  if (!leaks.empty() && log.frames.size() == 0)
    out += "  who made them is not in the log: FLEXLOM_STACKS=dwarf\n";
  for (const Suppressions::Entry& entry : suppressions.entries()) {
    if (entry.count != 0)
      out +=
          fmt::format("{}: suppressed by leak:{}: {}, {}\n", who, printable(entry.pattern),
                      count_of(entry.count, "allocation", "allocations"), human_bytes(entry.bytes));
  }
  return out;
}

// Of a log that is not whole, what was freed after it ends, or by a record that it lacks, looks as
// if it had not been.
void tell_what_is_missing(const std::string& file, const Summary& log, bool has_leaks) {
  tell_of_damage(file, log);
  if (!log.end_reason)
    complain(printable(file) +
             ": there is no end record: the program was killed, or is still running");
  const bool is_whole =
      log.end_reason && log.dropped == 0 && log.bad_line_count == 0 && !log.cut_short;
  if (has_leaks && !is_whole)
    complain(printable(file) + ": some of these leaks may have been freed");
}

}  // namespace

int leaks_command(Words words) {
  Arguments arguments("leaks", words);
  SymbolOptions symbol_options;
  std::string suppressions_file, of_process;
  uint64_t error_exitcode = 1, top = 20;
  while (const auto option = arguments.option()) {
    if (*option == "--help") {
      fmt::print(usage, SymbolOptions::usage);
      return 0;
    } else if (*option == "--suppressions") {
      if (auto text = arguments.value()) suppressions_file = *text;
    } else if (*option == "--of") {  // from the library: its process; the answer is on stdout
      if (auto text = arguments.value()) of_process = *text;
    } else if (*option == "--error-exitcode") {
      if (auto number = arguments.number()) error_exitcode = *number;
      if (error_exitcode > 255) arguments.complain_about("--error-exitcode is at most 255");
    } else if (*option == "--top") {
      if (auto number = arguments.number()) top = *number;
    } else if (!symbol_options.take(arguments, *option)) {
      arguments.unknown();
    }
  }
  if (!arguments.one_file()) return exit_usage;
  std::string error;
  Suppressions suppressions;
  const bool understood = suppressions_file.empty() || suppressions.read(suppressions_file, &error);
  if (!understood) {
    complain("leaks: suppressions: " + printable(error));
    if (of_process.empty()) return exit_usage;
    suppressions = {};
  }
  Summary log;
  Symbols symbols(symbol_options);
  symbols.attach(log);
  if (!trace::read_log(arguments.files().front(), log, &error)) {
    complain(printable(error));
    return exit_usage;
  }
  std::vector<Leak> leaks = leaks_of(log);
  std::erase_if(leaks, [&](const Leak& leak) {
    Suppressions::Entry* entry = suppressions.find(log.frames, leak.frame);
    if (entry == nullptr) return false;
    entry->count += leak.count;
    entry->bytes += leak.bytes;
    return true;
  });
  const std::string who = of_process.empty() ? printable(arguments.files().front())
                                             : fmt::format("flexlom[{}]", of_process);
  fmt::print(of_process.empty() ? stdout : stderr, "{}",
             text_of(who, log, leaks, suppressions, top));
  // The library makes a log of its own for this, as it is at that moment.
  if (of_process.empty()) tell_what_is_missing(arguments.files().front(), log, !leaks.empty());
  tell_of(symbols);
  if (!of_process.empty()) fmt::print("leaks: {}\n", leaks.size());
  return leaks.empty() ? 0 : static_cast<int>(error_exitcode);
}

}  // namespace flexlom::tool
