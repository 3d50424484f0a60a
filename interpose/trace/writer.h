// The trace log, version 1, as the program under flexlom writes it: one JSON object per line.
//
// A record costs its caller a clock reading, formatting into a fixed buffer and a copy under a
// short lock. A thread of our own writes the buffer to the file at most 100 ms later, so that a
// killed process loses no more than that. When the disk cannot keep up records are dropped, and a
// "drop" record counts them: the program never waits for the disk.
//
// Every member is thread safe unless it says otherwise. Nothing throws, and a full disk or a closed
// file costs one warning: later records are then discarded. A program that closes our descriptor
// gets nothing written into what it opens under that number (log_file.h).
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "interpose/trace/line_buffer.h"

namespace flexlom::trace {

constexpr int format_version = 1;

struct DeviceInfo {
  int ordinal;
  std::string name, uuid;
  uint64_t total_bytes, budget_bytes;  // budget_bytes 0: not known yet, and left out
};

// Pid, host, command line, clocks and the format version are added by the writer.
struct Header {
  std::string version;  // of flexlom
  int driver_version;   // as cuDriverGetVersion gives it, 12040
  std::vector<DeviceInfo> devices;
  uint64_t host_budget_bytes;
};

// What happened to one request or frame. Zero and null fields are left out of the record. Log a
// free before its memory can be handed out again, and an alloc after: then the order of the lines
// is the order of events at every address.
struct Event {
  const char* call = nullptr;  // driver entry point, a literal: written without escaping
  int device = -1;             // ordinal, -1: none
  uint64_t stream = 0;
  uint64_t seq = 0;  // ties request, alloc, spill and out_of_memory of one request together
  uint64_t address = 0;
  uint64_t asked_bytes = 0;
  uint64_t given_bytes = 0;    // after rounding; for pages, the size of the page
  uint64_t extra_bytes = 0;    // alloc, spill: how many of the given bytes lie in host frames
  const char* note = nullptr;  // map, unmap: "device" or "host"; promote, demote: "copied" or
                               // "clean"; gave_up: the reason; else any text
  int code = 0;                // CUresult
  uint32_t frame = 0;          // who called: the innermost frame recorded with frame()
  uint64_t t_ns = 0;           // when it was, by Writer::now_ns(); 0: as it is recorded
};

// A file whose code is mapped in the process. Views are of the call only.
struct ModuleInfo {
  std::string_view path, build_id;  // hexadecimal; may be empty
  uint64_t base = 0;                // what is added to the addresses in the file
  uint64_t begin = 0, end = 0;      // where its segments lie
};

// Held: frames owned, in use or cached. Peaks are since the start of the process.
struct Stats {
  int device = -1;
  uint64_t budget_bytes = 0, held_bytes = 0, peak_held_bytes = 0;
  uint64_t host_budget_bytes = 0, host_held_bytes = 0, host_peak_held_bytes = 0;
  uint64_t live_bytes = 0, live_count = 0, peak_live_bytes = 0;
  uint64_t allocs = 0, frees = 0, spilled_bytes = 0, failures = 0;
};

// What moving pages came to, of all devices, since the start of the process. While the gate is shut
// no thread can submit work.
struct MoveTotals {
  uint64_t promoted_pages = 0, promoted_bytes = 0;
  uint64_t demoted_pages = 0, demoted_bytes = 0, demoted_copied_bytes = 0, clean_pages = 0;
  uint64_t given_up = 0;
  uint64_t batches = 0, shut_ns = 0, longest_shut_ns = 0;
  uint64_t in_place = 0, in_place_bytes = 0;  // submissions that read over the link, at most
};

// One kind of work, numbered from 1, before its first launch.
struct FunctionRecord {
  uint32_t number = 0;
  const char* name = nullptr;  // of a kernel, mangled; null: not known
  const char* call = nullptr;  // of a copy or a fill: the entry point
  bool graph = false;
  uint64_t threads = 0;  // of a kernel
};

// One submission that touches memory which could move. `t` is when it was made.
struct LaunchRecord {
  uint32_t function = 0;
  int device = 0;
  const uint64_t* bases = nullptr;  // of the allocations, multiples of 2 MiB
  unsigned count = 0;
  uint64_t t_ns = 0;
};

// What one submission took on the device, between two events around it. `host_ns`: how far apart
// the two were submitted, which is part of it when the device was idle. `launch`: which of the
// function's launches it was, the first is 1; 0: not known.
struct TimedRecord {
  uint32_t function = 0;
  uint64_t elapsed_ns = 0, host_ns = 0;
  uint64_t spilled_bytes = 0;  // of what it touched, in host memory at that time
  uint32_t launch = 0;
};

// Told once when writing fails; `text` has no newline. Runs on any thread.
using Warn = void (*)(const char* text) noexcept;

class LogFile;

class Writer {
 public:
  // Expands the template (path_template.h) and creates the file, and directories on the way to it,
  // with the permissions of the umask (files at most 0600). An existing file is never touched: the
  // name gets .1, .2, ... appended. A device or a FIFO is opened as it is. On failure returns null
  // and sets `error`. `warn` may be null: then warnings go to standard error.
  static std::unique_ptr<Writer> open(const std::string& path_template, std::string* error,
                                      Warn warn = nullptr);
  ~Writer();
  Writer(const Writer&) = delete;
  Writer& operator=(const Writer&) = delete;

