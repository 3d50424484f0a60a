#include "interpose/leaks.h"

#include <fmt/format.h>
#include <string.h>
#include <unistd.h>

#include <algorithm>
#include <string_view>

#include "interpose/ask_tool.h"

namespace flexlom {
namespace {

void say(std::string_view text, bool quiet) {
  if (quiet) return;
  const std::string line = fmt::format("flexlom[{}]: {}\n", getpid(), text);
  [[maybe_unused]] const ssize_t written = write(STDERR_FILENO, line.data(), line.size());
}

}  // namespace

void LeakCheck::allocated(const pool::Request& request, const pool::AllocationInfo& a,
                          stacks::NodeId caller) noexcept {
  std::lock_guard lock(mutex_);
  ++allocations_;
  try {
    live_[a.base] = {a.base, a.asked_bytes, a.given_bytes, request.call, caller, a.device, false};
  } catch (...) {
    ++missed_;
  }
}

void LeakCheck::freed(const char* call, uint64_t address) noexcept {
  std::lock_guard lock(mutex_);
  const auto found = live_.find(address);
  if (found == live_.end()) return;
  try {
    if (strcmp(call, "context end") == 0) {
      ended_with_context_.push_back(found->second);
      ended_with_context_.back().context_ended = true;
    }
  } catch (...) {
    ++missed_;
  }
  live_.erase(found);
}

std::string LeakCheck::log_of(stacks::Stacks& stacks, const std::vector<Allocation>& leaks) const {
  StackLog stack_log;
  std::string& log = stack_log.text();
  for (const Allocation& a : leaks) {
    const uint32_t frame = stack_log.add(stacks.frames(a.caller));
    const std::string common =
        fmt::format(R"("t":0,"device":{},"address":"{:#x}",)", a.device, a.address);
    log += fmt::format(
        R"({{"kind":"alloc",{}"asked_bytes":{},"given_bytes":{},"call":"{}","frame":{}}})"
        "\n",
        common, a.asked_bytes, a.given_bytes, a.call, frame);
    if (a.context_ended)
      log += fmt::format("{{\"kind\":\"free\",{}\"call\":\"context end\"}}\n", common);
  }
  return log + "{\"kind\":\"end\",\"t\":0,\"reason\":\"exit\"}\n";
}

bool LeakCheck::report(stacks::Stacks& stacks, const Options& options) noexcept {
  try {
    std::vector<Allocation> leaks;
    {
      std::lock_guard lock(mutex_);
      leaks = ended_with_context_;
      for (const auto& [address, allocation] : live_) leaks.push_back(allocation);
    }
    std::stable_sort(leaks.begin(), leaks.end(), [](const Allocation& a, const Allocation& b) {
      return a.context_ended != b.context_ended ? a.context_ended : a.address < b.address;
    });
    if (missed_ != 0)
      say(fmt::format("leaks: {} allocations could not be followed", missed_), options.quiet);
    if (leaks.empty()) {
      say(fmt::format("no leaks: {} freed", allocations_ == 1
                                                ? std::string("1 allocation, and it was")
                                                : fmt::format("{} allocations, all", allocations_)),
          options.quiet);
      return false;
    }
    const std::string tool = find_tool();
    std::vector<std::string> words = {"leaks", "--of", std::to_string(getpid())};
    if (!options.suppressions.empty()) {
      words.emplace_back("--suppressions");
      words.push_back(options.suppressions);
    }
    words.emplace_back("-");
    const std::string answer =
        tool.empty() ? "" : ask_tool(tool, std::move(words), log_of(stacks, leaks), -1);
    if (answer.starts_with("leaks: ")) return answer != "leaks: 0\n";
    uint64_t bytes = 0;
    for (const Allocation& a : leaks) bytes += a.given_bytes;
    say(fmt::format("leaks: {} allocations of {} bytes were never freed. They cannot be named, and "
                    "no suppression holds, because flexlom-tool {}",
                    leaks.size(), bytes, tool.empty() ? "is not beside libflexlom.so" : "failed"),
        false);
    return true;
  } catch (...) {
    return false;  // no memory to say anything with
  }
}

}  // namespace flexlom
