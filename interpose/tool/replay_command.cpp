// flexlom replay: the allocations of a trace, by the driver's own allocators and by flexlom.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <string_view>
#include <vector>

#include "interpose/tool/arguments.h"
#include "interpose/tool/child.h"
#include "interpose/tool/commands.h"
#include "interpose/tool/json_builder.h"
#include "interpose/tool/locate.h"
#include "interpose/tool/output.h"
#include "interpose/tool/preload.h"
#include "interpose/tool/replay_log.h"
#include "interpose/trace/json_line.h"

namespace flexlom::tool {
namespace {

constexpr const char* usage =
    R"(usage: flexlom replay [OPTIONS] LOG

Makes the allocations and frees of a trace log once more, in their order, with each of
  cuMemAlloc          the driver's plain allocator
  cuMemAllocAsync     its memory pools, told to keep what is freed
  flexlom             this library, preloaded
  flexlom, tight      the same without host memory and with as little device memory as will do
and shows time, the most that was held, how much of that was stranded (1 - live/held at the peaks),
and whether all the memory that was free at the end could be had in one piece. Nothing else runs, so
what is freed is free at once. With memory to spare, flexlom and cuMemAllocAsync keep what is freed
for the next request of its size; flexlom gives it back when memory is short or it has been idle.
  --device N      the device to run on (default 0)
  --only LIST     of malloc, async, flexlom, tight
  --timeout S     for each of them (default 300)
  --json          one JSON object
Exit status 1 when an allocator could not be run, 77 without a CUDA driver.
)";

constexpr int exit_no_driver = 77;
constexpr double kGranule = 2 << 20;

struct Result {
  std::string name, what;  // what: why there is none
  bool good = false;
  uint64_t elapsed_ns = 0, steps = 0, failures = 0, peak_live = 0, peak_held = 0, free_bytes = 0;
  uint64_t held_by_statistics = 0;
  bool all_free = false;

