// Tracked mode (FLEXLOM_SAFETY=tracked): pages whose last tracked use is over change places while
// other work runs.
//
// It believes that work touches only what it names: kernels by their arguments, copies and fills by
// theirs. Memory whose address was seen in data copied to a device (a table of pointers) is left
// out, and so is memory that was never named; such pages move as in strict mode. Work that cannot
// be read at all counts as touching everything. What stays unseen are addresses that a kernel
// computes or loads from where nothing was copied to: a program that does so may fault.
//
// The submitting thread brings in what its submission names: it takes frames from pages that are no
// longer in use, waits for some to fall out of use when there are none, remaps, and lets the copies
// run. The submission's stream waits for them. While the processor is ahead of the device, copies
// overlap with the work before.
//
// Remapping a page takes that thread nearly a millisecond, in which it submits nothing. So once
// that has happened a thread of our own looks ahead: it brings in the pages that are predicted to
// be named next, a few at a time, as others fall out of use. What it did not foresee is brought in
// as before.
//
// Thread safe. Hold no lock of the pool.
#pragma once

#include <atomic>

#include "pool/keeper.h"
#include "pool/residency/mover.h"
#include "pool/residency/policy.h"

namespace flexlom::pool {

struct Submission;
struct Tracking;

class Tracked {
 public:
  Tracked(Mover& mover, Fence& fence)
      : mover_(mover), fence_(fence), scout_([](uint64_t) {}, [this] { scout(); }, -1) {}

  // Brings in the spilled pages of what the submission of `tick` names. True: all are on the device
  // or under way; `*arrival` is what to wait for then, 0: nothing, and `*outcome` what was moved.
  // False: not now, and nothing has changed for it.
  bool promote(DevicePool& pool, const Submission& submission, uint64_t tick,
               const Tracking& tracking, uint64_t ready_bytes, uint64_t* arrival, Outcome* outcome);
  // False for a while after work did not end.
  bool worth_trying() const noexcept;
  // One more submission was touched by the program; now and then its end is marked.
  void note_use(DevicePool& pool) noexcept;
  // One round of the thread that looks ahead. Whether pages are on their way.
  bool look_ahead();
  // The context ends: nothing is brought in with it any more. mover.mutex() held.
  void forget(CUcontext context) noexcept {
    if (context_ == context) context_ = nullptr;
  }
  // Ends the thread; safe to call twice. See Keeper.
  void stop() noexcept { scout_.stop(); }
  void stop_within(uint64_t timeout_ms) noexcept { scout_.stop_within(timeout_ms); }
  void leave() noexcept { scout_.leave(); }

 private:
  // Came up ahead at that tick, and has not been named since.
  struct Early {
    PageId page;
    policy::Tick came;
  };

  bool wait_for_end(DevicePool& pool, uint64_t over_before);
  void scout();
  uint64_t waiting_bytes(const std::vector<policy::PageView>& views,
                         const std::vector<PageId>& ids);

  Mover& mover_;
  Fence& fence_;
  std::atomic<uint64_t> not_before_ns_{0};
  // Of each device: where its work has come to is marked now and then.
  struct Marks {
    std::atomic<uint32_t> uses{0};
    std::atomic<uint64_t> last_ns{0};
  };
  Marks marks_[kMaxDevices];

  // Guarded by mover_.mutex(): where pages were last brought in for a submission.
  DevicePool* pool_ = nullptr;
  CUcontext context_ = nullptr;
  std::vector<Early> early_;

  std::atomic<uint64_t> until_ns_{0};  // looking ahead is worth it, for all we know
  std::atomic<bool> scouting_{false};
  Keeper scout_;  // last: stops before what it uses is gone
};

}  // namespace flexlom::pool
