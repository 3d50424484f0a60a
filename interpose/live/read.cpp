#include "interpose/live/read.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <memory>
#include <string_view>

namespace flexlom::live {
namespace {

struct CloseDirectory {
  void operator()(DIR* directory) const { closedir(directory); }
};
using Directory = std::unique_ptr<DIR, CloseDirectory>;

class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  ~Descriptor() {
    if (fd_ >= 0) close(fd_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return fd_; }

 private:
  const int fd_;
};

std::string read_file(const std::string& path) {
  constexpr size_t kMost = 64 << 10;
  const Descriptor file(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  std::string text;
  char piece[4096];
  while (file.get() >= 0 && text.size() < kMost) {
    const ssize_t n = read(file.get(), piece, sizeof piece);
    if (n <= 0) break;
    text.append(piece, static_cast<size_t>(n));
  }
  return text;
}

std::optional<uint64_t> number(std::string_view text) {
  uint64_t value = 0;
  const auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (problem != std::errc() || end == text.data()) return std::nullopt;
  return value;
}

// The process's pid in its own, innermost namespace: the last number of the line "NSpid:".
uint64_t inner_pid(const std::string& status, pid_t pid) {
  const size_t at = status.find("\nNSpid:");
  if (at == std::string::npos) return static_cast<uint64_t>(pid);
  const std::string_view line =
      std::string_view(status).substr(at + 1, status.find('\n', at + 1) - (at + 1));
  return number(line.substr(line.find_last_of("\t :") + 1)).value_or(0);
}

// What is behind the name in /proc/PID/stat: field 3 is the state, field 22 the time of the start.
void read_stat(const std::string& stat, char* state, uint64_t* start_ticks) {
  size_t at = stat.rfind(')');
  if (at == std::string::npos || at + 2 >= stat.size()) return;
  *state = stat[at + 2];
  for (int field = 2; field < 22 && at != std::string::npos; ++field) at = stat.find(' ', at + 1);
  if (at != std::string::npos)
    *start_ticks = number(std::string_view(stat).substr(at + 1)).value_or(0);
}

bool is_our_name(const char* target, size_t length) {
  static const std::string name = fmt::format("/memfd:{} (deleted)", kFileName);
  return std::string_view(target, length) == name;
}

// The page that a folder of descriptors leads to; none when another process's shines through.
bool read_descriptors(const std::string& folder, uint64_t pid, uint64_t start_ticks, Reading* out,
                      bool* any) {
  const Directory descriptors(opendir(folder.c_str()));
  if (descriptors == nullptr) return false;
  const int at = dirfd(descriptors.get());
  while (const dirent* entry = readdir(descriptors.get())) {
    if (entry->d_name[0] == '.') continue;
    *any = true;
    char target[64];
    const ssize_t length = readlinkat(at, entry->d_name, target, sizeof target);
    if (length <= 0 || !is_our_name(target, static_cast<size_t>(length))) continue;
    const Descriptor file(openat(at, entry->d_name, O_RDONLY | O_CLOEXEC | O_NONBLOCK));
    // Root may open everybody's, and is shown only its own like anybody else.
    struct stat about {};
    if (file.get() < 0 || fstat(file.get(), &about) != 0 || about.st_uid != geteuid()) continue;
    Reading found = read_page([&](void* to, size_t bytes, size_t offset) {
      return pread(file.get(), to, bytes, static_cast<off_t>(offset)) ==
             static_cast<ssize_t>(bytes);
    });
    // A parent's page, inherited, or one that is not filled in yet.
    if (!found.is_page() || found.head.pid != pid ||
        (found.head.start_ticks != 0 && found.head.start_ticks != start_ticks))
      continue;
    *out = std::move(found);
    return true;
  }
  return false;
}

bool read_process(const std::string& folder, Process* process) {
  uint64_t start_ticks = 0;
  read_stat(read_file(folder + "/stat"), &process->state, &start_ticks);
  const uint64_t pid = inner_pid(read_file(folder + "/status"), process->pid);
  bool any = false;
  bool found = read_descriptors(folder + "/fd", pid, start_ticks, &process->reading, &any);
  // Killed a moment ago: its memory goes before its descriptors.
  if (found && read_file(folder + "/status").find("\nVmSize:") == std::string::npos) return false;
  if (!found && !any) {
    // The first thread may have ended before the others: then only they have descriptors.
    const Directory threads(opendir((folder + "/task").c_str()));
    while (const dirent* entry = threads != nullptr ? readdir(threads.get()) : nullptr) {
      if (entry->d_name[0] == '.') continue;
      found = read_descriptors(folder + "/task/" + entry->d_name + "/fd", pid, start_ticks,
                               &process->reading, &any);
      if (found || any) break;
    }
  }
  return found;
}

std::string command_of(const std::string& folder) {
  std::string command = read_file(folder + "/cmdline");
  while (!command.empty() && command.back() == '\0') command.pop_back();
  std::replace(command.begin(), command.end(), '\0', ' ');
  if (command.empty()) {
    command = read_file(folder + "/comm");
    while (!command.empty() && command.back() == '\n') command.pop_back();
    command = "[" + command + "]";
  }
  return command;
}

void terminate_text(char* text, size_t bytes) { text[bytes - 1] = '\0'; }

}  // namespace

Reading read_page(const ReadAt& read_at) {
  constexpr int kTries = 200;
  constexpr timespec kPause{0, 50'000};
  Reading reading;
  if (!read_at(&reading.head, sizeof reading.head, 0)) {
    reading.head = {};
    return reading;
  }
  terminate_text(reading.head.version, sizeof reading.head.version);
  if (!reading.is_page()) return reading;
  if (reading.head.format != kFormat) {
    reading.problem = fmt::format(
        "runs under flexlom {}, which shows its numbers in format {}; this flexlom reads format "
        "{}: use that version's own flexlom top",
        reading.head.version, reading.head.format, kFormat);
    return reading;
  }
  Sample sample;
  for (int i = 0; i < kTries; ++i) {
    uint64_t before = 0, after = 0;
    bool complete = read_at(&before, sizeof before, offsetof(Page, sequence));
    std::atomic_thread_fence(std::memory_order_acquire);
    complete = complete && read_at(&sample, sizeof sample, offsetof(Page, words));
    std::atomic_thread_fence(std::memory_order_acquire);
    complete = complete && read_at(&after, sizeof after, offsetof(Page, sequence));
    if (!complete) {
      reading.problem = "its page of numbers is cut short";
      return reading;
    }
    if (before == after && before % 2 == 0) {
      for (Device& device : sample.devices) terminate_text(device.name, sizeof device.name);
      terminate_text(sample.largest.call, sizeof sample.largest.call);
      reading.sample = sample;
      return reading;
    }
    nanosleep(&kPause, nullptr);
  }
  reading.problem = "stopped while it wrote its numbers; they will be back when it goes on";
  return reading;
}

std::vector<Process> find_processes(const std::string& root) {
  std::vector<Process> found;
  const Directory processes(opendir(root.c_str()));
  if (processes == nullptr) return found;
  while (const dirent* entry = readdir(processes.get())) {
    const std::string_view name = entry->d_name;
    const std::optional<uint64_t> pid = number(name);
    if (!pid || name.find_first_not_of("0123456789") != std::string_view::npos) continue;
    const std::string folder = root + "/" + entry->d_name;
    struct stat about {};
    if (stat(folder.c_str(), &about) != 0 || about.st_uid != geteuid()) continue;
    Process process;
    process.pid = static_cast<pid_t>(*pid);
    if (!read_process(folder, &process)) continue;
    process.command = command_of(folder);
    found.push_back(std::move(process));
  }
  std::sort(found.begin(), found.end(),
            [](const Process& a, const Process& b) { return a.pid < b.pid; });
  return found;
}

}  // namespace flexlom::live