  static uint64_t now_ns() noexcept;  // CLOCK_MONOTONIC

  void header(const Header&) noexcept;
  void request(const Event&) noexcept;  // before the attempt
  // An alloc with a sequence number leaves call, stream and thread to its request, and the bytes
  // given when they are those asked for; a free leaves all bytes to the alloc.
  void alloc(const Event&) noexcept;
  void free(const Event&) noexcept;
  void spill(const Event&) noexcept;
  void map(const Event&) noexcept;
  void unmap(const Event&) noexcept;
  void out_of_memory(const Event&) noexcept;
  void warning(const char* text) noexcept;
  // One line of what guard mode found. `bug`: a word for what it is, on the first line of each
  // finding; null on those that follow. `stack`: the frame of who did it, 0: none.
  void guard(const char* bug, std::string_view text, uint32_t stack) noexcept;
  // A page changed places, with no map or unmap record of its own: promote, to the device; demote,
  // to the host. gave_up: a batch of moves came to nothing, because of `note`. These are recorded
  // while other threads are held back, so they never touch the file themselves.
  void promote(const Event&) noexcept;
  void demote(const Event&) noexcept;
  void gave_up(const Event&) noexcept;
  // What frames are made of. A module is recorded before the first frame in it, and takes the place
  // of whatever was recorded at its addresses before. A frame is a return address and the frame of
  // its caller (0: the outermost), which was recorded before. The perf map names code that is in no
  // module. False: there was no room, and it has to be recorded again.
  bool module(const ModuleInfo&) noexcept;
  bool frame(uint32_t id, uint32_t parent, uint64_t address) noexcept;
  bool perf_map(std::string_view path) noexcept;
  void stats(const Stats&) noexcept;
  void moves(const MoveTotals&) noexcept;
  // The last record: "exit", ... With what recording has taken of the program's time (overhead.h).
  void end(const char* reason) noexcept;

  // Submissions of work, for flexlom advise (submissions.cpp).
  void function(const FunctionRecord&) noexcept;
  void launch(const LaunchRecord&) noexcept;  // a long list is split over several records
  void timed(const TimedRecord&) noexcept;
  void wait(uint64_t waited_ns) noexcept;  // the thread waited for the device until now

  // Returns when everything recorded before has been handed to the kernel. May wait for the disk.
  void flush_now() noexcept;

  // Ends the writer thread (waits two seconds for a stuck disk, then gives the log up). From then
  // on every record but those of moves is written by its caller. For the end of the process.
  void stop_thread() noexcept;

  // In a forked child, before anything else: forgets buffer and file, which are the parent's.
  // Takes no lock and frees nothing that another thread of the parent might have been using.
  void abandon() noexcept;

  const std::string& path() const { return path_; }  // as opened

 private:
  struct State;
  Writer(std::string path, LogFile file, Warn warn);
  // Who writes the line once the thread has ended: the caller, or the next caller who may.
  enum class Write { now, later };
  // Whether the thread is named, or is that of the request of the same sequence number.
  enum class Thread { named, of_request };
  void event(std::string_view kind, const Event&, Write = Write::now,
             Thread = Thread::named) noexcept;
  bool append(std::string_view line, Write = Write::now) noexcept;
  bool append_with_path(LineBuffer line, std::string_view path) noexcept;

  std::string path_;
  std::atomic<State*> state_;  // null once abandoned
};

}  // namespace flexlom::trace
