// Residency: which pages lie where, decided from what the program does.
//
// Four occasions to move pages, each in the thread that brings it about:
//   an allocation finds the device full   -> make_room(): the coldest leave, so that new memory,
//                                            which is about to be used, gets device frames
//   a submission names spilled pages      -> before(): in place, or promoted ahead of it, whichever
//                                            was measured to be faster for this function
//   submissions go on reading in place    -> rebalance(): pages touched more often change places
//                                            with pages touched less
//   memory is handed to somebody else     -> bring(): all of it, to stay
//
// What to move is decided by pure functions (policy.h, decisions.h), the mechanics are the mover's
// (mover.h). Here is what is between: collecting the page table, and handing it over.
//
// Thread safe. Hold no lock of the pool across any of these.
#pragma once

#include <atomic>
#include <mutex>
#include <unordered_map>

#include "pool/residency/decisions.h"
#include "pool/residency/mover.h"
#include "pool/residency/tracked.h"
#include "pool/touched.h"

namespace flexlom::pool {

struct TouchedBases;

// What a submission names, as the doors found it.
struct Submission : Names {
  CUcontext context = nullptr;    // whose streams copy for it, if they can; null: any
  uint64_t function = 0;          // identifies the code and the amount of its work; 0: not a kernel
  bool wild = false;              // it may touch anything else, too
  bool may_move = true;           // false: the caller is inside the gate, or has no context
  TouchedBases* bases = nullptr;  // filled by before() with what it touches; may be null
};

struct Advice {
  bool measure = false;  // bracket it with events and report observe()
  uint64_t spilled_bytes = 0;
  uint64_t reading_bytes = 0;  // the same as often as a graph names it: to measure it by
  // Tracked mode. The submission is in flight since before() and until Residency::submitted().
  policy::Tick tick = 0;
  uint64_t arrival = 0;  // its stream must wait for this one; 0: for none
};

struct ResidencyStats {
  MoveStats moves;
  uint64_t touched = 0;         // submissions that named memory of the pool
  uint64_t in_place = 0;        // of those, left to read spilled pages over the link
  uint64_t in_place_bytes = 0;  // at most: what was spilled of the allocations they named
  uint64_t promoted_for = 0;    // had pages promoted first
  uint64_t measured = 0;
  uint64_t arenas = 0;  // allocations whose parts came and went one by one (buffers.h)
};

class Residency {
 public:
  struct Config {
    policy::Kind kind = policy::Kind::automatic;
    bool tracked = false;                   // tracked.h; submissions are watched from the start
    uint64_t batch_bytes = 256u << 20;      // promoted in one go
    std::atomic<bool>* watching = nullptr;  // told when memory becomes short
  };

  Residency(Driver& driver, Fence& fence, Gate& gate, Observer* observer, const Config& config)
      : config_(config),
        fence_(fence),
        mover_(driver, fence, gate, observer),
        tracked_(mover_, fence) {
    if (config_.tracked && config_.watching != nullptr) config_.watching->store(true);
  }

  // From now on submissions should say what they name.
  void memory_is_short() noexcept {
    if (short_.exchange(true, std::memory_order_relaxed)) return;
    if (config_.watching != nullptr) config_.watching->store(true, std::memory_order_relaxed);
  }

  // Frees up to `bytes` of device frames by demoting pages; returns how many were freed.
  uint64_t make_room(DevicePool& pool, CUcontext context, uint64_t bytes) noexcept;
  // Before the driver gets the work, outside the gate.
  Advice before(DevicePool& pool, const Submission& submission) noexcept;
  // A measured submission took `elapsed_ns` on the device, and the program `host_ns` to submit it,
  // with so much of what it named in host frames, counted as in Advice::reading_bytes.
  void observe(uint64_t function, uint64_t reading_bytes, uint64_t elapsed_ns,
               uint64_t host_ns) noexcept;
  bool is_tracked() const noexcept { return config_.tracked; }
  // Tracked mode: the driver has what before() gave this advice for, and the fence knows of it.
  void submitted(DevicePool& pool, policy::Tick tick) noexcept;
  // Once the fence knows that a capture is about to open, and before the driver does: what a stream
  // would have to wait for could not be waited for within a capture. Milliseconds; call it outside
  // the gate.
  void before_capture() noexcept {
    if (config_.tracked) mover_.settle_arrivals();
  }
  // All of the allocation there, or of what the program mapped there, comes to the device, because
  // it is to be shared and memory on the host cannot be; others leave for it. False: part of it is
  // still on the host, or may be, for want of room, of quiet, or of the right to move. Waits as a
  // batch does, for each `batch_bytes`. Outside the gate.
  bool bring(DevicePool& pool, CUcontext context, CUdeviceptr address) noexcept;
  // Whether pages changed places.
  bool rebalance(DevicePool& pool, CUcontext context) noexcept;

  Mover& mover() noexcept { return mover_; }
  Tracked& tracked() noexcept { return tracked_; }
  // Gives what we made in the context back to the driver; mover().mutex() held.
  void release_context(CUcontext context) noexcept {
    tracked_.forget(context);
    mover_.release_context(context);
  }
  ResidencyStats stats() const;

 private:
  float cost_of(uint64_t function) const noexcept;
  void mark_progress() noexcept;
  Touched touch(DevicePool& pool, const Submission& submission, Tracking& tracking, Advice& advice);
  bool promote(DevicePool& pool, const Submission& submission, policy::Tick tick, Outcome* outcome);
  void note_promoted(uint64_t function, const Outcome& outcome);
  void note_arenas(uint32_t more) noexcept;
  bool run(DevicePool& pool, CUcontext context, const std::vector<PageId>& ids,
           const policy::Plan& plan, Outcome* outcome);

  const Config config_;
  Fence& fence_;
  Mover mover_;
  Tracked tracked_;
  // The rates again, for who looks at every submission: a table without a lock, where a function
  // may have lost its place to another and counts as not measured then.
  struct Rate {
    std::atomic<uint64_t> function{0};
    std::atomic<float> ns_per_byte{0};
  };
  static constexpr size_t kRates = 1024;
  Rate rates_[kRates];
  static size_t place_of(uint64_t function) noexcept {
    return static_cast<size_t>((function * 0x9e3779b97f4a7c15u) >> 54) % kRates;
  }

  std::atomic<bool> short_{false};
  std::atomic<uint64_t> marked_at_ns_{0};
  mutable std::mutex mutex_;  // guards all below
  std::unordered_map<uint64_t, policy::Profile> profiles_;
  ResidencyStats stats_;
  // What these say about work in place, a graph counted by its nodes.
  uint64_t steps_in_place_ = 0, reading_bytes_ = 0;
  policy::ExchangePace exchange_pace_;
  policy::ReadyFrames ready_frames_;
};

}  // namespace flexlom::pool
