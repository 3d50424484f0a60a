// flexlom, the command: starts programs under libflexlom.so and reads what it wrote.
#include <errno.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <string.h>
#include <unistd.h>

#include <cstdio>
#include <string>
#include <string_view>
#include <system_error>

#include "interpose/tool/commands.h"
#include "interpose/tool/output.h"
#include "interpose/trace/writer.h"

namespace {

using namespace flexlom::tool;

constexpr const char* help_text = R"(usage: flexlom COMMAND ...

  flexlom run [OPTIONS] -- PROGRAM [ARGUMENTS]   run a program with more GPU memory
  flexlom report [OPTIONS] LOG...                what trace logs say
  flexlom export --to FORMAT [-o FILE] LOG       a trace log for the viewers of other tools
  flexlom advise [OPTIONS] LOG                   what a smaller GPU would do to a job
  flexlom replay [OPTIONS] LOG                   a job's allocations against other allocators
  flexlom top [--once] [--json]                  processes under flexlom, and what they hold
  flexlom leaks [OPTIONS] LOG                    what was never freed
  flexlom html [-o FILE] LOG                     pictures of a trace log, for a browser
  flexlom doctor [--json] [-- PROGRAM]           check this machine
  flexlom options [--json]                       list all options and variables
  flexlom version
  flexlom help [COMMAND]

The same without the launcher:  LD_PRELOAD=/path/to/libflexlom.so PROGRAM [ARGUMENTS]
)";

int version_command(Words) {
  fmt::print("flexlom {} (trace log format {})\n", FLEXLOM_VERSION, flexlom::trace::format_version);
  return 0;
}

struct Command {
  std::string_view name;
  int (*run)(Words);
};

constexpr Command commands[] = {
    {"run", run_command},
    {"doctor", doctor_command},
    {"options", options_command},
    {"report", report_command},
    {"export", export_command},
    {"version", version_command},
    {"advise", advise_command},
    {"replay", replay_command},
    {"internal-replay", replay_child_command},
    {"leaks", leaks_command},
    {"html", html_command},
    {"top", top_command},
    {"--version", version_command},
    {"internal-probe", probe_command},
    {"internal-complete", complete_command},
    {"internal-stacks", stacks_command},
};

const Command* find(std::string_view name) {
  for (const Command& command : commands) {
    if (command.name == name) return &command;
  }
  return nullptr;
}

int help_command(Words words) {
  if (words.empty()) {
    fmt::print("{}", help_text);
    return 0;
  }
  const Command* command = find(words[0]);
  if (command == nullptr) {
    complain(fmt::format("there is no command '{}'; see flexlom help", words[0]));
    return exit_usage;
  }
  char help_option[] = "--help";
  char* const only_help[] = {help_option};
  return command->run(Words(only_help, 1));
}

// The status of a command that could not do its work: as each documents it.
int status_of_failure(std::string_view name) {
  if (name == "run") return exit_launcher_failed;
  return name == "leaks" ? exit_usage : 1;  // 1 of leaks: there are some
}

// A file opened while standard output is closed would get its number, and the text printed.
void keep_closed_output_closed() {
  if (fcntl(STDOUT_FILENO, F_GETFD) != -1) return;
  const int unwritable = open("/dev/null", O_RDONLY | O_CLOEXEC);
  if (unwritable < 0 || unwritable == STDOUT_FILENO) return;
  dup3(unwritable, STDOUT_FILENO, O_CLOEXEC);
  close(unwritable);
}

int dispatch(Words words) {
  if (words.empty()) {
    fmt::print(stderr, "{}", help_text);
    return exit_usage;
  }
  const std::string_view name = words[0];
  if (name == "help" || name == "--help" || name == "-h") return help_command(words.subspan(1));
  const Command* command = find(name);
  if (command == nullptr) {
    complain(fmt::format("there is no command '{}'; see flexlom help", name));
    return exit_usage;
  }
  if (name != "run") keep_closed_output_closed();  // that is the program's affair
  return command->run(words.subspan(1));
}

// Why not all that was printed has been written; 0 when it has.
int output_error() {
  errno = 0;
  if (fflush(stdout) == 0 && ferror(stdout) == 0) return 0;
  return errno == 0 ? EIO : errno;
}

}  // namespace

int main(int argc, char** argv) {
  const Words words(argv + 1, argc > 0 ? static_cast<size_t>(argc - 1) : 0);
  const int failed = status_of_failure(words.empty() ? "" : words[0]);
  int status = failed;
  std::string problem;
  int error = 0;
  try {
    status = dispatch(words);
  } catch (const std::system_error& thrown) {  // fmt throws it, too
    if (ferror(stdout) != 0) error = thrown.code().value();
    problem = thrown.what();
  } catch (const std::exception& thrown) {
    problem = thrown.what();
  }
  if (error == 0) error = output_error();
  if (error == EPIPE) return status;  // the reader has seen enough
  if (error != 0) problem = fmt::format("standard output: {}", strerror(error));
  if (problem.empty()) return status;
  complain(problem);
  return failed;
}
