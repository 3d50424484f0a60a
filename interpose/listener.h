// What happens in the pool, told to people: the trace log, warnings, the out-of-memory message.
//
// Everything for people goes to standard error, one line at a time, each starting "flexlom[pid]: ";
// standard output is never touched. Thread safe.
#pragma once

#include <array>
#include <atomic>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>

#include "interpose/leaks.h"
#include "interpose/options.h"
#include "interpose/stacks/stacks.h"
#include "interpose/trace/writer.h"
#include "pool/pool.h"

namespace flexlom {

class Listener final : public pool::Observer, private stacks::Sink {
 public:
  explicit Listener(const Options& options);

  // Hears of allocations what the log hears. Before the pool opens a device; outlives it.
  void also_tell(pool::Observer& other) noexcept { other_ = &other; }
  void opened(pool::Pool& pool) noexcept;  // the pool whose holders the messages name
  bool tracing() const noexcept { return writer_ != nullptr; }
  trace::Writer* writer() const noexcept { return writer_.get(); }
  // What doors tell who called with (stacks::Caller); off when nobody wants to know.
  stacks::Stacks& stacks() noexcept { return stacks_; }

  // Logs a request before it is attempted.
  void request(const pool::Request& request) noexcept;

  bool hears_allocations() const noexcept override {
    return tracing() || leaks_.on() || other_ != nullptr;
  }
  void allocated(const pool::Request&, const pool::AllocationInfo&, bool at_once) noexcept override;
  void freed(const char* call, const pool::AllocationInfo&, pool::StreamKey) noexcept override;
  void retiring(const pool::AllocationInfo&) noexcept override;
  void spilled(int device, CUdeviceptr address, size_t bytes) noexcept override;
  void mapped(int device, CUdeviceptr address, size_t bytes, pool::Where) noexcept override;
  void unmapped(int device, CUdeviceptr address, size_t bytes, pool::Where) noexcept override;
  void device_opened(int device, CUdeviceptr base, size_t bytes,
                     uint64_t budget_bytes) noexcept override;
  // Only put into the log's buffer: these come while other threads are held back at the gate.
  void moved(const pool::Moved&) noexcept override;
  void gave_up(int device, pool::GaveUp why) noexcept override;
  void out_of_memory(const pool::OutOfMemory&) noexcept override;
  void warned(std::string_view text) noexcept override;

  // One line of what guard mode found, for the log; trace::Writer::guard() has the rest.
  void finding(const char* bug, std::string_view text, stacks::NodeId stack) noexcept;
  bool says() const noexcept { return !quiet_; }  // whether findings reach standard error
  void flush_log() noexcept;                      // may wait for the disk

  void say(std::string_view level, std::string_view text) noexcept;  // one line on standard error
  void
  explain_last_oom() noexcept;  // after the pool's locks are free: the message with the holders
  // The numbers of this moment: to the log when there is one, and to standard error when `print`.
  // No lock of the pool may be held.
  void statistics(bool print) noexcept;
  // A free that came when the driver was gone already and could do nothing: no leak all the same.
  void freed_too_late(CUdeviceptr address) noexcept;
  bool leaks() noexcept;     // tells of leaks, as LeakCheck::report() does
  void coverage() noexcept;  // calls per entry point, to standard error

 private:
  Listener(const Options& options, std::string error);
  bool first_time(std::string_view warning) noexcept;
  bool module(const stacks::Module&) noexcept override;
  bool frame(stacks::NodeId id, const stacks::Node&) noexcept override;
  bool perf_map(const char* path) noexcept override;

  const Options& options_;
  const bool quiet_;
  std::unique_ptr<trace::Writer> writer_;
  LeakCheck leaks_;
  stacks::Stacks stacks_;
  pool::Pool* pool_ = nullptr;
  pool::Observer* other_ = nullptr;
  std::atomic<unsigned> explained_{0};
  const uint64_t since_ns_;
  std::atomic<uint64_t> warnings_{0};  // all of them, printed or not
  std::mutex warned_mutex_;            // guards all below
  std::array<size_t, 64> warned_{};    // hashes of the texts printed so far
  size_t warned_count_ = 0;
};

}  // namespace flexlom
