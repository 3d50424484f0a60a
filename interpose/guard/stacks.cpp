#include "interpose/guard/stacks.h"

#include <fmt/format.h>

#include <string_view>

#include "interpose/ask_tool.h"

namespace flexlom::guard {

namespace {

// Large libraries take their time: gigabytes of debug information are read once.
constexpr int kPatience_ms = 60'000;

CallStacks::Lines without_names(const std::vector<stacks::Stacks::Frame>& frames) {
  CallStacks::Lines lines;
  for (const auto& [address, module] : frames) {
    if (module == nullptr) {
      lines.push_back(fmt::format("{:#x}", address));
      continue;
    }
    const std::string file = module->path.substr(module->path.rfind('/') + 1);
    lines.push_back(fmt::format("{}+{:#x}", file, address - module->base));
  }
  return lines;
}

// The next paragraph of the answer: lines up to an empty one.
CallStacks::Lines take_paragraph(std::string_view* answer) {
  CallStacks::Lines lines;
  for (;;) {
    const size_t end = answer->find('\n');
    if (end == answer->npos) return {};  // cut short
    const std::string_view line = answer->substr(0, end);
    answer->remove_prefix(end + 1);
    if (line.empty()) return lines;
    lines.emplace_back(line);
  }
}

}  // namespace

std::map<uint32_t, CallStacks::Lines> NamedStacks::lines(const std::set<uint32_t>& stacks) {
  std::map<uint32_t, Lines> all;
  StackLog log;
  for (const uint32_t stack : stacks) {
    const auto frames = stacks_.frames(stack);
    all[stack] = without_names(frames);
    log.text() +=
        fmt::format("{{\"kind\":\"guard\",\"t\":0,\"text\":\"\",\"frame\":{}}}\n", log.add(frames));
  }
  const std::string tool = all.empty() ? std::string() : find_tool();
  if (tool.empty()) return all;
  log.text() += "{\"kind\":\"end\",\"t\":0,\"reason\":\"exit\"}\n";
  const std::string answer = ask_tool(tool, {"internal-stacks"}, log.text(), kPatience_ms);
  std::string_view rest = answer;
  for (auto& [stack, lines] : all) {
    if (Lines named = take_paragraph(&rest); !named.empty()) lines = std::move(named);
  }
  return all;
}

}  // namespace flexlom::guard
