// Checks that need no driver: files, variables, memory.
#include <elf.h>
#include <fmt/format.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>
#include <string>

#include "interpose/tool/doctor.h"
#include "interpose/tool/locate.h"
#include "interpose/tool/output.h"
#include "interpose/tool/preload.h"
#include "interpose/tool/system_memory.h"
#include "interpose/tool/target.h"
#include "interpose/trace/path_template.h"

namespace flexlom::tool {
namespace {

const char* variable(const char* name) {
  const char* value = getenv(name);
  return value != nullptr ? value : "";
}

// The problem with an ELF file as a shared library for this processor, or "".
std::string library_problem(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  Elf64_Ehdr header{};
  if (!file.read(reinterpret_cast<char*>(&header), sizeof header)) return "it cannot be read";
  if (memcmp(header.e_ident, ELFMAG, SELFMAG) != 0) return "it is not an ELF file";
  if (header.e_ident[EI_CLASS] != ELFCLASS64) return "it is not 64-bit";
  if (header.e_type != ET_DYN) return "it is not a shared object";
#if defined(__x86_64__)
  if (header.e_machine != EM_X86_64) return "it is for another kind of processor";
#endif
  return "";
}

std::string directory_of(const std::string& path) {
  size_t slash = path.rfind('/');
  return slash == std::string::npos ? "." : slash == 0 ? "/" : path.substr(0, slash);
}

}  // namespace

void check_library(Findings& findings, Setting& setting, const std::string& given) {
  std::string looked_in;
  std::string path = given.empty() ? find_library(&looked_in) : given;
  if (path.empty()) {
    findings.fail("library", "libflexlom.so was not found in " + looked_in,
                  "build it with make, or install it with make install");
    return;
  }
  char* real = realpath(path.c_str(), nullptr);
  if (real != nullptr) path = real;
  free(real);
  if (std::string problem = library_problem(path); !problem.empty()) {
    findings.fail("library", fmt::format("{}: {}", path, problem), "install flexlom again");
    return;
  }
  if (path.find_first_of(": \t\n") != std::string::npos) {
    findings.fail("library", fmt::format("the path '{}' has a space or a colon", path),
                  "LD_PRELOAD cannot hold it: move flexlom");
    return;
  }
  setting.library = path;
  findings.ok("library", path);
}

void check_options(Findings& findings, Setting& setting) {
  std::vector<OptionError> errors;
  setting.options =
      parse_options([](const char* name) -> const char* { return getenv(name); }, &errors);
  for (const OptionError& error : errors) {
    findings.fail(error.variable, fmt::format("'{}' is not understood", error.text),
                  fmt::format("use {} (until then: {})", error.accepted, error.used));
  }
  std::vector<UnknownVariable> unknown = unknown_variables(environ);
  for (const UnknownVariable& variable : unknown) {
    findings.warn(variable.name, "flexlom has no such variable",
                  variable.nearest.empty() ? "see flexlom options"
                                           : "did you mean " + variable.nearest + "?");
  }
  if (setting.options.disable)
    findings.warn("options", "FLEXLOM_DISABLE is set: every call goes straight to the driver",
                  "unset it to use flexlom");
  if (errors.empty() && unknown.empty()) {
    std::string set;
    for (size_t i = 0; i < option_count; i++) {
      const char* value = variable(option_table[i].variable);
      if (*value != '\0')
        set += fmt::format("{}{}={}", set.empty() ? "" : " ", option_table[i].variable, value);
    }
    findings.ok("options", set.empty() ? "none set, all defaults" : set);
  }
}

void check_preloads(Findings& findings, const Setting& setting) {
  std::string others;
  for (const std::string& entry : preload_entries(variable("LD_PRELOAD"))) {
    if (entry.substr(entry.rfind('/') + 1) != "libflexlom.so") others += " " + entry;
  }
  if (others.empty()) {
    findings.ok("preloads", "no others");
  } else {
    findings.warn("preloads", "LD_PRELOAD also holds" + others,
                  "if a program misbehaves, try it without these first");
  }
  if (const char* path = variable("CUDA_INJECTION64_PATH"); *path != '\0')
    findings.warn("injection", fmt::format("CUDA_INJECTION64_PATH={}", path),
                  "the driver loads this tool too; unset it if a program misbehaves");
}

void check_memory(Findings& findings, Setting& setting) {
  SystemMemory memory = read_system_memory();
  if (memory.total_bytes == 0) {
    findings.warn("memory", "/proc/meminfo cannot be read", "mount /proc");
    return;
  }
  const Limit& limit = setting.options.host_limit;
  bool is_default = limit.kind == Limit::Kind::unset;
  setting.host_budget_bytes =
      is_default ? memory.available_bytes / 2 : limit.of(memory.available_bytes);
  std::string fact =
      fmt::format("{} of {} available, host budget {}", human_bytes(memory.available_bytes),
                  human_bytes(memory.total_bytes), human_bytes(setting.host_budget_bytes));
  if (setting.host_budget_bytes > memory.available_bytes) {
    findings.warn("memory", fact, "lower FLEXLOM_HOST_LIMIT below the memory that is available");
  } else {
    findings.ok("memory", fact);
  }

  if (memory.cgroup_limit_bytes == 0) {
    findings.ok("cgroup", memory.cgroup_version == 0
                              ? "no memory cgroup found"
                              : fmt::format("version {}, no memory limit", memory.cgroup_version));
  } else {
    findings.ok("cgroup", fmt::format("version {}, limit {}, used {} (counted in the above)",
                                      memory.cgroup_version, human_bytes(memory.cgroup_limit_bytes),
                                      human_bytes(memory.cgroup_used_bytes)));
  }

  rlimit locked{};
  if (getrlimit(RLIMIT_MEMLOCK, &locked) != 0) return;
  if (locked.rlim_cur == RLIM_INFINITY || locked.rlim_cur >= setting.host_budget_bytes) {
    findings.ok("locked memory", locked.rlim_cur == RLIM_INFINITY
                                     ? "no limit"
                                     : "limit " + human_bytes(locked.rlim_cur));
  } else {
    findings.warn(
        "locked memory",
        fmt::format("RLIMIT_MEMLOCK is {}, below the host budget", human_bytes(locked.rlim_cur)),
        "only where pinning fails (RDMA, some containers): ulimit -l unlimited");
  }
}

void check_output(Findings& findings, const Setting& setting) {
  if (setting.options.trace.empty()) {
    findings.ok("trace", "not asked for");
    return;
  }
  std::string error;
  auto get = [](const char* name) -> const char* { return getenv(name); };
  auto path = trace::expand_path_template(setting.options.trace, get, &error);
  if (!path) {
    findings.fail("trace", fmt::format("FLEXLOM_TRACE={}: {}", setting.options.trace, error),
                  "correct the template");
    return;
  }
  struct stat about {};
  if (stat(path->c_str(), &about) == 0 && S_ISDIR(about.st_mode)) {
    findings.fail("trace", *path + " is a directory", "name a file in it");
    return;
  }
  // Missing directories are made when the log is opened: the nearest one that exists decides.
  std::string directory = directory_of(*path);
  while (stat(directory.c_str(), &about) != 0 && directory != "/" && directory != ".")
    directory = directory_of(directory);
  // Trying is the only sure way: root passes every look at permissions, even where nothing can be.
  std::string trial = directory + "/.flexlom-doctor-XXXXXX";
  bool writable = mkdtemp(trial.data()) != nullptr;
  if (writable) rmdir(trial.c_str());
  if (!writable) {
    findings.fail(
        "trace",
        fmt::format("{} cannot be written: {} is not a writable directory", *path, directory),
        "set FLEXLOM_TRACE to a place that can be written");
    return;
  }
  findings.ok("trace", *path + " can be written");
}

void check_target(Findings& findings, const std::string& program) {
  Found found = find_program(program);
  if (found.path.empty()) {
    findings.fail("program",
                  program + (found.error == ENOENT ? " was not found" : " is not executable"),
                  "check its name and PATH");
    return;
  }
  Target target = inspect_target(found.path);
  if (!target.cannot_start.empty()) {
    findings.fail("program", target.cannot_start, "it does not start without flexlom either");
  } else if (!target.cannot_preload.empty()) {
    findings.fail("program", target.cannot_preload, "run a dynamically linked, plain build of it");
  } else if (!target.not_checked.empty()) {
    findings.warn("program", target.not_checked, "make it readable to have it checked");
  } else {
    std::string sanitizer = sanitizer_among(target.needed);
    findings.ok("program", fmt::format("{} can be preloaded{}", target.file,
                                       sanitizer.empty() ? "" : ", after its " + sanitizer));
  }
}

}  // namespace flexlom::tool
