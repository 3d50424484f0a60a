#include "interpose/trace/record.h"

#include <algorithm>
#include <array>

namespace flexlom::trace {
namespace {

constexpr auto names = std::to_array<std::string_view>(
    {"header",  "request", "alloc",   "free",          "spill",    "map",   "unmap",
     "promote", "demote",  "gave_up", "out_of_memory", "warning",  "guard", "drop",
     "stats",   "moves",   "module",  "frame",         "perf_map", "end",   "function",
     "launch",  "timed",   "wait",    "unknown"});
static_assert(names.size() == static_cast<size_t>(Kind::unknown) + 1);

Kind kind_of(std::string_view name) {
  for (size_t i = 0; i + 1 < names.size(); i++) {
    if (names[i] == name) return static_cast<Kind>(i);
  }
  return Kind::unknown;
}

bool is_text(std::string_view value) { return value.size() >= 2 && value[0] == '"'; }

// Most texts have no escapes: then they are read where they lie.
std::string_view text_of(std::string_view value, std::string& memory) {
  if (!is_text(value)) return {};
  if (value.find('\\') == std::string_view::npos) return value.substr(1, value.size() - 2);
  memory = unescape_json(value);
  return memory;
}

}  // namespace

std::string_view name_of(Kind kind) { return names[static_cast<size_t>(kind)]; }

bool Record::decode(std::string_view line) {
  if (!json_.parse(line)) {
    error_ = json_.error();
    return false;
  }
  kind = Kind::unknown;
  device = 0;
  has_device = false;
  t_ns = address = asked_bytes = given_bytes = extra_bytes = std::nullopt;
  seq = tid = stream = frame = 0;
  code = 0;
  call = note = {};
  // A name that comes twice counts where it comes first: fields are taken from the back.
  std::string kind_text;
  bool has_kind = false;
  const auto fields = json_.fields();
  for (auto field = fields.rbegin(); field != fields.rend(); ++field) {
    const std::string_view name = field->name, value = field->value;
    if (name.empty()) continue;
    // By the first letter, because this runs for every field of millions of lines.
    switch (name[0]) {
      case 't':
        if (name == "t") t_ns = JsonLine::whole_number(value);
        if (name == "tid") tid = JsonLine::whole_number(value).value_or(0);
        break;
      case 's':
        if (name == "seq") seq = JsonLine::whole_number(value).value_or(0);
        if (name == "stream") stream = JsonLine::hex_number(value).value_or(0);
        break;
      case 'd':
        if (name == "device") {
          const auto ordinal = JsonLine::whole_number(value);
          has_device = ordinal.has_value();
          device = static_cast<int>(std::min<uint64_t>(ordinal.value_or(0), most_devices));
        }
        break;
      case 'a':
        if (name == "address") address = JsonLine::hex_number(value);
        if (name == "asked_bytes") asked_bytes = JsonLine::whole_number(value);
        break;
      case 'f':
        if (name == "frame") frame = JsonLine::whole_number(value).value_or(0);
        break;
      case 'g':
        if (name == "given_bytes") given_bytes = JsonLine::whole_number(value);
        break;
      case 'e':
        if (name == "extra_bytes") extra_bytes = JsonLine::whole_number(value);
        break;
      case 'c':
        if (name == "call") call = text_of(value, call_text_);
        if (name == "code") code = JsonLine::signed_number(value).value_or(0);
        break;
      case 'n':
        if (name == "note") note = text_of(value, note_text_);
        break;
      case 'k':
        if (name != "kind") break;
        has_kind = is_text(value);
        kind = kind_of(text_of(value, kind_text));
        break;
      default:
        break;
    }
  }
  if (has_kind) return true;
  error_ = "no \"kind\" in the record";
  return false;
}

}  // namespace flexlom::trace
