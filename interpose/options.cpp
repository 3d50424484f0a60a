#include "interpose/options.h"

#include <algorithm>
#include <iterator>
#include <optional>

namespace flexlom {
namespace {

// strtod() follows the program's locale, and "1.5G" must mean the same in all of them.
char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }
bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_space(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

std::string_view trim(std::string_view text) {
  while (!text.empty() && is_space(text.front())) text.remove_prefix(1);
  while (!text.empty() && is_space(text.back())) text.remove_suffix(1);
  return text;
}

bool same_word(std::string_view a, std::string_view b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [](char x, char y) { return lower(x) == lower(y); });
}

// Takes digits with an optional fraction off the front of text.
std::optional<double> take_number(std::string_view& text) {
  double whole = 0, fraction = 0, scale = 1;
  size_t i = 0, digits = 0;
  for (; i < text.size() && is_digit(text[i]); i++, digits++) whole = whole * 10 + (text[i] - '0');
  if (i < text.size() && text[i] == '.') {
    for (i++; i < text.size() && is_digit(text[i]); i++, digits++) {
      scale /= 10;
      fraction += (text[i] - '0') * scale;
    }
  }
  if (digits == 0) return std::nullopt;
  text.remove_prefix(i);
  return whole + fraction;
}

// The factor of "", "K", "KB", "KiB", ... in any case; all are powers of 1024.
std::optional<double> unit_of(std::string_view text) {
  if (text.empty() || same_word(text, "b")) return 1;
  double factor = 1;
  for (char unit : {'k', 'm', 'g', 't'}) {
    factor *= 1024;
    if (lower(text[0]) != unit) continue;
    std::string_view rest = text.substr(1);
    if (rest.empty() || same_word(rest, "b") || same_word(rest, "ib")) return factor;
  }
  return std::nullopt;
}

bool parse(std::string_view text, Limit& out) {
  constexpr double most_bytes = 9007199254740992.0;  // 2^53: whole numbers of a double end here
  constexpr double least_without_unit = 1 << 20;
  text = trim(text);
  std::optional<double> number = take_number(text);
  if (!number) return false;
  text = trim(text);
  if (text == "%") {
    if (*number > 100) return false;
    out = {Limit::Kind::percent, *number};
    return true;
  }
  std::optional<double> unit = unit_of(text);
  if (!unit) return false;
  // "24" is far more likely a forgotten G than a wish for 24 bytes.
  if (text.empty() && *number > 0 && *number < least_without_unit) return false;
  double bytes = *number * *unit;
  if (!(bytes < most_bytes)) return false;
  out = {Limit::Kind::bytes, static_cast<double>(static_cast<uint64_t>(bytes))};
  return true;
}

std::optional<int> parse_ordinal(std::string_view text) {
  if (text.empty() || text.size() > 4) return std::nullopt;
  int ordinal = 0;
  for (char c : text) {
    if (!is_digit(c)) return std::nullopt;
    ordinal = ordinal * 10 + (c - '0');
  }
  return ordinal;
}

bool parse(std::string_view text, DeviceLimits& out) {
  DeviceLimits limits;
  for (bool more = true; more;) {
    size_t comma = text.find(',');
    std::string_view entry = trim(text.substr(0, comma));
    more = comma != std::string_view::npos;
    if (more) text.remove_prefix(comma + 1);

    Limit limit;
    size_t colon = entry.find(':');
    if (colon == std::string_view::npos) {
      if (limits.all.kind != Limit::Kind::unset || !parse(entry, limit)) return false;
      limits.all = limit;
      continue;
    }
    std::optional<int> ordinal = parse_ordinal(trim(entry.substr(0, colon)));
    if (!ordinal || !parse(entry.substr(colon + 1), limit)) return false;
    for (const auto& [device, unused] : limits.each) {
      if (device == *ordinal) return false;
    }
    limits.each.emplace_back(*ordinal, limit);
  }
  out = std::move(limits);
  return true;
}

bool parse(std::string_view text, std::string& out) {
  out = text;
  return !text.empty();
}

bool parse(std::string_view text, bool& out) {
  text = trim(text);
  for (const char* word : {"1", "on", "yes", "true"}) {
    if (same_word(text, word)) return out = true;
  }
  for (const char* word : {"0", "off", "no", "false"}) {
    if (same_word(text, word)) {
      out = false;
      return true;
    }
  }
  return false;
}

bool parse(std::string_view text, SoftOom& out) {
  bool on = false;
  if (same_word(trim(text), "auto")) {
    out = SoftOom::automatic;
    return true;
  }
  if (!parse(text, on)) return false;
  out = on ? SoftOom::on : SoftOom::off;
  return true;
}

bool parse(std::string_view text, Policy& out) {
  text = trim(text);
  constexpr std::pair<const char*, Policy> kNames[] = {
      {"auto", Policy::automatic}, {"pin", Policy::pin}, {"lru", Policy::lru}};
  for (const auto& [name, policy] : kNames) {
    if (!same_word(text, name)) continue;
    out = policy;
    return true;
  }
  return false;
}

bool parse(std::string_view text, Safety& out) {
  text = trim(text);
  if (!same_word(text, "strict") && !same_word(text, "tracked")) return false;
  out = same_word(text, "tracked") ? Safety::tracked : Safety::strict;
  return true;
}

bool parse(std::string_view text, GuardFill& out) {
  text = trim(text);
  if (same_word(text, "nan") || same_word(text, "off")) {
    out = {};
    out.fill = same_word(text, "nan");
    return true;
  }
  if (text.size() < 3 || text.size() > 10 || !same_word(text.substr(0, 2), "0x")) return false;
  uint32_t value = 0;
  for (const char c : text.substr(2)) {
    const char low = lower(c);
    const bool letter = low >= 'a' && low <= 'f';
    if (!is_digit(c) && !letter) return false;
    value = value << 4 | static_cast<uint32_t>(letter ? low - 'a' + 10 : c - '0');
  }
  out.pattern = value;
  out.fill = true;
  return true;
}

bool parse(std::string_view text, StackMode& out) {
  text = trim(text);
  constexpr std::pair<const char*, StackMode> kNames[] = {{"auto", StackMode::automatic},
                                                          {"fp", StackMode::fp},
                                                          {"dwarf", StackMode::dwarf},
                                                          {"off", StackMode::off}};
  for (const auto& [name, mode] : kNames) {
    if (!same_word(text, name)) continue;
    out = mode;
    return true;
  }
  bool on = true;  // "0" and "no" are "off"; which way "on" means is not known
  if (!parse(text, on) || on) return false;
  out = StackMode::off;
  return true;
}

bool parse(std::string_view text, StackDepth& out) {
  constexpr uint32_t most = 128;
  const std::optional<int> frames = parse_ordinal(trim(text));
  if (!frames || *frames < 1 || static_cast<uint32_t>(*frames) > most) return false;
  out.frames = static_cast<uint32_t>(*frames);
  return true;
}

bool parse(std::string_view text, ExitStatus& out) {
  const std::optional<int> status = parse_ordinal(trim(text));
  if (!status || *status > 255) return false;
  out.status = *status;
  return true;
}

bool parse(std::string_view text, int64_t& out) {
  text = trim(text);
  if (text == "-1") {
    out = -1;
    return true;
  }
  if (text.empty() || text.size() > 12) return false;  // 12 digits: 31 years, and no overflow
  int64_t value = 0;
  for (char c : text) {
    if (!is_digit(c)) return false;
    value = value * 10 + (c - '0');
  }
  out = value;
  return true;
}

bool parse(std::string_view text, Seconds& out) {
  text = trim(text);
  if (!text.empty() && lower(text.back()) == 's') text = trim(text.substr(0, text.size() - 1));
  if (text.empty() || text.size() > 6) return false;  // 6 digits: 11 days, and no overflow
  uint32_t value = 0;
  for (char c : text) {
    if (!is_digit(c)) return false;
    value = value * 10 + static_cast<uint32_t>(c - '0');
  }
  out.seconds = value;
  return true;
}

}  // namespace

