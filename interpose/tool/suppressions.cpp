#include "interpose/tool/suppressions.h"

#include <fmt/format.h>

#include "interpose/trace/line_reader.h"

namespace flexlom::tool {

bool matches_pattern(std::string_view pattern, std::string_view text) {
  const bool at_begin = pattern.starts_with('^');
  if (at_begin) pattern.remove_prefix(1);
  const bool at_end = pattern.ends_with('$');
  if (at_end) pattern.remove_suffix(1);
  // Part by part between the asterisks: the first place where a part is leaves most for the rest.
  size_t at = 0;
  bool first = true;
  for (;;) {
    const size_t star = pattern.find('*');
    const std::string_view part = pattern.substr(0, star);
    const bool last = star == pattern.npos;
    if (last && at_end) {
      if (text.size() < at + part.size() || !text.ends_with(part)) return false;
      return !(first && at_begin) || text.size() == part.size();
    }
    const size_t found = text.find(part, at);
    if (found == text.npos || (first && at_begin && found != 0)) return false;
    if (last) return true;
    at = found + part.size();
    pattern.remove_prefix(star + 1);
    first = false;
  }
}

bool Suppressions::read(const std::string& path, std::string* error) {
  trace::LineReader reader;
  if (!reader.open(path, error)) return false;
  for (auto line = reader.next(); line != trace::LineReader::Line::end; line = reader.next()) {
    std::string_view text = reader.text();
    while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
    while (!text.empty() && (text.back() == ' ' || text.back() == '\t' || text.back() == '\r'))
      text.remove_suffix(1);
    if (text.empty() || text.front() == '#') continue;
    constexpr std::string_view kind = "leak:";
    if (!text.starts_with(kind) || text.size() == kind.size()) {
      *error = fmt::format("{}:{}: not of the form leak:PATTERN", path, reader.number());
      return false;
    }
    entries_.push_back({std::string(text.substr(kind.size()))});
  }
  if (reader.read_error().empty()) return true;
  *error = path + ": " + reader.read_error();
  return false;
}

Suppressions::Entry* Suppressions::find(const trace::Frames& frames, trace::FrameId innermost) {
  const std::vector<trace::FrameLabel> stack = frames.stack(innermost);
  for (Entry& entry : entries_) {
    for (const trace::FrameLabel& label : stack) {
      if (matches_pattern(entry.pattern, label.function) ||
          (!label.file.empty() && matches_pattern(entry.pattern, label.file)))
        return &entry;
    }
    for (trace::FrameId id = innermost; id != 0; id = frames[id].parent) {
      const uint32_t module = frames[id].module;
      if (module != 0 && matches_pattern(entry.pattern, frames.module(module).path)) return &entry;
    }
  }
  return nullptr;
}

}  // namespace flexlom::tool
