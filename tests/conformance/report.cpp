#include "tests/conformance/report.hpp"

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>
#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace flexlom::conformance {

namespace {

std::vector<const Group*>& registered_groups() {
  static std::vector<const Group*> all;
  return all;
}

std::vector<const Helper*>& registered_helpers() {
  static std::vector<const Helper*> all;
  return all;
}

uint64_t capacity = 0;

void write_all(int fd, std::string_view text) {
  while (!text.empty()) {
    const ssize_t written = ::write(fd, text.data(), text.size());
    if (written < 0 && errno == EINTR) {
      continue;
    }
    if (written <= 0) {
      return;
    }
    text.remove_prefix(static_cast<size_t>(written));
  }
}

}  // namespace

Group::Group(const char* group_name, void (*group_body)(), int limit_s)
    : name(group_name), body(group_body), limit_seconds(limit_s) {
  registered_groups().push_back(this);
}

std::vector<const Group*> groups() {
  std::vector<const Group*> all = registered_groups();
  std::sort(all.begin(), all.end(),
            [](const Group* a, const Group* b) { return std::strcmp(a->name, b->name) < 0; });
  return all;
}

void say(std::string_view row, std::string_view answer) {
  static const char* const group = std::getenv("FLEX_CONFORMANCE_GROUP");
  write_all(STDOUT_FILENO, fmt::format("{}.{}\t{}\n", group == nullptr ? "?" : group, row, answer));
}

uint64_t capacity_bytes() { return capacity; }
void set_capacity_bytes(uint64_t bytes) { capacity = bytes; }

Helper::Helper(const char* helper_name, int (*helper_body)(const std::vector<std::string>&))
    : name(helper_name), body(helper_body) {
  registered_helpers().push_back(this);
}

const Helper* find_helper(std::string_view name) {
  for (const Helper* helper : registered_helpers()) {
    if (name == helper->name) {
      return helper;
    }
  }
  return nullptr;
}

RunningHelper::RunningHelper(const std::vector<std::string>& name_and_args) {
  int in[2];
  int out[2];
  if (pipe2(in, O_CLOEXEC) != 0 || pipe2(out, O_CLOEXEC) != 0) {
    throw GroupOver{"no pipe"};
  }
  std::vector<std::string> words = {"conformance", fmt::format("--capacity={}", capacity),
                                    "--helper"};
  words.insert(words.end(), name_and_args.begin(), name_and_args.end());
  std::vector<char*> argv;
  for (std::string& word : words) {
    argv.push_back(word.data());
  }
  argv.push_back(nullptr);
  pid_ = fork();
  if (pid_ == 0) {
    dup2(in[0], STDIN_FILENO);
    dup2(out[1], STDOUT_FILENO);
    execv("/proc/self/exe", argv.data());
    _exit(127);
  }
  close(in[0]);
  close(out[1]);
  to_ = in[1];
  from_ = out[0];
}

RunningHelper::~RunningHelper() {
  if (pid_ > 0) {
    wait();
  }
  close(from_);
}

std::string RunningHelper::read_line() {
  std::string line;
  char c = 0;
  while (::read(from_, &c, 1) == 1 && c != '\n') {
    line += c;
  }
  return line;
}

void RunningHelper::write_line(std::string_view line) { write_all(to_, fmt::format("{}\n", line)); }

std::string RunningHelper::wait() {
  if (to_ >= 0) {
    close(to_);
    to_ = -1;
  }
  int status = 0;
  while (waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
  }
  pid_ = -1;
  return WIFSIGNALED(status) ? fmt::format("crash: signal {}", WTERMSIG(status))
                             : fmt::format("exit {}", WEXITSTATUS(status));
}

std::string ask_helper(const std::vector<std::string>& name_and_args) {
  RunningHelper helper(name_and_args);
  std::string text;
  for (std::string line = helper.read_line(); !line.empty(); line = helper.read_line()) {
    text += (text.empty() ? "" : " ") + line;
  }
  const std::string end = helper.wait();
  if (end != "exit 0") {
    text += (text.empty() ? "" : " ") + end;
  }
  return text;
}

}  // namespace flexlom::conformance
