// What a trace log says, added up line by line. The memory it takes grows with what the program
// held at one time and with the number of its sites (sites.h), not with the length of the log.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "interpose/trace/moment.h"
#include "interpose/trace/record.h"
#include "interpose/trace/sites.h"
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
  uint64_t total_bytes = 0;         // 0: the header does not say
  uint64_t budget_bytes = 0;        // as enforced; 0: neither header nor statistics say
  Peak in_use;                      // given to the program, wherever it lies
  uint64_t host_at_peak_bytes = 0;  // the part of in_use at its peak on the host
  Moment at_peak;                   // of in_use
  Peak spilled;                     // given to the program, in host frames
  Peak held;                        // pages in device frames, in use or cached
  Moves moves;
};

// How often the pages of one allocation changed places.
struct MovedAllocation {
  Allocation allocation;
  uint64_t promoted_pages = 0, promoted_bytes = 0;
  uint64_t demoted_pages = 0, demoted_bytes = 0;
  bool freed = false;

  uint64_t moved_bytes() const { return promoted_bytes + demoted_bytes; }
};

bool moved_more(const MovedAllocation& a, const MovedAllocation& b);  // an order to sort by

// A page between its map and its unmap record.
struct PageUse {
  int device = -1;
  uint64_t bytes = 0;
  bool on_host = false;
};

// Live allocations of one call and size, with any stream; of one stack when the log has stacks.
struct Holder {
  SiteId site = 0;  // one of theirs
  uint64_t count = 0, bytes = 0;
};

struct Failure {
  uint64_t at_ns = 0, asked_bytes = 0, seq = 0;
  int device = -1;
  int64_t code = 0;
  FrameId frame = 0;  // who asked
  std::string call, note;
  // At that moment, on that device: given to the program, the part of it on the host, and what the
  // record says of the frames that were held.
  uint64_t in_use_bytes = 0, spilled_bytes = 0;
  uint64_t device_held_bytes = 0, host_held_bytes = 0;
  std::vector<Holder> holders;  // the biggest first; none when there were too many failures
};

// A request that has no answer yet.
struct OpenRequest {
  uint64_t at_ns = 0, asked_bytes = 0;
  uint64_t stream = 0, tid = 0;
  int device = 0;
  uint32_t call = 0;  // Sites::call_name()
};

// A memory bug that guard mode found, as it was told on standard error.
struct Finding {
  struct Line {
    std::string text;
    FrameId frame = 0;  // whose stack belongs below the line
  };
  uint64_t at_ns = 0;
  std::string bug;  // a word: "refused_free"
  std::vector<Line> lines;
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
  static constexpr size_t most_holders = 10;

  // Adds line `number`. `cut` when it was the last and had no newline: then it may be incomplete.
  // True when it was a record: then record() is what it said, and what it left to an earlier record
  // of the same allocation.
  bool add_line(uint64_t number, std::string_view line, bool cut);
  const Record& record() const { return record_; }
  uint64_t record_ns() const { return record_ns_; }  // its time, or that of the last that has one
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
  std::optional<MoveTotals> move_totals;  // the last that were recorded
  LiveAllocations live;
  std::optional<Allocation> released;  // by the last record: freed, or its address given again
  Sites sites;
  Frames frames;  // empty when the log has no stacks
  uint64_t allocs = 0, frees = 0, spills = 0, maps = 0, unmaps = 0;  // records of each kind
  uint64_t spilled_bytes = 0;
  uint64_t unmatched_frees = 0;  // of addresses whose alloc is not in the log
  uint64_t replaced = 0;         // allocs at an address that was still live
  uint64_t failure_count = 0, warning_count = 0, dropped = 0, unknown_kinds = 0;
  std::vector<Failure> failures;
  std::vector<std::string> warnings;
  uint64_t finding_count = 0;
  std::vector<Finding> findings;
  std::unordered_map<uint64_t, OpenRequest> open_requests;  // without an answer, by sequence number
  bool cut_short = false;                                   // the last line was incomplete
  std::optional<std::string> end_reason;
  // What recording took of the program's time, by its own estimate; 0: not known.
  uint64_t overhead_ns = 0;
  uint64_t log_bytes = 0;  // of all lines of a possible length
  uint64_t records = 0, bad_line_count = 0;
  std::vector<BadLine> bad_lines;

  // Allocations whose pages moved, most bytes first, freed or not. Of those that were freed only
  // the most_listed that moved most are remembered.
  std::vector<MovedAllocation> moved_most(size_t top) const;

  uint64_t first_ns = 0, last_ns = 0;
  uint64_t since_start(uint64_t at_ns) const { return at_ns > first_ns ? at_ns - first_ns : 0; }

 private:
  void complete_alloc();
  void complete_free();
  void header(const JsonLine&);
  void alloc(const Record&, uint64_t at_ns);
  void free(const Record&, uint64_t at_ns);
  void spill(const Record&, uint64_t at_ns);
  void frame(const Record&, uint64_t at_ns, bool mapped);
  void move(const Record&, uint64_t at_ns, bool to_host);
  void move_in(Allocation&, uint64_t at_ns, uint64_t bytes, bool to_host);
  void gave_up(const Record&, uint64_t at_ns);
  void moves(const JsonLine&);
  Peak& held(int device, bool on_host) { return on_host ? host_held : devices[device].held; }
  void release(const Allocation&);
  void out_of_memory(const Record&, uint64_t at_ns);
  std::vector<Holder> holders_now(int device);
  void guard(const Record&, uint64_t at_ns);

  Record record_;
  uint64_t record_ns_ = 0;
  bool first_is_known_ = false;  // first_ns
  uint64_t line_number_ = 0;
  uint64_t finding_lines_ = 0;
  uint64_t holder_steps_ = 0;                            // spent on holders_now()
  std::unordered_map<uint64_t, uint64_t> early_spills_;  // logged before their alloc, by seq
  std::unordered_map<uint64_t, PageUse> pages_;          // mapped, by address
  std::unordered_map<uint64_t, MovedAllocation> moved_;  // live ones, by address
  std::vector<MovedAllocation> moved_and_freed_;         // bounded
};

struct ReadHooks {
  // After the summary has taken in summary.record(). May be empty.
  std::function<void(const Record&)> record;
  // Now and then. `total_bytes` is 0 when the size of the file is not known. May be empty.
  std::function<void(uint64_t read_bytes, uint64_t total_bytes)> progress;
  // Asked now and then: true ends the reading, as if the log ended here. May be empty.
  std::function<bool()> stop;
};

// Reads a whole log line by line; "-" is standard input. False when nothing of it could be read, or
// when it is no trace log or one of a newer format: `error` says why. Damage inside a log is
// counted in the summary.
bool read_log(const std::string& path, Summary& summary, std::string* error,
              const ReadHooks& hooks = {});

}  // namespace flexlom::trace
