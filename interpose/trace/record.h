// One record of a trace log (writer.h), decoded once for all that read it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "interpose/trace/json_line.h"

namespace flexlom::trace {

enum class Kind : uint8_t {
  header,
  request,
  alloc,
  free,
  spill,
  map,
  unmap,
  promote,
  demote,
  gave_up,
  out_of_memory,
  warning,
  guard,
  drop,
  stats,
  moves,
  module,
  frame,
  perf_map,
  end,
  function,  // submissions.h: these four are read by flexlom advise
  launch,
  timed,
  wait,
  unknown,  // of a newer flexlom
};

// As the record is called in the log; "unknown" for those that are not known.
std::string_view name_of(Kind kind);

// A number of bytes that memory could have; a damaged or hostile record may hold any other.
constexpr uint64_t most_possible_bytes = uint64_t{1} << 56;

// Fields that are absent, or of another type than they should be, are nothing or zero. Not thread
// safe; texts are views into the line or into the record, until the next decode().
class Record {
 public:
  static constexpr int most_devices = 1023;  // a damaged record must not make a million of them

  Kind kind = Kind::unknown;
  int device = 0;  // at most most_devices, 0 when the record names none
  bool has_device = false;
  std::optional<uint64_t> t_ns;
  uint64_t seq = 0, tid = 0, stream = 0;
  uint64_t frame = 0;  // of who called, by its number in the log: Frames::find()
  std::optional<uint64_t> address;
  std::optional<uint64_t> asked_bytes, given_bytes, extra_bytes;  // any number: see possible()
  int64_t code = 0;
  std::string_view call, note;

  static std::optional<uint64_t> possible(std::optional<uint64_t> bytes) {
    return bytes && *bytes <= most_possible_bytes ? bytes : std::nullopt;
  }

  // Reads one line. False: it is not a record, and error() says why.
  bool decode(std::string_view line);
  const char* error() const { return error_; }

  // All fields, for records that are read in full.
  const JsonLine& json() const { return json_; }

 private:
  JsonLine json_;
  std::string call_text_, note_text_;  // where a text had escapes
  const char* error_ = "";
};

}  // namespace flexlom::trace
