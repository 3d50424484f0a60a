#include "interpose/tool/child.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <string_view>

#include "interpose/tool/locate.h"

namespace flexlom::tool {
namespace {

using Clock = std::chrono::steady_clock;

std::vector<std::string> environment_with(const Variables& variables) {
  std::vector<std::string> environment;
  for (char** entry = environ; *entry != nullptr; entry++) {
    std::string_view text(*entry);
    std::string_view name = text.substr(0, text.find('='));
    bool replaced = std::any_of(variables.begin(), variables.end(),
                                [name](const auto& variable) { return variable.first == name; });
    if (!replaced) environment.emplace_back(text);
  }
  for (const auto& [name, value] : variables) {
    if (!value.empty()) environment.push_back(name + "=" + value);
  }
  return environment;
}

std::vector<char*> pointers(std::vector<std::string>& words) {
  std::vector<char*> out;
  for (std::string& word : words) out.push_back(word.data());
  out.push_back(nullptr);
  return out;
}

struct Pipe {
  int ends[2] = {-1, -1};
  Pipe() {
    if (pipe2(ends, O_CLOEXEC) != 0) ends[0] = ends[1] = -1;
  }
  ~Pipe() {
    close_end(0);
    close_end(1);
  }
  void close_end(int which) {
    if (ends[which] >= 0) close(ends[which]);
    ends[which] = -1;
  }
};

// Reads both pipes until they are closed or the time is over; false: it is over.
bool collect(Pipe& output, Pipe& errors, ChildResult& result, Clock::time_point deadline) {
  constexpr size_t most_bytes = 1 << 20;
  while (output.ends[0] >= 0 || errors.ends[0] >= 0) {
    auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline - Clock::now());
    if (left.count() <= 0) return false;
    pollfd wanted[2] = {{output.ends[0], POLLIN, 0}, {errors.ends[0], POLLIN, 0}};
    int ready = poll(wanted, 2, static_cast<int>(left.count()));
    if (ready < 0 && errno != EINTR) return false;
    if (ready <= 0) continue;
    for (int i = 0; i < 2; i++) {
      if (wanted[i].revents == 0) continue;
      char text[4096];
      ssize_t size = read(wanted[i].fd, text, sizeof text);
      if (size <= 0) (i == 0 ? output : errors).close_end(0);
      std::string& sink = i == 0 ? result.output : result.errors;
      if (size > 0 && sink.size() < most_bytes) sink.append(text, static_cast<size_t>(size));
    }
  }
  return true;
}

// Waits until the deadline. A child stuck in the kernel cannot even be killed: leave it then.
bool reap(pid_t child, int& status, Clock::time_point deadline) {
  for (;;) {
    pid_t done = waitpid(child, &status, WNOHANG);
    if (done == child || (done < 0 && errno != EINTR)) return done == child;
    if (Clock::now() >= deadline) return false;
    usleep(2000);
  }
}

}  // namespace

ChildResult run_self(const std::vector<std::string>& arguments, const Variables& variables,
                     std::chrono::seconds patience) {
  ChildResult result;
  std::vector<std::string> words = arguments;
  words.insert(words.begin(), own_executable());
  std::vector<std::string> environment = environment_with(variables);
  std::vector<char*> argv = pointers(words), envp = pointers(environment);

  Pipe output, errors;
  if (output.ends[0] < 0 || errors.ends[0] < 0) return result;
  auto deadline = Clock::now() + patience;
  pid_t child = fork();
  if (child < 0) return result;
  if (child == 0) {
    dup2(output.ends[1], STDOUT_FILENO);
    dup2(errors.ends[1], STDERR_FILENO);
    execve(argv[0], argv.data(), envp.data());
    _exit(127);
  }
  output.close_end(1);
  errors.close_end(1);
  result.started = true;
  int status = 0;
  bool ended = collect(output, errors, result, deadline) && reap(child, status, deadline);
  if (!ended) {
    result.timed_out = true;
    kill(child, SIGKILL);
    reap(child, status, Clock::now() + std::chrono::seconds(1));
  } else if (WIFEXITED(status)) {
    result.exit_code = WEXITSTATUS(status);
  } else {
    result.signal = WTERMSIG(status);
  }
  return result;
}

}  // namespace flexlom::tool
