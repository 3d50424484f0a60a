// flexlom options: the table of interpose/options.def as text, JSON or manual page.
#include <fmt/format.h>

#include <cstdio>
#include <cstring>
#include <span>
#include <string>
#include <string_view>

#include "interpose/options.h"
#include "interpose/tool/commands.h"
#include "interpose/tool/output.h"

namespace flexlom::tool {
namespace {

std::span<const OptionRow> rows() { return {option_table, option_count}; }

// Breaks text into lines of at most `width` columns, each after `indent` spaces.
std::string wrapped(std::string_view text, size_t indent, size_t width) {
  std::string out, line;
  auto flush = [&] {
    if (!line.empty()) out += std::string(indent, ' ') + line + "\n";
    line.clear();
  };
  while (!text.empty()) {
    std::string_view word = text.substr(0, text.find(' '));
    text.remove_prefix(word.size() == text.size() ? word.size() : word.size() + 1);
    if (!line.empty() && indent + line.size() + 1 + word.size() > width) flush();
    if (!line.empty()) line += ' ';
    line += word;
  }
  flush();
  return out;
}

std::string usage_of(const OptionRow& row) {
  return row.kind == OptionKind::flag ? fmt::format("--{}", row.option)
                                      : fmt::format("--{} VALUE", row.option);
}

void print_text() {
  for (const OptionRow& row : rows()) {
    fmt::print("{}  ({})\n{}    accepted: {}\n    default:  {}\n\n", row.variable, usage_of(row),
               wrapped(row.help, 4, 96), row.accepted, row.default_value);
  }
}

void print_json() {
  std::string out;
  for (const OptionRow& row : rows()) {
    out += fmt::format(
        R"({}  {{"variable":{},"option":{},"kind":{},"default":{},"accepted":{},"help":{}}})",
        out.empty() ? "" : ",\n", json_string(row.variable),
        json_string(std::string("--") + row.option), json_string(name_of(row.kind)),
        json_string(row.default_value), json_string(row.accepted), json_string(row.help));
  }
  fmt::print("[\n{}\n]\n", out);
}

// Text for troff: no escapes, no requests by accident, and hyphens that can be copied.
std::string troff(std::string_view text) {
  std::string out;
  for (char c : text) {
    if (c == '\\') {
      out += "\\e";
    } else if (c == '-') {
      out += "\\-";
    } else {
      out += c;
    }
  }
  if (out.starts_with('.') || out.starts_with('\'')) out.insert(0, "\\&");
  return out;
}

// Replaces the line "@OPTIONS@" of the manual's frame by two lists, and "@VERSION@" anywhere.
bool print_man(const char* frame_path) {
  FILE* frame = fopen(frame_path, "r");
  if (frame == nullptr) {
    complain(fmt::format("{}: {}", frame_path, strerror(errno)));
    return false;
  }
  char line[4096];
  while (fgets(line, sizeof line, frame) != nullptr) {
    std::string text = line;
    if (size_t at = text.find("@VERSION@"); at != std::string::npos)
      text.replace(at, strlen("@VERSION@"), FLEXLOM_VERSION);
    if (text != "@OPTIONS@\n") {
      fmt::print("{}", text);
      continue;
    }
    for (const OptionRow& row : rows()) {
      bool is_flag = row.kind == OptionKind::flag;
      fmt::print(".TP\n.BR {}{} \", \" {}\n{}\nAccepted: {}.\nDefault: {}.\n",
                 troff(std::string("--") + row.option), is_flag ? "" : "=\\fIvalue\\fR",
                 troff(row.variable), troff(row.help), troff(row.accepted),
                 troff(row.default_value));
    }
  }
  fclose(frame);
  return true;
}

}  // namespace

int options_command(Words words) {
  std::string_view form = words.empty() ? "" : words[0];
  if (form.empty()) {
    print_text();
  } else if (form == "--json") {
    print_json();
  } else if (form == "--man" && words.size() == 2) {
    return print_man(words[1]) ? 0 : 1;
  } else if (form == "--help") {
    fmt::print("usage: flexlom options [--json | --man FRAME]\n");
  } else {
    complain(fmt::format("options: unknown argument '{}'; see flexlom help options", form));
    return exit_usage;
  }
  return 0;
}

}  // namespace flexlom::tool
