#include "interpose/trace/line_reader.h"
#include "interpose/trace/summary.h"

namespace flexlom::trace {

bool read_log(const std::string& path, Summary& summary, std::string* error,
              const ReadHooks& hooks) {
  auto fail = [&](const std::string& message) {
    if (error != nullptr) *error = path + ": " + message;
    return false;
  };
  LineReader reader;
  if (!reader.open(path, error)) return false;
  // A file that is no log at all should be refused at its beginning, not read for an hour.
  constexpr uint64_t lines_to_convince = 1000;
  constexpr uint64_t progress_step_bytes = 4 << 20;
  uint64_t next_progress = 0;
  for (;;) {
    const LineReader::Line line = reader.next();
    if (reader.read_bytes() >= next_progress) {
      next_progress = reader.read_bytes() + progress_step_bytes;
      if (hooks.progress) hooks.progress(reader.read_bytes(), reader.file_bytes());
      if (hooks.stop && hooks.stop()) return true;
    }
    if (line == LineReader::Line::end) break;
    if (line == LineReader::Line::too_long) {
      summary.add_bad_line(reader.number(), "longer than 1 MiB");
      continue;
    }
    const bool taken =
        summary.add_line(reader.number(), reader.text(), line == LineReader::Line::unended);
    if (summary.format > format_version) {
      return fail("log format " + std::to_string(summary.format) + ", written by flexlom " +
                  summary.version + "; this one reads up to format " +
                  std::to_string(format_version) + ". Use the newer flexlom to read it.");
    }
    if (taken && hooks.record) hooks.record(summary.record());
    if (summary.records == 0 && reader.number() >= lines_to_convince) break;
  }
  if (summary.records == 0) {
    if (!reader.read_error().empty()) return fail(reader.read_error());
    return fail(reader.number() == 0 ? "an empty file" : "not a flexlom trace log");
  }
  if (!reader.read_error().empty())
    summary.add_bad_line(reader.number() + 1, "cannot be read: " + reader.read_error());
  return true;
}

}  // namespace flexlom::trace
