#include "interpose/tool/perf_map.h"

#include <sys/stat.h>

#include <algorithm>
#include <charconv>
#include <string_view>

#include "interpose/trace/line_reader.h"

namespace flexlom::tool {
namespace {

bool take_hex(std::string_view& text, uint64_t* out) {
  if (text.starts_with("0x")) text.remove_prefix(2);
  const auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), *out, 16);
  if (problem != std::errc() || end == text.data() + text.size() || *end != ' ') return false;
  text.remove_prefix(static_cast<size_t>(end - text.data()) + 1);
  return true;
}

bool parse(std::string_view line, PerfMap::Function* out) {
  uint64_t size = 0;
  if (!take_hex(line, &out->begin) || !take_hex(line, &size) || size == 0 || line.empty())
    return false;
  out->end = out->begin + size;
  out->python = line.starts_with("py::");
  if (out->python) line.remove_prefix(4);
  const size_t colon = out->python ? line.find(':') : line.npos;
  out->label.function = line.substr(0, colon);
  if (colon != line.npos) out->label.file = line.substr(colon + 1);
  return out->end > out->begin && !out->label.function.empty();
}

}  // namespace

bool PerfMap::read(const std::string& path, std::string* error) {
  constexpr size_t most_functions = size_t{1} << 21;
  // The path may come from a log: a device or a FIFO of that name would hold us for ever.
  struct stat about {};
  if (stat(path.c_str(), &about) == 0 && !S_ISREG(about.st_mode)) {
    *error = path + ": not a regular file";
    return false;
  }
  trace::LineReader reader;
  if (!reader.open(path, error)) return false;
  for (auto line = reader.next(); line != trace::LineReader::Line::end; line = reader.next()) {
    Function function;
    if (functions_.size() < most_functions && parse(reader.text(), &function))
      functions_.push_back(std::move(function));
  }
  // Where code was replaced the later line holds.
  std::stable_sort(functions_.begin(), functions_.end(),
                   [](const Function& a, const Function& b) { return a.begin < b.begin; });
  return true;
}

const PerfMap::Function* PerfMap::find(uint64_t address) const {
  auto after =
      std::upper_bound(functions_.begin(), functions_.end(), address,
                       [](uint64_t a, const Function& function) { return a < function.begin; });
  if (after == functions_.begin()) return nullptr;
  --after;
  return address < after->end ? &*after : nullptr;
}

}  // namespace flexlom::tool
