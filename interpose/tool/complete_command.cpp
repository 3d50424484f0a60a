// flexlom internal-complete: what the word being typed could become. The completions of all shells
// (scripts/completions) ask it, and it asks the help texts and the table of options, so that none
// of them has a list of its own to forget something in.
//
//   internal-complete WORD...    the words after "flexlom", the last one being the one typed so far
//
// Prints lines "candidate<TAB>what it is", and for what only the shell knows ":files" or
// ":command N": a command line of its own begins at word N, "flexlom" being 0.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <optional>
#include <regex>
#include <string>
#include <string_view>
#include <vector>

#include "interpose/options.h"
#include "interpose/tool/child.h"
#include "interpose/tool/commands.h"
#include "interpose/tool/export.h"
#include "interpose/tool/top.h"

namespace flexlom::tool {
namespace {

struct Candidate {
  std::string word, about;
};

struct HelpOption {
  std::string name, value, about;  // value: what the help calls it, "" when there is none
};

std::string help_text(const std::vector<std::string>& words) {
  return run_self(words, {}, std::chrono::seconds(5)).output;
}

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    lines.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return lines;
}

// From the lines "  flexlom NAME ARGUMENTS   what it does" of the overview.
std::vector<Candidate> commands() {
  static const std::regex form(R"(^  flexlom ([a-z]+)(?: .*?)?(?:   +(.*))?$)");
  std::vector<Candidate> found;
  for (const std::string& line : lines_of(help_text({"help"}))) {
    std::smatch match;
    if (!std::regex_match(line, match, form)) continue;
    const bool known = std::any_of(found.begin(), found.end(),
                                   [&](const Candidate& c) { return c.word == match[1]; });
    if (!known) found.push_back({match[1], match[2]});
  }
  return found;
}

// From the lines "  --name VALUE  what it is", and from what the usage has besides.
std::vector<HelpOption> options_in(const std::string& help) {
  static const std::regex name(R"((?:^|[ \[|])(--?[a-z][a-z-]*)(?: ([A-Z]+))?)");
  static const std::regex described(R"(^  (--?[a-z][^ ]*(?: [A-Z]+)?.*?)(?:  +(.*))?$)");
  std::vector<HelpOption> found;
  bool in_usage = false;
  std::string* undescribed = nullptr;  // what it is may be in the next line
  for (const std::string& line : lines_of(help)) {
    in_usage = line.starts_with("usage:") || (in_usage && line.starts_with("   "));
    std::smatch match;
    const bool is_described = std::regex_match(line, match, described);
    if (undescribed != nullptr && line.starts_with("      "))
      *undescribed = line.substr(line.find_first_not_of(' '));
    undescribed = nullptr;
    if (!in_usage && !is_described) continue;
    const std::string names = is_described ? match[1].str() : line;
    const std::string about = is_described ? match[2].str() : "";
    for (std::sregex_iterator it(names.begin(), names.end(), name), end; it != end; ++it) {
      auto known = std::find_if(found.begin(), found.end(),
                                [&](const HelpOption& o) { return o.name == (*it)[1]; });
      if (known == found.end()) known = found.insert(known, {(*it)[1], (*it)[2], about});
      if (known->about.empty()) known->about = about;
      if (is_described && about.empty()) undescribed = &known->about;
    }
  }
  found.push_back({"--help", "", "what this command does"});
  return found;
}

std::vector<std::string> words_of(const std::string& list) {
  std::vector<std::string> words;
  static const std::regex word("[^ ,]+");
  for (std::sregex_iterator it(list.begin(), list.end(), word), end; it != end; ++it)
    if (it->str() != "or") words.push_back(it->str());
  return words;
}

struct Values {
  bool files = false;
  std::vector<std::string> words;
};

// What may follow an option; nothing when it takes no value.
std::optional<Values> values_of(const std::vector<HelpOption>& options, std::string_view name) {
  auto option = std::find_if(options.begin(), options.end(),
                             [&](const HelpOption& o) { return o.name == name; });
  if (option == options.end() || option->value.empty()) return std::nullopt;
  if (name == "--to") return Values{false, words_of(format_names())};
  if (name == "--cost") return Values{false, words_of(cost_names())};
  if (name == "--sort") {
    Values orders;
    for (const top::OrderName& order : top::order_names) orders.words.emplace_back(order.word);
    return orders;
  }
  // "--only LIST  of malloc, async, ..."
  static const std::regex choice("of ([a-z]+(, [a-z]+)+)");
  std::smatch match;
  if (std::regex_match(option->about, match, choice)) return Values{false, words_of(match[1])};
  for (size_t i = 0; i < option_count; i++) {
    const OptionRow& row = option_table[i];
    if (name != std::string("--") + row.option) continue;
    if (row.kind == OptionKind::path) return Values{true, {}};
    static const std::regex plain("[a-z]+(, [a-z]+)*( or [a-z]+)?");
    return std::regex_match(row.accepted, plain) ? Values{false, words_of(row.accepted)} : Values{};
  }
  const bool file = option->value == "FILE" || option->value == "BASE" || option->value == "LOG" ||
                    option->value == "FRAME" || option->value == "PATH";
  return Values{file, {}};
}

void offer(const std::vector<Candidate>& candidates, std::string_view typed) {
  for (const Candidate& candidate : candidates)
    if (candidate.word.starts_with(typed))
      fmt::print("{}\t{}\n", candidate.word, candidate.about.substr(0, 120));
}

void offer(const Values& values, const std::string& before, std::string_view typed) {
  if (values.files) fmt::print(":files\n");
  for (const std::string& word : values.words)
    if (word.starts_with(typed)) fmt::print("{}{}\t\n", before, word);
}

// Of `words`, where the first that is neither an option nor a value is; as many as there are when
// there is none before the last.
size_t first_plain(const std::vector<std::string>& words, const std::vector<HelpOption>& options) {
  for (size_t i = 1; i + 1 < words.size(); i++) {
    if (words[i] == "--") return i + 1;
    if (words[i] == "=") {
      i++;  // bash makes a word of it, and the value another
    } else if (!words[i].starts_with("-")) {
      return i;
    } else if (words[i].find('=') == std::string::npos && values_of(options, words[i]) &&
               words[i + 1] != "=") {
      i++;
    }
  }
  return words.size();
}

void complete(const std::vector<std::string>& words) {
  std::string typed = words.back();
  if (words.size() == 1) return offer(commands(), typed);
  const std::string& command = words[0];
  if (command == "help") return offer(commands(), typed);
  const std::string help = help_text({"help", command});
  const std::vector<HelpOption> options = options_in(help);
  const std::string usage = help.substr(0, help.find("\n\n"));

  const size_t plain = first_plain(words, options);
  if (plain < words.size() && usage.find("PROGRAM") != std::string::npos) {
    fmt::print(":command {}\n", plain + 1);
    return;
  }
  // "--name value", "--name=value", and the latter in three words.
  if (typed == "=") typed.clear();
  std::string before = words[words.size() - 2];
  if (before == "=" && words.size() > 2) before = words[words.size() - 3];
  if (const auto values = values_of(options, before)) return offer(*values, "", typed);
  if (const size_t equals = typed.find('='); typed.starts_with("-") && equals != typed.npos) {
    if (const auto values = values_of(options, typed.substr(0, equals)))
      offer(*values, typed.substr(0, equals + 1), typed.substr(equals + 1));
    return;
  }
  if (typed.starts_with("-")) {
    std::vector<Candidate> candidates;
    for (const HelpOption& option : options) candidates.push_back({option.name, option.about});
    return offer(candidates, typed);
  }
  if (usage.find("PROGRAM") != std::string::npos) {
    fmt::print(":command {}\n", words.size());
  } else if (usage.find("LOG") != std::string::npos || usage.find("FILE") != std::string::npos) {
    fmt::print(":files\n");
  }
}

}  // namespace

int complete_command(Words words) {
  if (words.empty()) return exit_usage;
  complete(std::vector<std::string>(words.begin(), words.end()));
  return 0;
}

}  // namespace flexlom::tool
