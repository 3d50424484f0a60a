#include "interpose/tool/line_finder.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <charconv>
#include <string_view>

#include "interpose/tool/target.h"

extern char** environ;

namespace flexlom::tool {
namespace {

// Answers of two lines for each function, and an address before them (-a): the address of the next
// question is the end of an answer.
constexpr std::string_view sentinel = "0xfffffffffffffff0";

bool is_address(std::string_view line) { return line.starts_with("0x"); }

// "/src/a.cpp:12 (discriminator 3)", "??:0", "a.cpp:?"
void take_place(std::string_view text, trace::FrameLabel* label) {
  if (const size_t extra = text.find(" (discriminator"); extra != text.npos)
    text = text.substr(0, extra);
  const size_t colon = text.rfind(':');
  if (colon == text.npos || text.starts_with("??")) return;
  label->file = text.substr(0, colon);
  const std::string_view line = text.substr(colon + 1);
  std::from_chars(line.data(), line.data() + line.size(), label->line);
}

}  // namespace

std::string LineFinder::installed() {
  for (const char* name : {"llvm-symbolizer", "addr2line"}) {
    if (!find_program(name).path.empty()) return name;
  }
  return "";
}

LineFinder::LineFinder(std::string program, std::string file)
    : program_(program.empty() ? installed() : std::move(program)), file_(std::move(file)) {
  failed_ = program_.empty();
}

LineFinder::~LineFinder() { stop(); }

bool LineFinder::start() {
  // A socket, because writing to one can fail without a signal.
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) return false;
  const bool is_llvm = program_.find("llvm") != std::string::npos;
  std::vector<std::string> words = {program_};
  if (is_llvm) {
    words.insert(words.end(), {"--output-style=GNU", "--no-demangle", "-a", "-f", "-i"});
    words.push_back("--obj=" + file_);
  } else {
    words.insert(words.end(), {"-a", "-f", "-i", "-e", file_});
  }
  std::vector<char*> arguments;
  for (std::string& word : words) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, ends[1], STDIN_FILENO);
  posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
  posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
  const int problem =
      posix_spawnp(&child_, program_.c_str(), &actions, nullptr, arguments.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  close(ends[1]);
  if (problem != 0) {
    close(ends[0]);
    child_ = -1;
    return false;
  }
  socket_ = ends[0];
  const timeval patience{120, 0};  // gigabytes of debug information take a while to index
  setsockopt(socket_, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  return true;
}

void LineFinder::stop() {
  if (socket_ >= 0) close(socket_);
  socket_ = -1;
  if (child_ <= 0) return;
  kill(child_, SIGKILL);
  waitpid(child_, nullptr, 0);
  child_ = -1;
}

bool LineFinder::read_line(std::string* line) {
  constexpr size_t longest = 1 << 20;
  for (;;) {
    const size_t end = held_.find('\n');
    if (end != std::string::npos) {
      *line = held_.substr(0, end);
      held_.erase(0, end + 1);
      return true;
    }
    char bytes[4096];
    const ssize_t size = recv(socket_, bytes, sizeof bytes, 0);
    if (size <= 0 || held_.size() > longest) return false;
    held_.append(bytes, static_cast<size_t>(size));
  }
}

std::vector<trace::FrameLabel> LineFinder::find(uint64_t address) {
  std::vector<trace::FrameLabel> found;
  if (failed_ || (socket_ < 0 && !start())) {
    failed_ = true;
    return found;
  }
  const std::string question = fmt::format("{:#x}\n{}\n", address, sentinel);
  std::string line, place;
  bool good = send(socket_, question.data(), question.size(), MSG_NOSIGNAL) ==
              static_cast<ssize_t>(question.size());
  good = good && read_line(&line) && is_address(line);
  // The answer, then the question for the sentinel, then what is said of that.
  while (good && (good = read_line(&line)) && !is_address(line)) {
    good = read_line(&place);
    trace::FrameLabel label;
    if (line != "??") label.function = line;
    take_place(place, &label);
    if (!label.function.empty() || !label.file.empty()) found.push_back(std::move(label));
  }
  good = good && read_line(&line) && read_line(&place);
  if (!good) {
    failed_ = true;
    found.clear();
    stop();
  }
  return found;
}

}  // namespace flexlom::tool
