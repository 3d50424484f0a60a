#include "interpose/ask_tool.h"

#include <errno.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <memory>
#include <string_view>

#include "interpose/trace/json_text.h"
#include "interpose/trace/writer.h"
#include "pool/residency/gate.h"

extern char** environ;

namespace flexlom {
namespace {

// A file without a name that holds `text`, at its beginning; -1 when there can be none.
int file_of(const std::string& text) {
  const int fd = memfd_create("flexlom-stacks", MFD_CLOEXEC);
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

struct Start {
  const char* path;
  char** arguments;
  char** variables;
  posix_spawn_file_actions_t actions;
  posix_spawnattr_t attributes;
  int problem;
};

// In the child between, which shares our memory; the thread that made it stands still.
int start_tool(void* of) {
  auto* start = static_cast<Start*>(of);
  pid_t tool = 0;
  start->problem = posix_spawn(&tool, start->path, &start->actions, &start->attributes,
                               start->arguments, start->variables);
  return 0;
}

// clone(2): a child whose end signals nothing is seen by waits with __WCLONE only. A program that
// is executed would be seen again, so the tool is the child of such a child, and orphaned at once.
// Signals are blocked, because their handlers would run in our memory in another process.
bool start_as_orphan(Start& start) {
  constexpr size_t kStack = 128 << 10, kAlignment = 16;
  const std::unique_ptr<char[]> stack(new char[kStack]);
  const auto top = reinterpret_cast<uintptr_t>(stack.get() + kStack) / kAlignment * kAlignment;
  sigset_t all, before, none;
  sigfillset(&all);
  sigemptyset(&none);
  sigaddset(&none, SIGPIPE);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  posix_spawnattr_init(&start.attributes);
  posix_spawnattr_setflags(&start.attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
  posix_spawnattr_setsigmask(&start.attributes, &before);
  posix_spawnattr_setsigdefault(&start.attributes, &none);
  const int between =
      clone(&start_tool, reinterpret_cast<void*>(top), CLONE_VM | CLONE_VFORK, &start);
  while (between > 0 && waitpid(between, nullptr, __WCLONE) < 0 && errno == EINTR) {
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  posix_spawnattr_destroy(&start.attributes);
  return between > 0 && start.problem == 0;
}

// All that comes until the other end is closed; "" when that takes too long.
std::string read_all(int fd, int patience_ms) {
  const uint64_t begin_ns = pool::ThreadSync::now_ns();
  std::string text;
  for (;;) {
    int left_ms = -1;
    if (patience_ms >= 0) {
      const uint64_t passed_ms = (pool::ThreadSync::now_ns() - begin_ns) / 1'000'000;
      left_ms = patience_ms -
                static_cast<int>(std::min<uint64_t>(passed_ms, static_cast<unsigned>(patience_ms)));
    }
    pollfd one{fd, POLLIN, 0};
    const int ready = poll(&one, 1, left_ms);
    if (ready < 0 && errno == EINTR) continue;
    if (ready <= 0) return {};
    char bytes[4096];
    const ssize_t size = read(fd, bytes, sizeof bytes);
    if (size < 0 && errno == EINTR) continue;
    if (size <= 0) return text;
    text.append(bytes, static_cast<size_t>(size));
  }
}

}  // namespace

// Not by dladdr: it waits for the loader's lock, whose holder may wait for this thread.
std::string find_tool() {
  const auto here = reinterpret_cast<uintptr_t>(&find_tool);
  std::string folder;
  for (const stacks::Module& module : stacks::list_modules(nullptr)) {
    if (here >= module.begin && here < module.end) folder = module.path;
  }
  folder.resize(folder.rfind('/') == folder.npos ? 0 : folder.rfind('/'));
  for (const char* place : {"/flexlom-tool", "/../libexec/flexlom/flexlom-tool"}) {
    const std::string tool = folder + place;
    if (!folder.empty() && access(tool.c_str(), X_OK) == 0) return tool;
  }
  return {};
}

std::string ask_tool(const std::string& tool, std::vector<std::string> words,
                     const std::string& input, int patience_ms) {
  words.insert(words.begin(), tool);
  std::vector<char*> arguments, variables;
  for (std::string& word : words) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  for (char** variable = environ; variable != nullptr && *variable != nullptr; ++variable) {
    const std::string_view text = *variable;
    if (!text.starts_with("LD_PRELOAD=") && !text.starts_with("FLEXLOM_"))
      variables.push_back(*variable);
  }
  variables.push_back(nullptr);
  int answer[2];
  const int question = file_of(input);
  if (question < 0 || pipe2(answer, O_CLOEXEC) != 0) {
    if (question >= 0) close(question);
    return {};
  }
  Start start{tool.c_str(), arguments.data(), variables.data(), {}, {}, 0};
  posix_spawn_file_actions_init(&start.actions);
  posix_spawn_file_actions_adddup2(&start.actions, question, STDIN_FILENO);
  posix_spawn_file_actions_adddup2(&start.actions, answer[1], STDOUT_FILENO);
  bool started = false;
  try {
    started = start_as_orphan(start);
  } catch (...) {  // no memory for its stack
  }
  posix_spawn_file_actions_destroy(&start.actions);
  close(question);
  close(answer[1]);
  std::string text;
  try {
    if (started) text = read_all(answer[0], patience_ms);
  } catch (...) {
  }
  close(answer[0]);
  return text;
}

StackLog::StackLog() {
  char host[256] = "";
  gethostname(host, sizeof host - 1);
  timespec now{};
  clock_gettime(CLOCK_REALTIME, &now);
  // Host and time are what a perf map of this process is known by.
  text_ = fmt::format(R"({{"kind":"header","format":{},"version":"{}","pid":{},"t":0,)",
                      trace::format_version, FLEXLOM_VERSION, getpid());
  text_ +=
      fmt::format(R"("wall_ns":{},"host":)", static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 +
                                                 static_cast<uint64_t>(now.tv_nsec));
  trace::append_json(text_, host);
  text_ += "}\n";
  const std::string perf_map = fmt::format("/tmp/perf-{}.map", getpid());
  if (access(perf_map.c_str(), R_OK) == 0)
    text_ += fmt::format("{{\"kind\":\"perf_map\",\"path\":\"{}\"}}\n", perf_map);
}

uint32_t StackLog::add(const std::vector<stacks::Stacks::Frame>& stack) {
  uint32_t id = 0;
  for (auto frame = stack.rbegin(); frame != stack.rend(); ++frame) {
    if (frame->module != nullptr) add(*frame->module);
    auto [known, is_new] = ids_.try_emplace({id, frame->address, frame->module}, ids_.size() + 1);
    if (is_new) {
      text_ += fmt::format(R"({{"kind":"frame","id":{},)", known->second);
      if (id != 0) text_ += fmt::format(R"("parent":{},)", id);
      text_ += fmt::format("\"ip\":\"{:#x}\"}}\n", frame->address);
    }
    id = known->second;
  }
  return id;
}

// Modules may have lain at the same addresses one after the other: the last one recorded counts.
void StackLog::add(const stacks::Module& module) {
  if (const auto known = modules_.find(module.begin);
      known != modules_.end() && known->second == &module)
    return;
  std::erase_if(modules_, [&](const auto& entry) {
    return entry.second->begin < module.end && module.begin < entry.second->end;
  });
  modules_[module.begin] = &module;
  text_ += fmt::format(R"({{"kind":"module","base":"{:#x}","begin":"{:#x}","end":"{:#x}",)",
                       module.base, module.begin, module.end);
  text_ += fmt::format(R"("build_id":"{}","path":)", module.build_id);
  trace::append_json(text_, module.path);
  text_ += "}\n";
}

}  // namespace flexlom
