// flexlom run: sets the variables that the options stand for and becomes the program.
#include <errno.h>
#include <fmt/format.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "interpose/options.h"
#include "interpose/tool/commands.h"
#include "interpose/tool/locate.h"
#include "interpose/tool/output.h"
#include "interpose/tool/preload.h"
#include "interpose/tool/target.h"
#include "interpose/trace/path_template.h"

namespace flexlom::tool {
namespace {

struct Request {
  std::vector<std::pair<std::string, std::string>> variables;
  bool dry_run = false, force = false, help = false, python = false;
  std::string library;
  Words program;
  std::string error;  // not empty: the words were not understood
};

const OptionRow* find_option(std::string_view name) {
  for (size_t i = 0; i < option_count; i++) {
    if (name == option_table[i].option) return &option_table[i];
  }
  return nullptr;
}

std::string unknown_option(std::string_view name) {
  std::string message = fmt::format("unknown option --{}", name);
  constexpr size_t most_edits = 3;
  size_t best = most_edits + 1;
  std::string nearest;
  for (size_t i = 0; i < option_count; i++) {
    size_t edits = edit_distance(name, option_table[i].option);
    if (edits < best) {
      best = edits;
      nearest = option_table[i].option;
    }
  }
  return message + (nearest.empty() ? "" : fmt::format(", did you mean --{}?", nearest));
}

// The reason why a value cannot be used, or "".
std::string value_problem(const OptionRow& row, const std::string& value) {
  if (!row.accepts(value))
    return fmt::format("--{}: '{}' is not understood; accepted: {}", row.option, value,
                       row.accepted);
  if (row.kind != OptionKind::path) return "";
  // A variable that only the program's children have (a rank, say) may be missing here.
  std::string error;
  auto any = [](const char*) -> const char* { return "x"; };
  if (trace::expand_path_template(value, any, &error)) return "";
  return fmt::format("--{}: '{}': {}", row.option, value, error);
}

Request parse_words(Words words) {
  Request request;
  size_t i = 0;
  for (; i < words.size() && request.error.empty(); i++) {
    std::string_view word = words[i];
    if (word == "--") {
      i++;
      break;
    }
    if (!word.starts_with("-") || word == "-") break;
    if (word == "-h") word = "--help";
    if (!word.starts_with("--")) {
      request.error = fmt::format("unknown option {}", word);
      break;
    }
    word.remove_prefix(2);
    size_t equals = word.find('=');
    std::string_view name = word.substr(0, equals);
    bool has_value = equals != std::string_view::npos;
    std::string value(has_value ? word.substr(equals + 1) : "");

    if ((name == "dry-run" || name == "force" || name == "help" || name == "python") &&
        !has_value) {
      request.python |= name == "python";
      request.dry_run |= name == "dry-run";
      request.force |= name == "force";
      request.help |= name == "help";
      continue;
    }
    const OptionRow* row = find_option(name);
    bool is_flag = row != nullptr && row->kind == OptionKind::flag;
    if (row == nullptr && name.starts_with("no-") && !has_value) {
      const OptionRow* positive = find_option(name.substr(3));
      if (positive != nullptr && positive->kind == OptionKind::flag) {
        request.variables.emplace_back(positive->variable, "0");
        continue;
      }
    }
    if (row == nullptr && name != "library") {
      request.error = unknown_option(name);
    } else if (is_flag && !has_value) {
      request.variables.emplace_back(row->variable, "1");
    } else {
      if (!has_value) {
        if (i + 1 == words.size()) {
          request.error = fmt::format("--{} needs a value", name);
          break;
        }
        value = words[++i];
      }
      if (row == nullptr) {
        request.library = value;
      } else {
        request.error = value_problem(*row, value);
        request.variables.emplace_back(row->variable, value);
      }
    }
  }
  request.program = words.subspan(i);
  if (request.python) {
    // Without callers there would be nothing to name.
    request.variables.emplace_back("PYTHONPERFSUPPORT", "1");
    const bool said = std::any_of(request.variables.begin(), request.variables.end(),
                                  [](const auto& v) { return v.first == "FLEXLOM_STACKS"; });
    if (!said && getenv("FLEXLOM_STACKS") == nullptr)
      request.variables.emplace_back("FLEXLOM_STACKS", "dwarf");
  }
  return request;
}

void print_help() {
  fmt::print("usage: flexlom run [OPTIONS] [--] PROGRAM [ARGUMENTS]\n\n");
  for (size_t i = 0; i < option_count; i++) {
    const OptionRow& row = option_table[i];
    bool is_flag = row.kind == OptionKind::flag;
    fmt::print("  --{}{}\n      {}\n", row.option, is_flag ? "" : " VALUE", row.help);
    if (!is_flag) fmt::print("      Accepted: {}. Default: {}.\n", row.accepted, row.default_value);
  }
  fmt::print(
      "  --dry-run\n      Print the command line that would be run, and stop.\n"
      "  --python\n      Let CPython 3.12 and newer tell which of its functions a frame is "
      "(PYTHONPERFSUPPORT=1):\n      reports then name Python's functions. Implies --stacks dwarf "
      "unless another is given.\n"
      "  --force\n      Run programs that cannot be preloaded: their children may be.\n"
      "  --library FILE\n      Use this libflexlom.so.\n\n"
      "Switches take =off, or --no-NAME. The exit status is the program's own; 125, 126 and 127\n"
      "are the launcher's: bad usage, a program that cannot run, a program that is not there.\n");
}

int fail(int status, std::string_view message) {
  complain(fmt::format("run: {}", message));
  return status;
}

// Absolute and fit for LD_PRELOAD, or empty with `error` set.
std::string usable_library(const std::string& given, std::string& error) {
  std::string looked_in, library;
  if (given.empty()) {
    library = find_library(&looked_in);
    if (library.empty()) error = fmt::format("libflexlom.so is not there; looked in {}", looked_in);
  } else {
    char* real = realpath(given.c_str(), nullptr);
    if (real == nullptr) error = fmt::format("{}: {}", given, strerror(errno));
    library = real != nullptr ? real : "";
    free(real);
  }
  if (library.find_first_of(": \t\n") != std::string::npos) {
    error = fmt::format("'{}': LD_PRELOAD cannot hold a path with a space or a colon", library);
    library.clear();
  }
  return library;
}

void print_line(const Request& request, const std::string& preload) {
  std::string line;
  for (const auto& [name, value] : request.variables)
    line += fmt::format("{}={} ", name, shell_quote(value));
  line += fmt::format("LD_PRELOAD={}", shell_quote(preload));
  bool first = true;
  for (const char* word : request.program) {
    // Before a program, a shell would take "name=value" for another variable.
    bool is_assignment = first && std::string_view(word).find('=') != std::string_view::npos;
    line += is_assignment ? " env -- " : " ";
    line += shell_quote(word);
    first = false;
  }
  fmt::print("{}\n", line);
}

}  // namespace

int run_command(Words words) {
  Request request = parse_words(words);
  if (!request.error.empty()) return fail(exit_launcher_failed, request.error);
  if (request.help) {
    print_help();
    return 0;
  }
  if (request.program.empty())
    return fail(exit_launcher_failed, "no program given; see flexlom help run");
  for (const UnknownVariable& unknown : unknown_variables(environ)) {
    complain(fmt::format("warning: {} is not a variable of flexlom{}", unknown.name,
                         unknown.nearest.empty() ? "" : ", did you mean " + unknown.nearest + "?"));
  }

  std::string error;
  std::string library = usable_library(request.library, error);
  if (library.empty()) return fail(exit_launcher_failed, error);

  Found found = find_program(request.program[0]);
  if (found.path.empty()) {
    bool absent = found.error == ENOENT;
    return fail(absent ? exit_not_found : exit_cannot_execute,
                fmt::format("{}: {}", request.program[0],
                            absent ? "no such program" : "not a program that can be executed"));
  }
  Target target = inspect_target(found.path);
  if (!target.cannot_start.empty()) return fail(exit_cannot_execute, target.cannot_start);
  if (!target.cannot_preload.empty() && !request.force) {
    return fail(exit_launcher_failed,
                target.cannot_preload +
                    ". flexlom cannot work in it (--force runs it all the same, for the sake of "
                    "what it starts)");
  }
  if (!target.not_checked.empty()) complain("warning: " + target.not_checked);

  const char* users = getenv("LD_PRELOAD");
  std::string preload =
      preload_value(users != nullptr ? users : "", library, sanitizer_among(target.needed));
  if (request.dry_run) {
    print_line(request, preload);
    return 0;
  }
  for (const auto& [name, value] : request.variables) setenv(name.c_str(), value.c_str(), 1);
  setenv("LD_PRELOAD", preload.c_str(), 1);
  execvp(request.program[0], request.program.data());
  return fail(errno == ENOENT ? exit_not_found : exit_cannot_execute,
              fmt::format("{}: {}", request.program[0], strerror(errno)));
}

}  // namespace flexlom::tool
