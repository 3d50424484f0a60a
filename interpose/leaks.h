// The leak check: which allocations a program never freed, told when it ends.
//
// "Ends" is after every exit handler and every destructor of every library has run, because that is
// where C++ programs free what their static objects hold. An allocation that its context took along
// (cuCtxDestroy, cuDevicePrimaryCtxReset) was never freed either.
#pragma once

#include <cstdint>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "interpose/options.h"
#include "interpose/stacks/stacks.h"
#include "pool/pool.h"

namespace flexlom {

// Thread safe.
class LeakCheck {
 public:
  explicit LeakCheck(bool on) noexcept : on_(on) {}

  bool on() const noexcept { return on_; }
  void allocated(const pool::Request&, const pool::AllocationInfo&, stacks::NodeId) noexcept;
  void freed(const char* call, uint64_t address) noexcept;

  // Prints what was found to standard error, by way of `flexlom leaks`, which knows names and
  // suppressions. True when there are leaks that are not suppressed. Once, with no other thread of
  // the program at work.
  bool report(stacks::Stacks& stacks, const Options& options) noexcept;

 private:
  struct Allocation {
    uint64_t address, asked_bytes, given_bytes;
    const char* call;
    stacks::NodeId caller;
    int device;
    bool context_ended;
  };
  std::string log_of(stacks::Stacks& stacks, const std::vector<Allocation>& leaks) const;

  const bool on_;
  std::mutex mutex_;  // guards what follows
  std::unordered_map<uint64_t, Allocation> live_;
  std::vector<Allocation> ended_with_context_;
  uint64_t allocations_ = 0, missed_ = 0;  // missed: there was no memory to note them
};

}  // namespace flexlom
