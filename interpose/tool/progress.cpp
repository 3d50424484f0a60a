#include "interpose/tool/progress.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>

#include "interpose/tool/output.h"

namespace flexlom::tool {
namespace {

constexpr auto patience = std::chrono::milliseconds(500);
constexpr auto interval = std::chrono::milliseconds(100);

}  // namespace

Progress::Progress(const std::string& what)
    : what_(printable(what)),
      on_terminal_(isatty(STDERR_FILENO) == 1),
      next_(std::chrono::steady_clock::now() + patience) {}

void Progress::update(uint64_t done_bytes, uint64_t total_bytes) {
  if (!on_terminal_) return;
  const auto now = std::chrono::steady_clock::now();
  if (now < next_) return;
  next_ = now + interval;
  drawn_ = true;
  std::string line = fmt::format("\r\x1b[K{}: {}", what_, human_bytes(done_bytes));
  if (total_bytes != 0) {
    constexpr uint64_t width = 30;
    const uint64_t done = std::min(done_bytes, total_bytes);
    const uint64_t filled =
        static_cast<uint64_t>(static_cast<double>(done) / static_cast<double>(total_bytes) * width);
    line = fmt::format("\r\x1b[K{}: [{:#<{}}{:.<{}}] {:.0f}% of {}", what_, "", filled, "",
                       width - filled,
                       100.0 * static_cast<double>(done) / static_cast<double>(total_bytes),
                       human_bytes(total_bytes));
  }
  fwrite(line.data(), 1, line.size(), stderr);
  fflush(stderr);
}

void Progress::clear() {
  if (!drawn_) return;
  drawn_ = false;
  fputs("\r\x1b[K", stderr);
  fflush(stderr);
}

bool read_with_progress(const std::string& file, trace::Summary& log, std::string* error,
                        trace::ReadHooks hooks) {
  Progress progress("reading " + file);
  if (progress.shown())
    hooks.progress = [&](uint64_t done, uint64_t total) { progress.update(done, total); };
  return trace::read_log(file, log, error, hooks);
}

void tell_of_damage(const std::string& file, const trace::Summary& log) {
  if (log.bad_line_count != 0) {
    const trace::BadLine& bad = log.bad_lines.front();
    complain(fmt::format("{}: {} that cannot be read, left out; the first is line {}: {}",
                         printable(file),
                         log.bad_line_count == 1 ? std::string("1 line")
                                                 : fmt::format("{} lines", log.bad_line_count),
                         bad.number, bad.why));
  }
  if (log.cut_short) complain(printable(file) + ": the last line is incomplete, left out");
  if (log.dropped != 0)
    complain(fmt::format("{}: {} records were dropped when it was written", printable(file),
                         log.dropped));
}

}  // namespace flexlom::tool
