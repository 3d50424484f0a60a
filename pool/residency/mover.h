// The mover: takes a batch of pages down to the host and up to the device while nothing can touch
// them (law 2).
//
// Host frames are made ready first, with the program running. Then the work submitted so far is
// waited for with the gate still open, so that the gate is shut only for what is submitted
// meanwhile and for the batch itself. Behind the shut gate copies go both ways on streams of our
// own while other pages are remapped: copying a page costs about 1.2 ms per 64 MiB on a PCIe 5 link
// and remapping it about 0.8 ms, so the remapping hides behind the copying.
//
// Every wait is bounded. When one runs out, or a capture is open, the batch is given up and nothing
// has changed; after work that does not end, the next tries come at growing intervals. Work that
// does end after all was only slow, perhaps because its data is away: the next try comes at once
// then, and waits longer.
//
// In tracked mode there is another way (run_beside, beside.cpp): pages that nothing uses, claimed
// by the caller, change places beside running work, and copies up are left under way: an arrival,
// which whatever names those pages waits for on its stream.
//
// Thread safe; one batch at a time. Hold no lock of the pool across run().
#pragma once

#include <atomic>
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <vector>

#include "pool/observer.h"
#include "pool/residency/fence.h"
#include "pool/residency/gate.h"
#include "pool/residency/move.h"

namespace flexlom::pool {

class DevicePool;

struct Batch {
  DevicePool* pool = nullptr;
  // Whose streams copy; when it is of another device than the pool, any context of that device is
  // taken instead.
  CUcontext context = nullptr;
  std::vector<PageId> down;  // in the order in which they may leave
  std::vector<PageId> up;    // in the order in which they are needed
};

struct Outcome {
  uint64_t down_bytes = 0, down_copied_bytes = 0, up_bytes = 0;
  uint64_t down_unknown_bytes = 0;  // of the copied: there was nothing to compare with
  uint64_t shut_ns = 0;             // how long the gate was shut
  bool given_up = false;
};

struct MoveStats {
  uint64_t demoted_pages = 0, demoted_bytes = 0, demoted_copied_bytes = 0, clean_pages = 0;
  uint64_t promoted_pages = 0, promoted_bytes = 0;
  uint64_t batches = 0, shut_ns = 0, longest_shut_ns = 0;
  uint64_t beside = 0;  // of the batches, those that stopped nothing
  // Where the time went: making host frames ready and waiting for work (both with the program
  // running), then, the gate shut, comparing fingerprints, remapping either way, waiting for
  // copies.
  uint64_t begin_ns = 0, drain_ns = 0, compare_ns = 0, place_ns = 0, demote_ns = 0, wait_ns = 0;
  uint64_t given_up[static_cast<size_t>(GaveUp::count_)] = {};
};

class Mover {
 public:
  struct Limits {
    uint64_t stuck_ns = 250'000'000;     // without any work ending, the gate open
    uint64_t drain_ns = 60'000'000'000;  // for all work submitted before, as long as some ends
    uint64_t readers_ns = 5'000'000;     // for threads inside a submission, the gate shut
    uint64_t work_ns = 20'000'000;       // for what they submitted
    uint64_t copy_ns = 2'000'000'000;    // for a batch of copies; a link that is slower is broken
  };

  Mover(Driver& driver, Fence& fence, Gate& gate, Observer* observer)
      : driver_(driver), fence_(fence), gate_(gate), observer_(observer) {}

