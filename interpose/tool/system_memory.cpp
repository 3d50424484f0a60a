#include "interpose/tool/system_memory.h"

#include <algorithm>
#include <charconv>
#include <fstream>
#include <optional>
#include <sstream>
#include <string_view>

namespace flexlom::tool {
namespace {

// The number in a file that holds one, nothing for "max" or no file.
std::optional<uint64_t> number_in(const std::string& path) {
  std::ifstream file(path);
  std::string word;
  if (!(file >> word)) return std::nullopt;
  uint64_t value = 0;
  auto [end, problem] = std::from_chars(word.data(), word.data() + word.size(), value);
  if (problem != std::errc() || end != word.data() + word.size()) return std::nullopt;
  return value;
}

// Lowers the limit to that of the cgroup at `directory` and those above it up to `top`. Inside a
// container the path may be that of the machine and not exist here: then `top` is our own.
void apply_cgroup(SystemMemory& memory, const std::string& top, std::string path,
                  const char* limit_file, const char* used_file) {
  // cgroup v1 writes "no limit" as the largest multiple of a page.
  constexpr uint64_t no_limit = uint64_t{1} << 60;
  for (;;) {
    while (!path.empty() && path.back() == '/') path.pop_back();
    std::optional<uint64_t> limit = number_in(top + path + "/" + limit_file);
    bool lower = limit && *limit < no_limit &&
                 (memory.cgroup_limit_bytes == 0 || *limit < memory.cgroup_limit_bytes);
    if (lower) {
      memory.cgroup_limit_bytes = *limit;
      memory.cgroup_used_bytes = number_in(top + path + "/" + used_file).value_or(0);
    }
    if (path.empty()) return;
    path.resize(path.rfind('/') == std::string::npos ? 0 : path.rfind('/'));
  }
}

bool lists_memory(std::string_view controllers) {
  while (!controllers.empty()) {
    size_t comma = std::min(controllers.find(','), controllers.size());
    if (controllers.substr(0, comma) == "memory") return true;
    controllers.remove_prefix(std::min(comma + 1, controllers.size()));
  }
  return false;
}

}  // namespace

SystemMemory read_system_memory(const std::string& root) {
  SystemMemory memory;
  std::ifstream meminfo(root + "/proc/meminfo");
  for (std::string line; std::getline(meminfo, line);) {
    std::istringstream words(line);
    std::string name;
    uint64_t kibibytes = 0;
    if (!(words >> name >> kibibytes)) continue;
    if (name == "MemTotal:") memory.total_bytes = kibibytes * 1024;
    if (name == "MemAvailable:") memory.available_bytes = kibibytes * 1024;
  }

  std::ifstream cgroups(root + "/proc/self/cgroup");
  for (std::string line; std::getline(cgroups, line);) {
    size_t first = line.find(':'), second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    std::string_view controllers = std::string_view(line).substr(first + 1, second - first - 1);
    std::string path = line.substr(second + 1);
    if (controllers.empty()) {
      if (memory.cgroup_version == 0) memory.cgroup_version = 2;
      apply_cgroup(memory, root + "/sys/fs/cgroup", path, "memory.max", "memory.current");
    } else if (lists_memory(controllers)) {
      memory.cgroup_version = 1;
      apply_cgroup(memory, root + "/sys/fs/cgroup/memory", path, "memory.limit_in_bytes",
                   "memory.usage_in_bytes");
    }
  }
  if (memory.cgroup_limit_bytes != 0) {
    uint64_t left = memory.cgroup_limit_bytes > memory.cgroup_used_bytes
                        ? memory.cgroup_limit_bytes - memory.cgroup_used_bytes
                        : 0;
    memory.available_bytes = std::min(memory.available_bytes, left);
    memory.total_bytes = std::min(memory.total_bytes, memory.cgroup_limit_bytes);
  }
  return memory;
}

}  // namespace flexlom::tool