uint64_t Limit::of(uint64_t total_bytes) const noexcept {
  switch (kind) {
    case Kind::bytes:
      return static_cast<uint64_t>(value);
    case Kind::percent:
      // The share of a whole never exceeds it, whatever the rounding of large totals.
      return std::min(total_bytes,
                      static_cast<uint64_t>(static_cast<long double>(total_bytes) * value / 100));
    case Kind::unset:
      break;
  }
  return total_bytes;
}

Limit DeviceLimits::for_device(int ordinal) const noexcept {
  for (const auto& [device, limit] : each) {
    if (device == ordinal) return limit;
  }
  return all;
}

Options parse_options(GetEnv get, std::vector<OptionError>* errors) noexcept {
  try {
    Options options;
#define FLEXLOM_OPTION(FIELD, VARIABLE, OPTION, KIND, DEFAULT, ACCEPTED, HELP)          \
  if (const char* text = get("FLEXLOM_" #VARIABLE); text != nullptr && *text != '\0') { \
    if (!parse(text, options.FIELD) && errors != nullptr)                               \
      errors->push_back({"FLEXLOM_" #VARIABLE, text, ACCEPTED, DEFAULT});               \
  }
#include "interpose/options.def"
#undef FLEXLOM_OPTION
    return options;
  } catch (...) {
    return {};
  }
}

const OptionRow option_table[] = {
#define FLEXLOM_OPTION(FIELD, VARIABLE, OPTION, KIND, DEFAULT, ACCEPTED, HELP) \
  {"FLEXLOM_" #VARIABLE, OPTION, OptionKind::KIND, DEFAULT, ACCEPTED, HELP},
#include "interpose/options.def"
#undef FLEXLOM_OPTION
};
const size_t option_count = std::size(option_table);

bool OptionRow::accepts(std::string_view text) const noexcept {
  try {
    Options scratch;
#define FLEXLOM_OPTION(FIELD, VARIABLE, OPTION, KIND, DEFAULT, ACCEPTED, HELP) \
  if (std::string_view(option) == OPTION) return parse(text, scratch.FIELD);
#include "interpose/options.def"
#undef FLEXLOM_OPTION
  } catch (...) {
  }
  return false;
}

const char* name_of(OptionKind kind) noexcept {
  switch (kind) {
    case OptionKind::device_limits:
      return "device_limits";
    case OptionKind::limit:
      return "limit";
    case OptionKind::path:
      return "path";
    case OptionKind::flag:
      return "flag";
    case OptionKind::choice:
      return "choice";
    case OptionKind::milliseconds:
      return "milliseconds";
    case OptionKind::seconds:
      return "seconds";
    case OptionKind::count:
      return "count";
  }
  return "";
}

}  // namespace flexlom
