// flexlom, the command: starts programs under libflexlom.so and reads what it wrote.
#include <fmt/format.h>

#include <cstdio>
#include <string_view>

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

}  // namespace

int main(int argc, char** argv) {
  try {
    Words words(argv + 1, argc > 0 ? static_cast<size_t>(argc - 1) : 0);
    if (words.empty()) {
      fmt::print(stderr, "{}", help_text);
      return exit_usage;
    }
    std::string_view name = words[0];
    if (name == "help" || name == "--help" || name == "-h") return help_command(words.subspan(1));
    if (const Command* command = find(name)) return command->run(words.subspan(1));
    complain(fmt::format("there is no command '{}'; see flexlom help", name));
    return exit_usage;
  } catch (const std::exception& problem) {
    complain(problem.what());
    return exit_launcher_failed;
  }
}
