// Checks that ask the driver, each in a child that may crash or hang.
#include <fmt/format.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <charconv>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "interpose/tool/child.h"
#include "interpose/tool/doctor.h"
#include "interpose/tool/output.h"
#include "interpose/tool/preload.h"
#include "interpose/trace/summary.h"

namespace flexlom::tool {
namespace {

constexpr auto patience = std::chrono::seconds(60);  // eight GPUs without persistence are slow
constexpr int oldest_driver = 12000;                 // what the doors were written for

using Line = std::vector<std::string>;

std::vector<Line> lines_of(std::string_view output) {
  std::vector<Line> lines;
  while (!output.empty()) {
    std::string_view line = output.substr(0, output.find('\n'));
    output.remove_prefix(std::min(line.size() + 1, output.size()));
    Line words;
    for (bool more = true; more;) {
      size_t tab = line.find('\t');
      words.emplace_back(line.substr(0, tab));
      more = tab != std::string_view::npos;
      if (more) line.remove_prefix(tab + 1);
    }
    lines.push_back(std::move(words));
  }
  return lines;
}

uint64_t number(const Line& line, size_t index) {
  uint64_t value = 0;
  if (index < line.size())
    std::from_chars(line[index].data(), line[index].data() + line[index].size(), value);
  return value;
}

// How a child ended that did not end well, and what it said last.
std::string ending(const ChildResult& child) {
  std::string how = !child.started      ? "could not be started"
                    : child.timed_out   ? "did not answer within 60 seconds"
                    : child.signal != 0 ? fmt::format("died of signal {} ({})", child.signal,
                                                      strsignal(child.signal))
                                        : fmt::format("ended with status {}", child.exit_code);
  for (const Line& line : lines_of(child.output)) {
    if (line.size() >= 3 && line[0] == "fail") how += fmt::format(", {}: {}", line[1], line[2]);
  }
  std::string_view errors = child.errors;
  while (!errors.empty() && errors.back() == '\n') errors.remove_suffix(1);
  if (!errors.empty()) how += fmt::format(", said: {}", errors.substr(errors.rfind('\n') + 1));
  return how;
}

// The user's LD_PRELOAD without our library: the driver as it is.
std::string preload_without_us() {
  const char* users = getenv("LD_PRELOAD");
  std::string value;
  for (const std::string& entry : preload_entries(users != nullptr ? users : "")) {
    if (entry.substr(entry.rfind('/') + 1) != "libflexlom.so")
      value += (value.empty() ? "" : ":") + entry;
  }
  return value;
}

// line: device, ordinal, name, bytes, VMM, host NUMA VMM, host VMM, granularity, host granularity
void check_device(Findings& findings, const Setting& setting, const Line& line) {
  if (line.size() < 9) return;
  std::string name = "device " + line[1];
  uint64_t total = number(line, 3);
  Limit limit = setting.options.device_limit.for_device(static_cast<int>(number(line, 1)));
  std::string budget = limit.kind == Limit::Kind::unset ? "what is free, less a margin"
                                                        : human_bytes(limit.of(total));
  std::string fact = fmt::format("{}, {}, budget {}", line[2], human_bytes(total), budget);
  if (limit.of(total) > total) {
    findings.warn(name, fact, "the budget is more than the device has: lower FLEXLOM_DEVICE_LIMIT");
  } else {
    findings.ok(name, fact);
  }
  if (number(line, 4) == 0) {
    findings.fail(name + " VMM", "virtual memory management is not supported",
                  "flexlom passes every call to the driver here: it needs a newer GPU or driver");
    return;
  }
  findings.ok(name + " VMM", fmt::format("granularity {}", human_bytes(number(line, 7))));
  if (number(line, 5) == 0 && number(line, 6) == 0) {
    findings.warn(name + " host VMM", "host memory cannot be mapped",
                  "there will be no spilling: a newer driver (12.2 or later) is needed");
  } else {
    findings.ok(name + " host VMM",
                fmt::format("{}, granularity {}", number(line, 5) != 0 ? "by NUMA node" : "host",
                            human_bytes(number(line, 8))));
  }
}

}  // namespace

void check_driver(Findings& findings, Setting& setting) {
  ChildResult child =
      run_self({"internal-probe", "driver"}, {{"LD_PRELOAD", preload_without_us()}}, patience);
  std::map<std::string, Line> facts;
  std::vector<Line> devices;
  for (Line& line : lines_of(child.output)) {
    if (line[0] == "device") devices.push_back(line);
    facts[line[0]] = line;
  }
  if (!facts.contains("libcuda")) {
    findings.fail("driver", "libcuda.so.1 cannot be loaded (" + ending(child) + ")",
                  "install the NVIDIA driver; in a container, run it with the GPU given to it");
    return;
  }
  std::string path = facts["libcuda"].back();
  if (!facts.contains("version") || !facts.contains("initialized")) {
    findings.fail("driver", fmt::format("{} does not start: the probe {}", path, ending(child)),
                  "see whether nvidia-smi works; the kernel module and the library must match");
    return;
  }
  uint64_t version = number(facts["version"], 1);
  std::string fact = fmt::format("{}, CUDA {}", path, driver_release(static_cast<int>(version)));
  if (version < oldest_driver) {
    findings.warn("driver", fact, "older than CUDA 12.0: not tested with flexlom");
  } else {
    findings.ok("driver", fact);
  }
  if (devices.empty()) {
    findings.fail("devices", fmt::format("there is none (the probe {})", ending(child)),
                  "check CUDA_VISIBLE_DEVICES and nvidia-smi");
    return;
  }
  for (const Line& line : devices) check_device(findings, setting, line);
  if (child.exit_code != 0)
    findings.warn("probe", "it " + ending(child), "the driver answered some questions only");
  setting.driver_works = true;
}

void check_self_test(Findings& findings, const Setting& setting) {
  if (setting.library.empty()) return;
  namespace fs = std::filesystem;
  std::error_code ignored;
  std::string directory = (fs::temp_directory_path(ignored) / "flexlom-doctor-XXXXXX").string();
  bool has_directory = mkdtemp(directory.data()) != nullptr;
  std::string log = directory + "/trace";

  const char* users = getenv("LD_PRELOAD");
  Variables variables = {
      {"LD_PRELOAD", preload_value(users != nullptr ? users : "", setting.library, "")},
      {"FLEXLOM_TRACE", has_directory ? log : ""},
  };
  ChildResult child = run_self({"internal-probe", "allocate"}, variables, patience);
  trace::Summary summary;
  bool has_log = has_directory && trace::read_log(log, summary, nullptr);
  if (has_directory) fs::remove_all(directory, ignored);

  std::map<std::string, Line> facts;
  for (Line& line : lines_of(child.output)) facts[line[0]] = line;
  if (!facts.contains("flexlom")) {
    findings.fail("preload", "the library did not get into a child (" + ending(child) + ")",
                  "run ldd " + setting.library + " to see what it lacks");
    return;
  }
  std::string version = facts.contains("flexlom_version") ? facts["flexlom_version"].back() : "";
  if (!version.empty() && version != FLEXLOM_VERSION) {
    findings.fail("preload",
                  fmt::format("the library is version {}, this tool {}", version, FLEXLOM_VERSION),
                  "install flexlom again");
    return;
  }
  findings.ok("preload",
              version.empty() ? "the library loads" : "the library loads, version " + version);

  if (!facts.contains("allocated")) {
    if (!setting.driver_works) {
      findings.warn("self-test", "not possible: " + ending(child), "see the driver above");
    } else {
      findings.fail("self-test", "one allocation in a child: it " + ending(child),
                    "try with FLEXLOM_DISABLE=1; if that works too little memory may be free");
    }
  } else if (!setting.options.disable && (!has_log || summary.allocs == 0)) {
    findings.fail("self-test", "an allocation works, but flexlom did not see it",
                  "another interposer may come first: unset the other preloads");
  } else {
    findings.ok("self-test", fmt::format("4 MiB allocated at {}, written, read back and freed{}",
                                         facts["allocated"].back(),
                                         setting.options.disable ? " (by the driver)" : ""));
  }
}

}  // namespace flexlom::tool
