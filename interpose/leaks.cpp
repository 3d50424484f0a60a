#include "interpose/leaks.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <spawn.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <map>
#include <string_view>

#include "interpose/trace/json_text.h"
#include "interpose/trace/writer.h"

extern char** environ;

namespace flexlom {
namespace {

void say(std::string_view text, bool quiet) {
  if (quiet) return;
  const std::string line = fmt::format("flexlom[{}]: {}\n", getpid(), text);
  [[maybe_unused]] const ssize_t written = write(STDERR_FILENO, line.data(), line.size());
}

// Beside the library, as it was built or installed; "" when it is not there.
std::string find_tool() {
  Dl_info about{};
  if (dladdr(reinterpret_cast<const void*>(&find_tool), &about) == 0 || about.dli_fname == nullptr)
    return {};
  std::string folder = about.dli_fname;
  folder.resize(folder.rfind('/') == folder.npos ? 0 : folder.rfind('/'));
  for (const char* place : {"/flexlom-tool", "/../libexec/flexlom/flexlom-tool"}) {
    const std::string tool = folder + place;
    if (!folder.empty() && access(tool.c_str(), X_OK) == 0) return tool;
  }
  return {};
}

// A file without a name that holds `text`, at its beginning; -1 when there can be none.
int file_of(const std::string& text) {
  const int fd = memfd_create("flexlom-leaks", MFD_CLOEXEC);
  if (fd < 0) return -1;
  size_t done = 0;
  while (done < text.size()) {
    const ssize_t size = write(fd, text.data() + done, text.size() - done);
    if (size <= 0) break;
    done += static_cast<size_t>(size);
  }
  if (done == text.size() && lseek(fd, 0, SEEK_SET) == 0) return fd;
  close(fd);
  return -1;
}

// Runs the tool on the log; what it writes to its standard output. The program's handlers may reap
// the child, so its answer is not its exit status.
std::string ask_tool(const std::string& tool, const std::string& log, const Options& options) {
  int answer[2];
  const int input = file_of(log);
  if (input < 0 || pipe2(answer, O_CLOEXEC) != 0) {
    if (input >= 0) close(input);
    return {};
  }
  std::vector<std::string> words = {tool, "leaks", "--of", std::to_string(getpid())};
  if (!options.suppressions.empty()) {
    words.emplace_back("--suppressions");
    words.push_back(options.suppressions);
  }
  words.emplace_back("-");
  std::vector<char*> arguments, variables;
  for (std::string& word : words) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  for (char** variable = environ; variable != nullptr && *variable != nullptr; ++variable) {
    const std::string_view text = *variable;
    if (!text.starts_with("LD_PRELOAD=") && !text.starts_with("FLEXLOM_"))
      variables.push_back(*variable);
  }
  variables.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, input, STDIN_FILENO);
  posix_spawn_file_actions_adddup2(&actions, answer[1], STDOUT_FILENO);
  pid_t child = 0;
  const int problem =
      posix_spawn(&child, tool.c_str(), &actions, nullptr, arguments.data(), variables.data());
  posix_spawn_file_actions_destroy(&actions);
  close(input);
  close(answer[1]);
  std::string text;
  char bytes[256];
  for (ssize_t size; problem == 0 && (size = read(answer[0], bytes, sizeof bytes)) > 0;)
    text.append(bytes, static_cast<size_t>(size));
  close(answer[0]);
  return text;
}

// The modules and frames of stacks as a log has them, each once.
class FrameWriter {
 public:
  explicit FrameWriter(std::string& out) : out_(out) {}

  uint32_t add(const std::vector<stacks::Stacks::Frame>& stack) {  // innermost first
    uint32_t id = 0;
    for (auto frame = stack.rbegin(); frame != stack.rend(); ++frame) {
      if (frame->module != nullptr) add(*frame->module);
      auto [known, is_new] = ids_.try_emplace({id, frame->address, frame->module}, ids_.size() + 1);
      if (is_new) {
        out_ += fmt::format(R"({{"kind":"frame","id":{},)", known->second);
        if (id != 0) out_ += fmt::format(R"("parent":{},)", id);
        out_ += fmt::format("\"ip\":\"{:#x}\"}}\n", frame->address);
      }
      id = known->second;
    }
    return id;
  }

