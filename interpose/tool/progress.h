// How far the reading of a log has come, on a terminal only.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

#include "interpose/trace/summary.h"

namespace flexlom::tool {

// Draws on standard error when that is a terminal, else nothing at all. Nothing is drawn for work
// that is done at once. Not thread safe.
class Progress {
 public:
  explicit Progress(const std::string& what);
  ~Progress() { clear(); }
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  bool shown() const { return on_terminal_; }
  void update(uint64_t done_bytes, uint64_t total_bytes);  // total 0: not known
  void clear();                                            // before other text is printed

 private:
  const std::string what_;
  const bool on_terminal_;
  bool drawn_ = false;
  std::chrono::steady_clock::time_point next_;
};

// trace::read_log() with the progress drawn; hooks.progress is its own.
bool read_with_progress(const std::string& file, trace::Summary& log, std::string* error,
                        trace::ReadHooks hooks = {});

// On standard error: what of the log was left out because it could not be read.
void tell_of_damage(const std::string& file, const trace::Summary& log);

}  // namespace flexlom::tool
