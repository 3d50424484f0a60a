// The call stacks of a log: modules, frames, and how they are put into words.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "interpose/trace/json_line.h"

namespace flexlom::trace {

using FrameId = uint32_t;  // as numbered here; 0: no stack

struct LogModule {
  std::string path, build_id;  // build_id: hexadecimal, may be empty
  uint64_t base = 0, begin = 0, end = 0;
};

struct LogFrame {
  uint64_t address = 0;  // a return address: the call is before it
  FrameId parent = 0;
  uint32_t module = 0;  // Frames::module(), 0: in none
};

// A function that a frame stands for.
struct FrameLabel {
  std::string function;  // never empty: "libx.so+0x1234" when it is not known
  std::string file;      // empty when not known, and then there is no line
  uint32_t line = 0;
};

class Frames;

// Finds names. What it returns lives as long as it does.
class FrameNamer {
 public:
  virtual ~FrameNamer() = default;
  // More than one where functions were inlined, innermost first; never none.
  virtual const std::vector<FrameLabel>& labels(const Frames& frames, FrameId frame) = 0;
  // The functions of a whole stack, innermost first.
  virtual std::vector<FrameLabel> stack(const Frames& frames, FrameId innermost);
};

// Bounded, whatever the log holds. Not thread safe.
class Frames {
 public:
  static constexpr size_t most_frames = size_t{1} << 21;
  static constexpr size_t most_modules = size_t{1} << 16;
  static constexpr size_t longest_stack = 1024;

  // Of a "module", "frame" or "perf_map" record. Null when it was taken, else what is wrong.
  const char* add_module(const JsonLine& record);
  const char* add_frame(const JsonLine& record);
  void set_perf_map(std::string path) { perf_map_ = std::move(path); }

  // By the number in the log; 0 when there is no such frame.
  FrameId find(uint64_t number) const {
    return number < by_number_.size() ? by_number_[number] : 0;
  }

  size_t size() const { return frames_.size(); }  // ids are 1 to this
  const LogFrame& operator[](FrameId id) const { return frames_[id - 1]; }
  const LogModule& module(uint32_t number) const { return modules_[number - 1]; }
  size_t module_count() const { return modules_.size(); }
  const std::string& perf_map() const { return perf_map_; }  // empty: there is none

  // Where names come from; null: "libx.so+0x1234". Must live as long as it is used here.
  void set_namer(FrameNamer* namer) { namer_ = namer; }
  std::vector<FrameLabel> stack(FrameId innermost) const;

 private:
  std::vector<LogModule> modules_;
  std::map<uint64_t, uint32_t> by_begin_;  // the modules there are now
  std::vector<LogFrame> frames_;
  std::vector<uint16_t> depths_;
  std::vector<FrameId> by_number_;
  std::string perf_map_;
  FrameNamer* namer_ = nullptr;
};

// "libx.so+0x1234", or "0x7f00001234" in no module.
std::string raw_name(const Frames& frames, FrameId frame);

}  // namespace flexlom::trace
