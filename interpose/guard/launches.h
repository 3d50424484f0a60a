// The last submissions of work, with what they name: what a fault that shows later is traced to.
//
// The device says that something went wrong some time after it did, so a submission is under
// suspicion until a synchronisation behind it has succeeded.
#pragma once

#include <cuda.h>

#include <array>
#include <cstdint>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "interpose/doors/entries.h"
#include "interpose/heat/named.h"

namespace flexlom::guard {

struct Shape {
  unsigned grid[3] = {0, 0, 0};
  unsigned block[3] = {0, 0, 0};
};

struct Launch {
  static constexpr unsigned kWords = 24;

  uint64_t number = 0;  // of all submissions of the process, from 1 on
  uint64_t at_ns = 0;
  int tid = 0;
  CUcontext context = nullptr;
  uint64_t stream = 0;                // pool::StreamKey
  const std::string* name = nullptr;  // of the kernel, or of the driver call
  bool kernel = false;
  Shape shape;
  unsigned count = 0;         // of `words`
  bool more = false;          // named more than that
  bool unknown = false;       // its arguments could not be read
  CUdeviceptr words[kWords];  // the first `count`
};

class Launches {
 public:
  static constexpr size_t kKept = 1024;

  // Right before the driver gets the work. Returns its number, for refused() and over().
  uint64_t add(doors::Entry entry, const heat::Named& named, const Shape& shape, CUcontext context,
               uint64_t stream, int tid, uint64_t at_ns);
  void entered(uint64_t number);  // the driver has taken it
  void refused(uint64_t number);  // it has not
  uint64_t last() const;          // the latest such that all up to it have entered the driver
  // Work up to that number has ended without a fault: all of it, that of a context, or of one
  // stream of it.
  void over(uint64_t number);
  void over(CUcontext context, uint64_t number);
  void over(CUcontext context, uint64_t stream, uint64_t number);

  // Those that may still have been running, latest first. `all`: also those that are over.
  std::vector<Launch> suspects(CUcontext context, bool all = false) const;

 private:
  const std::string* name_of(doors::Entry entry, const heat::Named& named, bool* kernel);

  mutable std::mutex mutex_;  // guards all below
  uint64_t next_ = 0;
  std::array<Launch, kKept> ring_;  // number % kKept
  std::set<uint64_t> entering_;
  uint64_t all_over_ = 0;
  std::map<CUcontext, uint64_t> context_over_;
  std::map<std::pair<CUcontext, uint64_t>, uint64_t> stream_over_;
  std::set<std::string> names_;  // never removed from: launches point in here
  std::unordered_map<const void*, const std::string*> kernels_;  // by handle
  uint64_t kernels_of_ = 0;  // heat::handle_generation() that the handles belong to
};

}  // namespace flexlom::guard
