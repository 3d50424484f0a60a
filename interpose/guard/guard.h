// Guard mode (FLEXLOM_GUARD): memory bugs of the program, found and told.
//
// The pool places allocations so that a wrong access faults (pool/guard.h). Here is the rest: new
// memory is filled, canaries are looked at, launches and allocations are remembered, and whatever
// goes wrong is reported on standard error and in the log, a line at a time, with who did it.
//
// Made with the runtime, lives as long. Thread safe, and nothing throws. Nothing here holds a lock
// while it calls the pool.
#pragma once

#include <array>
#include <atomic>
#include <deque>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "interpose/guard/contents.h"
#include "interpose/guard/launches.h"
#include "interpose/guard/ledger.h"
#include "pool/observer.h"

namespace flexlom {
class Listener;
}

namespace flexlom::guard {

// A copy from the device to the host.
struct ReadBack {
  const char* call;  // a literal
  const void* host;
  CUdeviceptr from;
  size_t bytes;
  CUcontext context;
  uint64_t stream;
};

// Errors of a context that a kernel broke (CUDA Driver API 6.1): it answers with nothing else
// until it is destroyed.
bool is_fault(CUresult r) noexcept;

class Guard final : public pool::Observer {
 public:
  // `listener` outlives it.
  Guard(Listener& listener, uint32_t pattern, bool fill);

  // Before anything is allocated. `stacks` outlives it.
  void use(CallStacks& stacks) noexcept { stacks_ = &stacks; }

  Contents& contents() noexcept { return contents_; }

  void allocated(const pool::Request&, const pool::AllocationInfo&, bool at_once) noexcept override;
  void freed(const char* call, const pool::AllocationInfo&, pool::StreamKey) noexcept override;
  void retiring(const pool::AllocationInfo&) noexcept override;

  // A submission: before it enters the driver, and with the answer. 0: not remembered.
  uint64_t submitting(doors::Entry entry, const heat::Named& named, const Shape& shape,
                      CUcontext context, uint64_t stream) noexcept;
  void submitted(doors::Entry entry, uint64_t number, CUresult r) noexcept;
  // A call that waited for work, or asked after it. `number`: last() from before it. `stream`: what
  // it is about, null for all of the context.
  uint64_t last() const noexcept { return launches_.last(); }
  void synchronized(doors::Entry entry, CUcontext context, const uint64_t* stream, uint64_t number,
                    CUresult r) noexcept;
  // Any other answer of the driver.
  void answered(const char* call, CUresult r) noexcept;

  // The driver's INVALID_VALUE went, or goes, to the program for these.
  void refused_free(const char* call, CUdeviceptr p) noexcept;
  void refused_copy(const char* call, CUdeviceptr p, size_t bytes) noexcept;
  // Bytes that a call has brought to the host; or that will be there when its stream is waited for.
  void read_back(const ReadBack& copy) noexcept;
  void will_read_back(const ReadBack& copy) noexcept;

  // Looks at the canaries of everything that is still allocated. While the driver works.
  void check_all() noexcept;
  // One line with what was found; nothing when nothing was.
  void finish() noexcept;

 private:
  enum Kind { fault, overflow, bad_free, bad_copy, never_written, kinds };
  static constexpr unsigned kMostOfAKind = 10;

  // A finding in the making: its lines, which are told together, because the names of all stacks in
  // it are found together.
  struct Report {
    struct Line {
      std::string text;
      uint32_t stack = 0;  // CallStacks
    };
    const char* bug;  // a word for the log
    std::vector<Line> lines = {};
    std::set<uint64_t> explained = {};  // the blocks whose stacks are in it, by number

    void say(std::string text, uint32_t stack = 0) { lines.push_back({std::move(text), stack}); }
  };

  Who who(const char* call) const;
  void look_at_reads(CUcontext context, const uint64_t* stream);
  bool first_of(Kind kind) noexcept;  // false: enough of these were told
  void tell(const Report& report);
  void say(std::string_view text) noexcept;  // a line that belongs to no finding
  static void add_stacks(Report& report, const Block& block, size_t indent);
  void add_this_call(Report& report, const char* call) const;
  std::string text_of(const Who& who) const;
  std::string text_of(const Block& block) const;
  std::string text_of(CUdeviceptr address) const;
  void add_launch(Report& report, const Launch& launch, bool stacks);
  void report_fault(const char* call, CUresult r);
  void report_damage(const Block& block, const Damage& damage, const char* when);

  Listener& listener_;
  Contents contents_;
  Ledger ledger_;
  Launches launches_;
  CallStacks* stacks_ = nullptr;
  const uint64_t since_ns_;
  std::array<std::atomic<unsigned>, kinds> found_{};
  std::atomic<bool> broken_{false};
  std::mutex reads_mutex_;
  std::deque<ReadBack> reads_;  // guarded by reads_mutex_: under way, oldest first
};

}  // namespace flexlom::guard
