// What a trace log says, added up line by line. The memory it takes grows with what the program
// held at one time and with the number of its distinct sizes, not with the length of the log.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "interpose/trace/json_line.h"
#include "interpose/trace/writer.h"

namespace flexlom::trace {

// A level and the highest it has been. Times are ns of the log's monotonic clock.
struct Peak {
  uint64_t now_bytes = 0, most_bytes = 0, most_at_ns = 0;

  void add(uint64_t bytes, uint64_t at_ns);
  void sub(uint64_t bytes) { now_bytes -= bytes < now_bytes ? bytes : now_bytes; }
};

// Pages that changed places, and batches of moves that came to nothing.
struct Moves {
  uint64_t promoted_pages = 0, promoted_bytes = 0;
  uint64_t demoted_pages = 0, demoted_bytes = 0;
  uint64_t clean_pages = 0, clean_bytes = 0;  // of the demoted: the host's copy was still right
  uint64_t first_ns = 0, last_ns = 0;
  uint64_t given_up_count = 0;
  std::map<std::string, uint64_t> given_up;  // by reason

  bool any() const { return promoted_pages + demoted_pages + given_up_count != 0; }
};

struct DeviceUse {
  std::string name, uuid;
  uint64_t total_bytes = 0, budget_bytes = 0;  // 0: the header does not say
  Peak in_use;                                 // given to the program, wherever it lies
  uint64_t host_at_peak_bytes = 0;             // the part of in_use at its peak on the host
  Peak spilled;                                // given to the program, in host frames
  Peak held;                                   // pages in device frames, in use or cached
  Moves moves;
};

struct Allocation {
  int device = -1;
  uint64_t address = 0, asked_bytes = 0, given_bytes = 0, host_bytes = 0;
  uint64_t seq = 0, at_ns = 0;
  std::string call;
};

// A page between its map and its unmap record.
struct PageUse {
  int device = -1;
  uint64_t bytes = 0;
  bool on_host = false;
};

struct Failure {
  uint64_t at_ns = 0, asked_bytes = 0, seq = 0;
  int device = -1;
  int64_t code = 0;
  std::string call, note;
};

struct SizeUse {
  uint64_t count = 0, spilled_count = 0;
};

// The problems of one line, for the reader's own report.
struct BadLine {
  uint64_t number = 0;
  std::string why;
};

// Not thread safe.
class Summary {
 public:
  // Lists below stop growing here; the counts beside them go on.
  static constexpr size_t most_listed = 1000;
  static constexpr size_t most_sizes = 1 << 16;

  // Adds line `number`. `cut` when it was the last and had no newline: then it may be incomplete.
  void add_line(uint64_t number, std::string_view line, bool cut);
  void add_bad_line(uint64_t number, std::string why);

  // Header. A format above the one known here is not read: `format` tells.
  int format = 0;  // 0: no header seen
  std::string version, host, command;
  uint64_t pid = 0, host_budget_bytes = 0, wall_ns = 0;
  int64_t driver_version = 0;

  std::map<int, DeviceUse> devices;
  // Pages in host frames, of all devices, in use or cached. Copies that are kept of promoted pages
  // and spare frames come on top: host_frames_peak_bytes, by the statistics, 0 when there are none.
  Peak host_held;
  uint64_t host_frames_peak_bytes = 0;
  std::optional<MoveTotals> move_totals;                             // the last that were recorded
  std::map<uint64_t, Allocation> live;                               // by address
  std::unordered_map<uint64_t, SizeUse> sizes;                       // by bytes asked
  uint64_t other_sizes_count = 0;                                    // beyond most_sizes
  uint64_t allocs = 0, frees = 0, spills = 0, maps = 0, unmaps = 0;  // records of each kind
  uint64_t spilled_bytes = 0;
  uint64_t unmatched_frees = 0;  // of addresses whose alloc is not in the log
  uint64_t replaced = 0;         // allocs at an address that was still live
  uint64_t failure_count = 0, warning_count = 0, dropped = 0, unknown_kinds = 0;
  std::vector<Failure> failures;
  std::vector<std::string> warnings;
  std::unordered_map<uint64_t, Failure> open_requests;  // without an answer, by sequence number
  bool cut_short = false;                               // the last line was incomplete
  std::optional<std::string> end_reason;
  uint64_t records = 0, bad_line_count = 0;
  std::vector<BadLine> bad_lines;

  uint64_t first_ns = 0, last_ns = 0;
  uint64_t since_start(uint64_t at_ns) const { return at_ns > first_ns ? at_ns - first_ns : 0; }

 private:
  void header(const JsonLine&);
  void alloc(const JsonLine&, uint64_t at_ns);
  void free(const JsonLine&);
  void spill(const JsonLine&, uint64_t at_ns);
  void frame(const JsonLine&, uint64_t at_ns, bool mapped);
  void move(const JsonLine&, uint64_t at_ns, bool to_host);
  void gave_up(const JsonLine&, uint64_t at_ns);
  void moves(const JsonLine&);
  Peak& held(int device, bool on_host) { return on_host ? host_held : devices[device].held; }
  void release(const Allocation&);
  void out_of_memory(const JsonLine&, uint64_t at_ns);

  JsonLine json_;
  uint64_t line_number_ = 0;
  std::unordered_map<uint64_t, uint64_t> early_spills_;  // logged before their alloc, by seq
  std::unordered_map<uint64_t, PageUse> pages_;          // mapped, by address
};

// Reads a whole log ("-" is standard input). False when nothing of it could be read, or when it is
// no trace log: `error` says why. Damage inside a log is counted in the summary.
bool read_log(const std::string& path, Summary& summary, std::string* error);

}  // namespace flexlom::trace