 private:
  // Modules may have lain at the same addresses one after the other: the last one recorded counts.
  void add(const stacks::Module& module) {
    if (const auto known = modules_.find(module.begin);
        known != modules_.end() && known->second == &module)
      return;
    std::erase_if(modules_, [&](const auto& entry) {
      return entry.second->begin < module.end && module.begin < entry.second->end;
    });
    modules_[module.begin] = &module;
    out_ += fmt::format(R"({{"kind":"module","base":"{:#x}","begin":"{:#x}","end":"{:#x}",)",
                        module.base, module.begin, module.end);
    out_ += fmt::format(R"("build_id":"{}","path":)", module.build_id);
    trace::append_json(out_, module.path);
    out_ += "}\n";
  }

  std::string& out_;
  std::map<std::tuple<uint32_t, uintptr_t, const stacks::Module*>, uint32_t> ids_;
  std::map<uintptr_t, const stacks::Module*> modules_;
};

}  // namespace

void LeakCheck::allocated(const pool::Request& request, const pool::AllocationInfo& a,
                          stacks::NodeId caller) noexcept {
  std::lock_guard lock(mutex_);
  ++allocations_;
  try {
    live_[a.base] = {a.base, a.asked_bytes, a.given_bytes, request.call, caller, a.device, false};
  } catch (...) {
    ++missed_;
  }
}

void LeakCheck::freed(const char* call, uint64_t address) noexcept {
  std::lock_guard lock(mutex_);
  const auto found = live_.find(address);
  if (found == live_.end()) return;
  try {
    if (strcmp(call, "context end") == 0) {
      ended_with_context_.push_back(found->second);
      ended_with_context_.back().context_ended = true;
    }
  } catch (...) {
    ++missed_;
  }
  live_.erase(found);
}

std::string LeakCheck::log_of(stacks::Stacks& stacks, const std::vector<Allocation>& leaks) const {
  std::string log = fmt::format(R"({{"kind":"header","format":{},"version":"{}","pid":{},"t":0}})"
                                "\n",
                                trace::format_version, FLEXLOM_VERSION, getpid());
  const std::string perf_map = fmt::format("/tmp/perf-{}.map", getpid());
  if (access(perf_map.c_str(), R_OK) == 0)
    log += fmt::format("{{\"kind\":\"perf_map\",\"path\":\"{}\"}}\n", perf_map);
  FrameWriter frames(log);
  for (const Allocation& a : leaks) {
    const uint32_t frame = frames.add(stacks.frames(a.caller));
    const std::string common =
        fmt::format(R"("t":0,"device":{},"address":"{:#x}",)", a.device, a.address);
    log += fmt::format(
        R"({{"kind":"alloc",{}"asked_bytes":{},"given_bytes":{},"call":"{}","frame":{}}})"
        "\n",
        common, a.asked_bytes, a.given_bytes, a.call, frame);
    if (a.context_ended)
      log += fmt::format("{{\"kind\":\"free\",{}\"call\":\"context end\"}}\n", common);
  }
  return log + "{\"kind\":\"end\",\"t\":0,\"reason\":\"exit\"}\n";
}

bool LeakCheck::report(stacks::Stacks& stacks, const Options& options) noexcept {
  try {
    std::vector<Allocation> leaks;
    {
      std::lock_guard lock(mutex_);
      leaks = ended_with_context_;
      for (const auto& [address, allocation] : live_) leaks.push_back(allocation);
    }
    std::stable_sort(leaks.begin(), leaks.end(), [](const Allocation& a, const Allocation& b) {
      return a.context_ended != b.context_ended ? a.context_ended : a.address < b.address;
    });
    if (missed_ != 0)
      say(fmt::format("leaks: {} allocations could not be followed", missed_), options.quiet);
    if (leaks.empty()) {
      say(fmt::format("no leaks: {} freed", allocations_ == 1
                                                ? std::string("1 allocation, and it was")
                                                : fmt::format("{} allocations, all", allocations_)),
          options.quiet);
      return false;
    }
    const std::string tool = find_tool();
    const std::string answer = tool.empty() ? "" : ask_tool(tool, log_of(stacks, leaks), options);
    if (answer.starts_with("leaks: ")) return answer != "leaks: 0\n";
    uint64_t bytes = 0;
    for (const Allocation& a : leaks) bytes += a.given_bytes;
    say(fmt::format("leaks: {} allocations of {} bytes were never freed. They cannot be named, and "
                    "no suppression holds, because flexlom-tool {}",
                    leaks.size(), bytes, tool.empty() ? "is not beside libflexlom.so" : "failed"),
        false);
    return true;
  } catch (...) {
    return false;  // no memory to say anything with
  }
}

}  // namespace flexlom