  Outcome run(Batch batch);
  // Runs `fn` in the same quiet, without moving anything, and waits for it with the same bounds;
  // not put off by failures before. `fn` is to be short (tens of ms, at most a second) and must
  // submit nothing. False: there was no quiet to be had, and it was not run. The caller is outside
  // the gate.
  bool while_quiet(DevicePool& pool, const std::function<void()>& fn);
  // The pages are claimed (DevicePool::claim_*), and stay so until this returns; mutex() held. When
  // pages came up `*arrival` is the number of their arrival, else 0.
  Outcome run_beside(Batch batch, uint64_t* arrival);
  // Closes the books of arrivals that are over; mutex() held.
  void harvest() noexcept;
  // The same for whoever passes by: does nothing when a batch is being moved.
  void try_harvest() noexcept;
  // Waits until no arrival is under way: milliseconds, only our own copies are waited for. Call it
  // without mutex(), when no capture is open that began before an arrival.
  void settle_arrivals() noexcept;
  // Calls `fn` with each event that a stream must wait for before it touches pages of that arrival
  // or of one before: one for each context in which pages arrive. The events stay meanwhile, even
  // when a context is about to end. False: all is over, and there was nothing to call it with. `fn`
  // is to be short, and must not call the mover.
  bool while_arriving(uint64_t arrival, const std::function<void(CUevent)>& fn) noexcept;
  uint64_t last_arrival() const noexcept { return arrivals_made_.load(std::memory_order_acquire); }
  bool arriving() const noexcept {
    return arrivals_over_.load(std::memory_order_relaxed) !=
           arrivals_made_.load(std::memory_order_relaxed);
  }
  // False while a recent failure to find the device quiet makes another try a waste.
  bool worth_trying() const noexcept;
  // Held while a context is destroyed, so that no batch uses it meanwhile.
  std::mutex& mutex() noexcept { return mutex_; }
  // Gives what we made in the context back to the driver; mutex() held.
  void release_context(CUcontext context) noexcept;
  MoveStats stats() const;
  void set_limits(const Limits& limits) { limits_ = limits; }

 private:
  struct Streams {
    CUstream down = nullptr, up = nullptr;
    std::vector<CUevent> events;
    CUstream marks = nullptr;       // beside: fingerprints of what arrived
    std::vector<CUevent> arrivals;  // to use again
  };
  struct Arrival {
    uint64_t number;
    DevicePool* pool;
    CUcontext context;
    CUevent event;
    std::vector<Move> moves;
    std::vector<const Fingerprint*> marks;  // of each move; null: none
  };
  struct Down {
    Move move;
    bool copying = false;      // the driver took the copy
    CUevent copied = nullptr;  // says when it is over; null: nothing does
    bool clean = false;
  };
  struct Job {
    const Batch& batch;
    Streams& streams;
    std::vector<Down> down;
    std::vector<Move> up;
    size_t next_down = 0;
    Outcome outcome;
  };

  // All below: mutex_ held.
  Streams* streams_of(CUcontext context);
  CUevent event_of(const Batch& batch, Streams& streams, size_t index);
  void begin(Job& job);
  void cancel(Job& job);
  bool drained(uint64_t epoch);
  bool quiet(Job& job);
  void give_up(Job& job, GaveUp why);
  void execute(Job& job);
  void compare_marks(Job& job);
  void start_saving(Job& job);
  bool demote_next(Job& job);
  bool wait_for(CUevent event);
  bool settle(Job& job);
  void note_demoted(Job& job, const Down& down);
  void note_promoted(DevicePool& pool, const Move& move);
  void note_times();
  bool demote_beside(Job& job, bool* compared);
  uint64_t let_arrive(Job& job, std::vector<Move> moves);
  void finish_arrival(bool arrived) noexcept;
  void finish_arrivals(CUcontext context) noexcept;  // null: of all

  Driver& driver_;
  Fence& fence_;
  Gate& gate_;
  Observer* const observer_;
  Limits limits_;

  std::mutex mutex_;  // guards all below but stats_
  std::map<CUcontext, Streams> streams_;
  std::atomic<uint64_t> not_before_ns_{0};
  std::atomic<uint64_t> stuck_epoch_{0};  // given up for the work of this epoch; 0: for nothing
  uint64_t pause_ns_ = 0;
  uint64_t patience_ = 1;  // times stuck_ns
  MoveStats times_;        // the times of the work done under mutex_
  size_t marks_used_ = 0;
  std::deque<Arrival> arrivals_;  // in order; changed under arrivals_mutex_ as well
  mutable std::mutex arrivals_mutex_;
  std::atomic<uint64_t> arrivals_made_{0}, arrivals_over_{0};
  mutable std::mutex stats_mutex_;
  MoveStats stats_;
};

}  // namespace flexlom::pool
