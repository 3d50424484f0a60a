#include "interpose/tool/arguments.h"

#include <fmt/format.h>

#include <charconv>
#include <cmath>

#include "interpose/tool/output.h"

namespace flexlom::tool {
namespace {

// A number that is not negative, and what follows it. Nothing when there is none.
std::optional<double> leading_number(std::string_view text, std::string_view& rest) {
  if (text.empty() || (text[0] != '.' && (text[0] < '0' || text[0] > '9'))) return std::nullopt;
  double value = 0;
  auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (problem != std::errc() || !std::isfinite(value)) return std::nullopt;
  rest = text.substr(static_cast<size_t>(end - text.data()));
  return value;
}

std::optional<uint64_t> rounded(double value) {
  constexpr double most = 9e18;
  if (value > most) return std::nullopt;
  return static_cast<uint64_t>(std::llround(value));
}

}  // namespace

std::optional<std::string_view> Arguments::option() {
  while (!failed_ && next_ < words_.size()) {
    const std::string_view word = words_[next_++];
    if (options_ended_ || word == "-" || !word.starts_with('-')) {
      files_.emplace_back(word);
      continue;
    }
    if (word == "--") {
      options_ended_ = true;
      continue;
    }
    const size_t equals = word.starts_with("--") ? word.find('=') : std::string_view::npos;
    name_ = word.substr(0, equals);
    attached_.reset();
    if (equals != std::string_view::npos) attached_ = word.substr(equals + 1);
    return name_;
  }
  return std::nullopt;
}

void Arguments::complain_about(const std::string& text) {
  complain(fmt::format("{}: {}", command_, text));
  failed_ = true;
}

void Arguments::unknown() {
  complain_about(
      fmt::format("unknown option '{}'; see flexlom help {}", printable(name_), command_));
}

std::optional<std::string> Arguments::value() {
  if (attached_) return std::string(*attached_);
  if (next_ < words_.size()) return std::string(words_[next_++]);
  complain_about(fmt::format("{} needs a value", name_));
  return std::nullopt;
}

std::optional<uint64_t> Arguments::number() {
  const std::optional<std::string> text = value();
  if (!text) return std::nullopt;
  uint64_t found = 0;
  auto [end, problem] = std::from_chars(text->data(), text->data() + text->size(), found);
  if (problem == std::errc() && end == text->data() + text->size()) return found;
  complain_about(fmt::format("{} needs a number, not '{}'", name_, printable(*text)));
  return std::nullopt;
}

std::optional<uint64_t> Arguments::seconds_ns() {
  const std::optional<std::string> text = value();
  if (!text) return std::nullopt;
  std::string_view rest;
  const std::optional<double> found = leading_number(*text, rest);
  if (found && (rest.empty() || rest == "s")) {
    if (auto ns = rounded(*found * 1e9)) return ns;
  }
  complain_about(fmt::format("{} needs seconds, such as 1.5, not '{}'", name_, printable(*text)));
  return std::nullopt;
}

std::optional<uint64_t> Arguments::bytes() {
  const std::optional<std::string> text = value();
  if (!text) return std::nullopt;
  std::string_view rest;
  const std::optional<double> found = leading_number(*text, rest);
  constexpr std::string_view units = "BKMGT";
  if (found) {
    double factor = 1;
    if (!rest.empty()) {
      const size_t unit = units.find(static_cast<char>(rest[0] & ~0x20));
      if (unit != std::string_view::npos) {
        for (size_t i = 0; i < unit; i++) factor *= 1024;
        rest.remove_prefix(1);
        if (unit != 0 && (rest == "iB" || rest == "B")) rest = {};
      }
    }
    if (rest.empty()) {
      if (auto size = rounded(*found * factor)) return size;
    }
  }
  complain_about(
      fmt::format("{} needs a size, such as 64K or 1.5GiB, not '{}'", name_, printable(*text)));
  return std::nullopt;
}

std::optional<std::string> Arguments::one_file() {
  if (!failed_ && files_.empty()) complain_about("the name of a log is missing");
  if (!failed_ && files_.size() > 1)
    complain_about(fmt::format("one log at a time, not {}", files_.size()));
  if (failed_) return std::nullopt;
  return files_.front();
}

}  // namespace flexlom::tool
