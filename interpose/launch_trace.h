// Every submission of work into the trace log, while FLEXLOM_TRACE_LAUNCHES asks for it.
//
// Kernels are numbered as they are first seen and named in the log once. The first few launches of
// each, and then one in 64, are timed between two events, so that a replay knows what the device
// does in which time; that, and how long calls waited, is all that a replay needs beside the
// allocations.
//
// Thread safe. Off, it costs nothing: submissions do not come here.
#pragma once

#include <atomic>
#include <mutex>
#include <unordered_map>

#include "interpose/heat/named.h"
#include "interpose/sampler.h"
#include "interpose/trace/writer.h"
#include "pool/device_pool.h"

namespace flexlom {

class LaunchTrace {
 public:
  // Null: off. The writer outlives this.
  explicit LaunchTrace(trace::Writer* writer) noexcept : writer_(writer) {}
  bool on() const noexcept { return writer_ != nullptr; }

  struct Seen {
    uint32_t number = 0;  // 0: not recorded, for want of memory
    uint32_t launch = 0;  // of this function: 1, 2, ...
    bool time = false;    // this one should be timed
  };
  // `identity`: of the code and the amount of its work, 0 for what is no kernel.
  Seen seen(const heat::Named& named, uint64_t identity) noexcept;

  void launched(uint32_t number, int device, const pool::TouchedBases& bases,
                uint64_t at_ns) noexcept;
  // `number`: as seen() gave it; 0 looks it up by the identity in the result.
  void timed(const Sampler::Result& result) noexcept;
  // A call did not return for this long. Short ones are not worth a record.
  void waited(uint64_t ns) noexcept {
    if (ns >= kShortestWait_ns) writer_->wait(ns);
  }

 private:
  static constexpr uint64_t kShortestWait_ns = 50'000;

  trace::Writer* const writer_;
  struct Function {
    uint32_t number = 0;
    uint32_t launches = 0;
  };
  std::mutex mutex_;                                  // guards all below
  std::unordered_map<uint64_t, Function> functions_;  // by identity
};

}  // namespace flexlom
