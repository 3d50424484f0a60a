// Tracked mode (FLEXLOM_SAFETY=tracked): pages whose last tracked use is over change places while
// other work runs.
//
// It believes that work touches only what it names: kernels by their arguments, copies and fills by
// theirs. Memory whose address was seen in data copied to a device (a table of pointers) is left
// out, and so is memory that was never named; such pages move as in strict mode. Work that cannot
// be read at all counts as touching everything. What stays unseen are addresses that a kernel
// computes or loads from where nothing was copied to: a program that does so may fault.
//
// The submitting thread does the work, so nothing else is held back: it takes frames from pages
// that are no longer in use, waits for some to fall out of use when there are none, remaps, and
// lets the copies run. The submission's stream waits for them. While the processor is ahead of the
// device, copies overlap with the work before.
//
// Thread safe. Hold no lock of the pool.
#pragma once

#include <atomic>

#include "pool/residency/mover.h"

namespace flexlom::pool {

struct Submission;
struct Tracking;

class Tracked {
 public:
  Tracked(Mover& mover, Fence& fence) : mover_(mover), fence_(fence) {}

  // Brings in the spilled pages of what the submission of `tick` names. True: all are on the device
  // or under way; `*arrival` is what to wait for then, 0: nothing. False: not now, and nothing has
  // changed for it.
  bool promote(DevicePool& pool, const Submission& submission, uint64_t tick,
               const Tracking& tracking, uint64_t ready_bytes, uint64_t* arrival);
  // False for a while after work did not end.
  bool worth_trying() const noexcept;
  // One more submission was touched by the program; now and then its end is marked.
  void note_use(DevicePool& pool) noexcept;

 private:
  bool wait_for_end(DevicePool& pool, uint64_t over_before);

  Mover& mover_;
  Fence& fence_;
  std::atomic<uint64_t> not_before_ns_{0};
  std::atomic<uint32_t> uses_{0};
};

}  // namespace flexlom::pool
