#include "interpose/memory_limits.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <string>

namespace flexlom {

namespace {

// Reads a small file without streams: this runs inside other people's processes.
std::string read_file(const std::string& path) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return {};
  std::string text(16384, '\0');
  const ssize_t n = read(fd, text.data(), text.size());
  close(fd);
  text.resize(n > 0 ? static_cast<size_t>(n) : 0);
  return text;
}

// A number of bytes, or ~0 for "max" and for what is not there.
uint64_t read_bytes(const std::string& path) {
  const std::string text = read_file(path);
  if (text.empty() || text[0] < '0' || text[0] > '9') return ~uint64_t{0};
  return std::strtoull(text.c_str(), nullptr, 10);
}

uint64_t mem_available() {
  const std::string text = read_file("/proc/meminfo");
  const size_t at = text.find("MemAvailable:");
  return at == std::string::npos ? 0 : std::strtoull(text.c_str() + at + 13, nullptr, 10) * 1024;
}

// The least room of a group and all groups above it.
uint64_t room_of(const std::string& root, std::string group, const char* limit, const char* used) {
  uint64_t room = ~uint64_t{0};
  for (;;) {
    const std::string base = root + group + "/";
    const uint64_t most = read_bytes(base + limit);
    const uint64_t now = read_bytes(base + used);
    if (most != ~uint64_t{0} && now != ~uint64_t{0})
      room = std::min(room, most > now ? most - now : 0);
    if (group.empty() || group == "/") return room;
    group.resize(group.rfind('/'));
  }
}

uint64_t group_room() {
  const std::string text = read_file("/proc/self/cgroup");
  uint64_t room = ~uint64_t{0};
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find('\n', at), text.size());
    const std::string line = text.substr(at, end - at);
    at = end + 1;
    const size_t first = line.find(':');
    const size_t second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    const std::string group = line.substr(second + 1);
    if (controllers.empty()) {
      room = std::min(room, room_of("/sys/fs/cgroup", group, "memory.max", "memory.current"));
    } else if (("," + controllers + ",").find(",memory,") != std::string::npos) {
      room = std::min(room, room_of("/sys/fs/cgroup/memory", group, "memory.limit_in_bytes",
                                    "memory.usage_in_bytes"));
    }
  }
  return room;
}

}  // namespace

uint64_t available_host_bytes() noexcept {
  try {
    return std::min(mem_available(), group_room());
  } catch (...) {
    return 0;
  }
}

}  // namespace flexlom