  double stranded() const {
    if (peak_held == 0 || peak_live >= peak_held) return 0;
    return 1 - static_cast<double>(peak_live) / static_cast<double>(peak_held);
  }
};

struct Request {
  std::string log;
  uint64_t device = 0, timeout_s = 300;
  std::string library;
};

// flexlom's own word for what it held: the last line of statistics of the child.
uint64_t peak_in_statistics(const std::string& errors) {
  constexpr std::string_view key = "device_peak_bytes=";
  uint64_t most = 0;
  for (size_t at = errors.find(key); at != std::string::npos; at = errors.find(key, at + 1))
    most = std::max<uint64_t>(most, std::strtoull(errors.c_str() + at + key.size(), nullptr, 10));
  return most;
}

std::string last_line(const std::string& text) {
  size_t end = text.find_last_not_of('\n');
  if (end == std::string::npos) return "";
  const size_t begin = text.find_last_of('\n', end);
  return text.substr(begin == std::string::npos ? 0 : begin + 1, end - begin);
}

Result run(const Request& request, const std::string& name, const std::string& way,
           const Variables& variables) {
  Result result;
  result.name = name;
  const ChildResult child =
      run_self({"internal-replay", way, std::to_string(request.device), request.log}, variables,
               std::chrono::seconds(request.timeout_s));
  const std::string text = last_line(child.output);
  trace::JsonLine json;
  if (child.timed_out) {
    result.what = fmt::format("not done after {} s (--timeout)", request.timeout_s);
  } else if (child.signal != 0) {
    result.what = fmt::format("ended by signal {}", child.signal);
  } else if (child.exit_code != 0 || !json.parse(text)) {
    result.what = printable(last_line(child.errors));
    const std::string_view prefix = "flexlom: ";
    if (result.what.starts_with(prefix)) result.what.erase(0, prefix.size());
    if (result.what.empty()) result.what = fmt::format("exit status {}", child.exit_code);
  } else {
    result.good = true;
    result.elapsed_ns = json.number("elapsed_ns").value_or(0);
    result.steps = json.number("steps").value_or(0);
    result.failures = json.number("failures").value_or(0);
    result.held_by_statistics = peak_in_statistics(child.errors);
    result.peak_live = json.number("peak_live_bytes").value_or(0);
    result.peak_held = json.number("peak_held_bytes").value_or(0);
    result.free_bytes = json.number("free_bytes").value_or(0);
    result.all_free = json.boolean("all_free").value_or(false);
  }
  return result;
}

Variables preloaded(const Request& request) {
  Variables variables = {{"FLEXLOM_STATS", "1"},       {"FLEXLOM_TRACE", ""},
                         {"FLEXLOM_DEVICE_LIMIT", ""}, {"FLEXLOM_HOST_LIMIT", ""},
                         {"FLEXLOM_SOFT_OOM", "off"},  {"FLEXLOM_DISABLE", ""}};
  const char* users = std::getenv("LD_PRELOAD");
  variables.emplace_back("LD_PRELOAD",
                         preload_value(users != nullptr ? users : "", request.library, ""));
  return variables;
}

void set(Variables& variables, const std::string& name, const std::string& value) {
  for (auto& [key, text] : variables) {
    if (key == name) text = value;
  }
}

// All the device memory there is. The statistics at the end know what was held, but not without
// the last allocation of all that is free, which is therefore made in a second run.
Result run_flexlom(const Request& request) {
  Result result = run(request, "flexlom", "as-recorded-alone", preloaded(request));
  if (!result.good) return result;
  if (result.held_by_statistics > 0) result.peak_held = result.held_by_statistics;
  const Result again = run(request, "flexlom", "as-recorded", preloaded(request));
  if (!again.good) return again;
  result.all_free = again.all_free;
  result.free_bytes = again.free_bytes;
  return result;
}

// With ever more, from what is live at one time on. What cannot be had in that fails, because there
// is no host memory to give instead.
Result run_tight(const Request& request, uint64_t peak_bytes) {
  Result result;
  for (const double more :
       {0.0, 0.0025, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.05, 0.1, 0.2, 0.4, 0.8}) {
    const double granules = std::ceil(static_cast<double>(peak_bytes) * (1 + more) / kGranule);
    const auto budget = static_cast<uint64_t>(granules * kGranule);
    Variables variables = preloaded(request);
    set(variables, "FLEXLOM_DEVICE_LIMIT", std::to_string(budget));
    set(variables, "FLEXLOM_HOST_LIMIT", "0");
    variables.emplace_back("FLEXLOM_QUIET", "1");
    result = run(request, "flexlom, tight", "as-recorded", variables);
    result.peak_held = budget;
    if (!result.good || result.failures == 0) break;
  }
  return result;
}

void print_text(const ReplayTrace& trace, const std::string& log, const std::vector<Result>& all) {
  fmt::print("{}: {} allocations and frees, {} at one time\n\n", log, trace.steps.size(),
             human_bytes(trace.peak_bytes));
  fmt::print("{:<16} {:>10} {:>10} {:>11} {:>9} {:>9}  {}\n", "allocator", "time", "each",
             "most held", "stranded", "failures", "all that is free");
  for (const Result& r : all) {
    if (!r.good) {
      fmt::print("{:<16} {}\n", r.name, r.what);
      continue;
    }
    const double each_us = static_cast<double>(r.elapsed_ns) / 1e3 /
                           static_cast<double>(std::max<uint64_t>(r.steps, 1));
    fmt::print("{:<16} {:>10} {:>7.2f} us {:>11} {:>7.2f} % {:>9}  {}\n", r.name,
               human_time(r.elapsed_ns), each_us, human_bytes(r.peak_held), r.stranded() * 100,
               r.failures,
               fmt::format("{}: {}", human_bytes(r.free_bytes), r.all_free ? "yes" : "NO"));
  }
  if (trace.left_out > 0)
    fmt::print(
        "\n{} records could not be replayed: damaged, or frees of what the log does not have\n",
        trace.left_out);
}

void print_json(const ReplayTrace& trace, const std::string& log, const std::vector<Result>& all) {
  Json json('{'), rows('[');
  json.text("file", log);
  json.number("steps", trace.steps.size());
  json.number("peak_bytes", trace.peak_bytes);
  json.number("records_left_out", trace.left_out);
  for (const Result& r : all) {
    Json row('{');
    row.text("allocator", r.name);
    if (!r.good) {
      rows.raw("", row.text("error", r.what).end());
      continue;
    }
    row.number("elapsed_ns", r.elapsed_ns);
    row.number("failures", r.failures);
    row.number("peak_live_bytes", r.peak_live);
    row.number("peak_held_bytes", r.peak_held);
    row.raw("stranded", fmt::format("{:.6f}", r.stranded()));
    row.number("free_bytes", r.free_bytes);
    row.raw("all_free", r.all_free ? "true" : "false");
    rows.raw("", row.end());
  }
  fmt::print("{}\n", json.raw("allocators", rows.end()).end());
}

}  // namespace

