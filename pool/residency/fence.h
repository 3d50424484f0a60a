// The fence: proof that work submitted before some moment is done, without ever waiting for it.
//
// Time is cut into epochs. A block that is freed is stamped with the open epoch; it may be handed
// out again once that epoch is closed and every context's work of that time has finished, which a
// context-wide event per epoch shows (CUDA Driver API 6.8, cuCtxRecordEvent). When nothing was
// submitted since the last moment known to be idle, the stamp is 0: reuse at once, no driver call.
//
// `work_submitted` belongs to the doors: every submission sets it AFTER the driver took the work.
// Setting it after is what makes a concurrent cut() safe: either the event recorded by the cut
// covers the work, or the submitter finds the word cleared and sets it again. For that each side
// needs a full fence between its two steps; `heavy_fence` is ours (gate.h), the submitter's is
// light.
//
// While a stream capture is open anywhere in the process nothing is recorded or queried, because
// cuCtxRecordEvent breaks any capture in progress, from any thread (law 3).
//
// All functions are thread safe; none waits except wait() and, on drivers without
// context events, advance(), which then synchronises as cuMemFree itself would.
#pragma once

#include <atomic>
#include <deque>
#include <mutex>
#include <vector>

#include "pool/driver.h"

namespace flexlom::pool {

class Fence {
 public:
  // `heavy_fence`: null where submitters fence for themselves.
  Fence(Driver& driver, std::atomic<uint32_t>& work_submitted,
        void (*heavy_fence)() noexcept = nullptr)
      : driver_(driver), work_submitted_(work_submitted), heavy_fence_(heavy_fence) {}

  // The epoch that must have passed before memory freed now may be used again; 0: at once.
  uint64_t stamp() noexcept;
  bool passed(uint64_t epoch) const noexcept {
    return epoch <= done_.load(std::memory_order_acquire);
  }

  // How far proof has come: it grows as work ends.
  uint64_t done() const noexcept { return done_.load(std::memory_order_acquire); }
  // Closes the open epoch even when nothing waits for it, so that done() follows the work.
  void mark() noexcept;

  // Looks at finished epochs and closes the open one when something waits for it.
  void advance() noexcept;
  // advance() until `epoch` has passed or `timeout_ns` is over. Hold no lock across it.
  bool wait(uint64_t epoch, uint64_t timeout_ns) noexcept;

  // The program itself proved its only context idle: `token` from before the synchronisation.
  uint64_t before_synchronize() noexcept;
  void after_synchronize(CUcontext context, uint64_t token, bool succeeded) noexcept;

  // Contexts whose work a fence must cover. A removed context's work is over and its events are
  // gone. The context's device (Driver::device_of).
  int add_context(CUcontext context) noexcept;
  // A context of the device: `preferred` when it is one, else any that is not being destroyed; null
  // when there is none.
  CUcontext context_on(int device, CUcontext preferred) noexcept;
  void remove_context(CUcontext context) noexcept;
  // Before a context is destroyed: gives its events back to the driver, and stops recording in it.
  // Whether it was known. Its work may still run and no event can prove it over, so nothing at all
  // is proved until remove_context(), or add_context() when it was not destroyed after all.
  bool destroy_events(CUcontext context) noexcept;
  // An event ended with an error: the context runs nothing any more and answers only with it.
  bool context_broken() const noexcept { return broken_.load(std::memory_order_relaxed); }

  // Called before the driver's own begin and after its end of a capture.
  void capture_opening() noexcept;
  void capture_closed() noexcept;
  // Runs `calls` unless a capture is open, and lets none open meanwhile: for calls to the driver
  // that would break one. False: not run. They must be short and must not use the fence.
  template <class F>
  bool without_capture(F&& calls) {
    std::lock_guard lock(mutex_);
    if (capture_open()) return false;
    calls();
    return true;
  }
  // How many are known. A look without the lock.
  size_t contexts() const noexcept { return context_count_.load(std::memory_order_relaxed); }
  bool capture_open() const noexcept { return captures_.load(std::memory_order_acquire) > 0; }

 private:
  struct Known {
    CUcontext context;
    int device;
  };
  struct Mark {
    CUcontext context;
    CUevent event;
  };
  struct Cut {
    uint64_t epoch;
    std::vector<Mark> marks;
  };

  uint64_t close_epoch();  // mutex_ held; the epoch that was open
  void reopen();           // mutex_ held: that epoch could not be proven, a later one must
  void cut();              // mutex_ held
  void poll();             // mutex_ held
  CUevent take_event(CUcontext context);
  void recycle(Cut& cut);

  Driver& driver_;
  std::atomic<uint32_t>& work_submitted_;
  void (*const heavy_fence_)() noexcept;
  std::atomic<uint64_t> open_{1};
  std::atomic<uint64_t> done_{0};
  std::atomic<bool> wanted_{false};  // some block carries the open epoch's stamp
  std::atomic<int> captures_{0};
  std::atomic<bool> broken_{false};

  std::mutex mutex_;  // guards all below
  std::vector<Known> contexts_;
  std::atomic<size_t> context_count_{0};
  std::vector<CUcontext> dying_;  // being destroyed now
  std::deque<Cut> cuts_;          // closed epochs not yet done, oldest first
  std::vector<Mark> spare_;       // events to use again
};

}  // namespace flexlom::pool