int replay_command(Words words) {
  Request request;
  bool json = false;
  std::string only = "malloc,async,flexlom,tight";
  Arguments arguments("replay", words);
  while (const auto option = arguments.option()) {
    if (*option == "--help") {
      fmt::print("{}", usage);
      return 0;
    } else if (*option == "--json") {
      json = true;
    } else if (*option == "--device") {
      if (auto number = arguments.number()) request.device = std::min<uint64_t>(*number, 1023);
    } else if (*option == "--timeout") {
      if (auto number = arguments.number())
        request.timeout_s = std::clamp<uint64_t>(*number, 1, 86400);
    } else if (*option == "--only") {
      if (auto text = arguments.value()) only = *text;
    } else {
      arguments.unknown();
    }
  }
  const std::optional<std::string> named = arguments.one_file();
  if (!named) return exit_usage;
  request.log = *named;
  if (request.log == "-") {
    complain("replay reads its log once for each allocator: it must be a file, not standard input");
    return exit_usage;
  }
  ReplayTrace trace;
  std::string error;
  if (!read_replay(request.log, -1, &trace, &error)) {
    complain(printable(error));
    return 1;
  }
  std::string looked_in;
  request.library = find_library(&looked_in);
  const auto wanted = [&](std::string_view name) {
    return ("," + only + ",").find("," + std::string(name) + ",") != std::string::npos;
  };
  std::vector<Result> all;
  const Variables bare = {{"LD_PRELOAD", ""}};
  if (wanted("malloc")) all.push_back(run(request, "cuMemAlloc", "malloc", bare));
  if (wanted("async")) all.push_back(run(request, "cuMemAllocAsync", "async", bare));
  if ((wanted("flexlom") || wanted("tight")) && request.library.empty()) {
    complain("libflexlom.so is not there; looked in " + looked_in);
    return 1;
  }
  if (wanted("flexlom")) all.push_back(run_flexlom(request));
  if (wanted("tight")) all.push_back(run_tight(request, trace.peak_bytes));
  if (all.empty()) {
    complain("--only: one or more of malloc, async, flexlom and tight");
    return exit_usage;
  }
  const bool none = std::all_of(all.begin(), all.end(), [](const Result& r) { return !r.good; });
  if (none && all[0].what.find("no CUDA driver") != std::string::npos) {
    complain(all[0].what);
    return exit_no_driver;
  }
  if (json) {
    print_json(trace, request.log, all);
  } else {
    print_text(trace, request.log, all);
  }
  const bool every = std::all_of(all.begin(), all.end(), [](const Result& r) { return r.good; });
  return every ? 0 : 1;
}

}  // namespace flexlom::tool
