// The pool of one device: address space, frames, and the shards that hand out objects.
//
// Hot path: one shard, no driver call. Slow path (growth, trimming, spilling): the device's mutex.
// Lock order: device mutex, then one shard at a time, then the touch mutex. No lock is held while
// waiting for the fence.
#pragma once

#include <condition_variable>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "pool/address_space.h"
#include "pool/frames.h"
#include "pool/guard.h"
#include "pool/in_flight.h"
#include "pool/observer.h"
#include "pool/residency/move.h"
#include "pool/residency/policy.h"
#include "pool/shard.h"
#include "pool/stand_ins.h"
#include "pool/touched.h"

namespace flexlom::pool {

class Residency;

inline constexpr unsigned kShards = 16;

struct PoolStats {
  uint64_t device_held_bytes = 0, device_peak_bytes = 0, device_budget_bytes = 0;
  uint64_t host_held_bytes = 0, host_peak_bytes = 0, host_budget_bytes = 0;
  uint64_t spilled_bytes = 0;  // ever placed in host frames, at allocation or by a move
  uint64_t asked_bytes = 0, asked_peak_bytes = 0;
  uint64_t cached_bytes = 0;  // device frames held for reuse
  uint64_t allocs = 0, frees = 0, ooms = 0, live = 0;
};

// What stream-ordered allocations of one memory pool use, for that pool's attributes. Whole
// granules of what is used count as reserved.
struct AsyncUse {
  uint64_t used_bytes = 0, used_high_bytes = 0, reserved_bytes = 0, reserved_high_bytes = 0;
};

// What tracked mode keeps of a submission besides (residency/tracked.h).
struct Tracking {
  struct Use {
    Span* span;
    policy::Tick before;  // when it was named last
    bool untracked;
  };
  void add(Span* span, policy::Tick before, bool untracked) noexcept {
    try {
      spilled.push_back({span, before, untracked});
    } catch (...) {
      // Out of host memory: that one cannot be promoted beside running work.
    }
  }

  bool wild = false;         // in: it may touch anything
  std::vector<Use> spilled;  // allocations with pages in host frames
  // Copies into what it names may still be under way: up to this arrival of the mover; 0: none.
  uint64_t arrival = 0;
};

// The large allocations that a submission touches, for who wants to know which.
struct TouchedBases {
  static constexpr unsigned kMost = 512;
  unsigned count = 0;
  bool more = false;  // than there is room for
  uint64_t bases[kMost];

  void add(CUdeviceptr base) noexcept {
    if (count < kMost) {
      bases[count++] = base;
    } else {
      more = true;
    }
  }
};

class DevicePool {
 public:
  struct Config {
    int device;
    CUdeviceptr base_hint;
    size_t address_bytes;
    uint64_t device_budget_bytes;
    uint64_t device_total_bytes;
    bool host_vmm;
    int host_numa_id;             // -1: host frames have a plain HOST location
    CUdeviceptr window_hint = 0;  // where private windows go; 0: anywhere
    bool guard = false;           // place for finding bugs (guard.h); nothing is cached or moved
  };

  // Null when the driver refuses the address space; `*error` says with what.
  // `residency` may be null: then nothing ever moves.
  static std::unique_ptr<DevicePool> create(Driver&, Fence&, Observer*, Budget& host_budget,
                                            const Config&, CUresult* error,
                                            Residency* residency = nullptr);
  ~DevicePool();

  // `shard_hint`: any number that is stable for a thread. A request that would spill is refused
  // once when its caller trims its own cache then, and served when it is repeated.
  CUresult allocate(const Request& request, unsigned shard_hint, CUdeviceptr* out);
  // INVALID_VALUE for anything that is not the base of a live allocation, as cuMemFree says.
  CUresult free(const char* call, CUdeviceptr address, StreamKey stream);
  // The live allocation that contains `address`; false when there is none.
  bool find(CUdeviceptr address, AllocationInfo* out) const;
  bool set_sync_memops(CUdeviceptr address, bool value);
  // Guard mode: unmaps what was freed and is used by no work any more, after the observer has seen
  // it; waits `wait_ns` at most for the work that still runs. No lock held.
  void settle(uint64_t wait_ns);
  bool guarded() const { return guard_ != nullptr; }

  // The frames behind an allocation, for export; pins it (law 7). NOT_SUPPORTED when part of it
  // lies in host frames, INVALID_VALUE when there is no such allocation.
  struct Export {
    CUdeviceptr span_base;
    std::vector<Page> pages;
  };
  CUresult pin_for_export(CUdeviceptr address, Export* out);

  // Frames that the program makes itself, within the same device budget: reserves bytes, after
  // giving back idle frames of ours when that makes room.
  bool take_for_program(uint64_t bytes);
  void give_for_program(uint64_t bytes) noexcept { device_budget_.give(bytes); }
  void note_program_bytes(uint64_t bytes, bool allocated);
  void note_spilled(uint64_t bytes);
  bool can_spill() const { return config_.host_vmm; }
  int host_numa_id() const { return config_.host_numa_id; }

  // Memory that the program maps itself, where it wants it within a range of ours (program.cpp).
  // Whoever calls these is the owner of what they hand out, and calls for one address or frame one
  // at a time. take_range(): 0, when there is no room, or nothing is ever moved. Alignment: a power
  // of two, or 0.
  CUdeviceptr take_range(size_t bytes, size_t alignment);
  bool places_for_program() const { return residency_ != nullptr && guard_ == nullptr; }
  void give_range(CUdeviceptr address, size_t bytes);
  // Frames for a request, on the device as long as there is room; they lie nowhere yet.
  struct Loose {
    std::vector<Page> pages;
    bool shared = false;  // others may have them mapped, so they are used for nothing else
  };
  CUresult make_frames(const Request&, Loose* frames);
  void give_frames(Loose* frames);
  // The frames become the memory at `address`, in `arena` (may be null) so many granules from the
  // beginning, and nobody has access to it. They come back, though perhaps as others, by unmapping.
  CUresult map_frames(CUdeviceptr address, const Request&, const std::shared_ptr<Arena>& arena,
                      uint32_t offset, Loose* frames);
  CUresult unmap_frames(CUdeviceptr address, Loose* frames);
  // The device reaches it, and its pages may move.
  CUresult open_mapped(CUdeviceptr address);
  // They stay where they are from now on: these. `spilled_too`: even on the host, else that is
  // NOT_SUPPORTED, and they do not have to stay.
  CUresult pin_mapped(CUdeviceptr address, bool spilled_too, std::vector<Page>* pages);

  // Moving pages (moves.cpp). A page that began a move ends it with a cancel or a finish; its span
  // keeps its pages until then.
  // `needed_tick`: pages touched by that submission are marked as needed; 0: none.
  std::vector<policy::PageView> movable_pages(policy::Tick needed_tick,
                                              std::vector<PageId>* ids) const;
  CUresult begin_demote(const PageId& page, Move* move);
  void cancel_demote(const Move& move);
  CUresult finish_demote(const Move& move);  // the bytes are in move.host
  CUresult begin_promote(const PageId& page, Move* move);
  CUresult place_promoted(Move* move);  // OUT_OF_MEMORY: no device frame is free
  void finish_promote(const Move& move, bool copied, const Fingerprint* mark);

  // Shows other frames in place of pages for a moment (stand_ins.h, stand_ins.cpp). False: part of
  // the range cannot be backed so, because it is no memory of this pool, may not move (law 7), or
  // the driver refused; what was done stays until take_back(), which must follow.
  bool put_stand_ins(CUdeviceptr address, size_t bytes, Backing want, StandIns* in);
  void take_back(StandIns* in);
  // Whether the range lies partly in device frames and partly in host frames, at this moment.
  bool is_mixed(CUdeviceptr address, size_t bytes) const;

  // A submission names these addresses: the allocations that hold them, or end at them, are used.
  // `cost`: ns for each byte it would have to read in place; 0: not known. `bases` may be null.
  // With `tracking`, and when it touches anything or is wild: waits while pages of what it names
  // change places, and is in flight until submitted(), which must follow.
  Touched touch(const Names& names, float cost = 0, TouchedBases* bases = nullptr,
                Tracking* tracking = nullptr);
  // The page changed places because that paid off, not because work had to have it.
  void note_exchanged(const PageId& page);
  policy::Tick touch_tick() const;

  // Tracked mode (tracking.cpp).
  void submitted(policy::Tick tick) noexcept;  // the driver has it, and the fence knows
  // Makes sure that the end of what was submitted so far will be known.
  void mark_uses() noexcept;
  // Marks whose work is not known to be over.
  size_t open_marks() const noexcept {
    std::lock_guard lock(touch_mutex_);
    return in_flight_.open_marks();
  }
  // The tick before which all work is over, as known now.
  policy::Tick uses_over_before() noexcept;
  // Of the large allocations that the words name, in host frames now; of arenas only what was
  // touched by the submission of that tick or since.
  uint64_t spilled_bytes(const CUdeviceptr* words, size_t count,
                         policy::Tick since = 0) const noexcept;
  // Takes pages that may change places while other work runs: those whose allocation nothing uses
  // any more. `needed`: what the submission of `tick` is waiting for, used by nobody else; else
  // what nobody has named since. A submission that names it waits from now on. False: may not.
  bool claim_needed(const PageId& page, const Tracking& tracking, policy::Tick tick) noexcept;
  bool claim_unused(const PageId& page) noexcept;
  // `arrival`: copies into it are under way; 0: none of this batch.
  void unclaim(const PageId& page, uint64_t arrival) noexcept;
  // These words were seen in data that is copied to a device: what they point to may be used
  // without being named.
  // Waits while their pages change places; returns the last arrival that may be under way in them.
  uint64_t seen_in_data(const CUdeviceptr* words, size_t count) noexcept;
  // Whether tracked mode may move it at all: it was named, and not seen in data.
  bool is_tracked(const Span& span) const noexcept;

  // Device frames to be had without taking any from anybody; large pages leave a reserve to small.
  uint64_t spare_device_bytes(bool for_large) const;
  // Bytes of spans ever made; written under the device's mutex.
  uint64_t made_bytes() const { return made_bytes_.load(std::memory_order_relaxed); }
  uint64_t device_budget_bytes() const { return device_budget_.limit(); }

  // A granule of device memory for fingerprints at a private address, within the budget; made at
  // the first call, 0 when there is no room.
  CUdeviceptr scratch();

  void release_context(CUcontext context);  // its allocations end with it
  void forget_stream(StreamKey stream);
  // A peer may now reach every page, present and future; with `host_only`, those on the host, which
  // a driver may crash on otherwise (580: copies that name two contexts).
  CUresult allow_access(int device, bool host_only = false);
  bool accessible_by(int device) const;  // all of it

  // Gives back what was idle for `ticks` sweeps, and makes host frames ahead when the budget nears.
  void sweep(uint64_t ticks);
  uint64_t trim(uint64_t keep_bytes);  // cached device frames beyond `keep_bytes` go back now
  // All of them, those too that running work is about to leave.
  uint64_t release_idle();
  bool wants_host_frames() const;
  void make_host_frame();  // one, outside all locks while the driver works
  // Growth has brought the budget near: the keeper has work. True once for each time.
  bool take_hunger() noexcept {
    return hungry_.load(std::memory_order_relaxed) && hungry_.exchange(false);
  }

  bool contains(CUdeviceptr a) const { return a >= base_ && a - base_ < space_.bytes(); }
  CUdeviceptr base() const { return base_; }
  size_t address_bytes() const { return space_.bytes(); }
  int device() const { return config_.device; }
  uint64_t total_bytes() const { return config_.device_total_bytes; }
  uint64_t free_bytes() const;
  PoolStats stats() const;
  AsyncUse async_use(CUmemoryPool mem_pool) const;
  void reset_async_high(CUmemoryPool mem_pool, bool used);
  std::vector<AllocationInfo> live(size_t most) const;  // largest first
  // The largest live allocation of a page or more, without looking at the small ones one by one;
  // false when there is none.
  bool largest(AllocationInfo* out) const;

 private:
  DevicePool(Driver&, Fence&, Observer*, Budget& host_budget, const Config&, CUdeviceptr base,
             size_t bytes, Residency* residency);

  Object* take_cached(const Request&, SizeKey key, unsigned shard, bool small_too);
  Object* reuse_pending(const Request&, SizeKey key, unsigned shard);
  Object* grow(const Request&, SizeKey key, unsigned shard);
  Object* grow_now(const Request&, SizeKey key, unsigned shard, bool fits);
  void commit(Shard& shard, Object* object, const Request& request, bool at_once = false);
  SizeKey key_of(size_t bytes) const;
  void finish_free(Shard& shard, Object* object, StreamKey stream);

  // All below: device mutex held.
  Span* new_span(SizeKey key, unsigned shard);
  Span* blank_span(SizeKey key, unsigned shard, uint32_t first);
  void begin_span(Span& span);
  CUresult take_frame(Page* page, unsigned order, uint64_t keep, bool allow_host);
  CUresult take_frames(const Request&, Loose* frames);
  void put_frames(Loose* frames);
  Span* mapped_span(CUdeviceptr address) const;
  bool take_apart(Span& span, Loose* frames);
  CUresult back(Span& span, bool allow_host);
  CUresult back_page(Span& span, uint32_t granule, unsigned order, bool allow_host);
  bool unback(Span& span);
  void drop_span(Span* span);
  void give_addresses(uint32_t first, uint32_t granules, bool used);
  void publish(Span& span, Span* value);
  Page* page_of(const PageId& id);
  void wait_unclaimed(std::unique_lock<std::mutex>& touch_lock, const CUdeviceptr* words,
                      size_t count, bool wild);
  Span* span_named(CUdeviceptr word) const;
  static bool may_move(const Span& span);
  bool may_be_arena(const Span& span) const;
  void set_arena(Span& span, std::shared_ptr<Arena> arena, uint32_t offset);
  policy::History& history_of(const PageId& page) const;  // touch mutex held
  static void set_spilled(const PageId& page, size_t bytes, bool spilled);
  CUresult take_host_frame(std::unique_lock<std::mutex>& lock, unsigned order, Frame* frame);
  void drop_copies(uint64_t want_bytes);
  void give_up_copy(Page& page);
  CUresult pin(CUdeviceptr address, bool spilled_too, Export* out);
  static void fill_move(const PageId& id, const Page& page, Where to, Move* move);
  static void set_moving(const PageId& id, Page& page, bool moving);
  CUresult swap_frames(const Move& move, const Frame& from, const Frame& to, Where where);
  bool hire(Where where, StandIns* in);
  StandIns::Lifted* lift(const PageId& id, StandIns* in);
  CUresult show(CUdeviceptr address, size_t bytes, const Frame& frame, Where where);
  CUresult open_access(CUdeviceptr address, size_t bytes, Where where);
  void make_room(const Request& request, uint32_t granules);  // no lock held
  bool fits_device(uint32_t granules) const;
  uint64_t reclaim(uint64_t want_bytes, uint64_t before_tick);
  uint64_t cached_bytes() const;
  uint64_t held_beyond() const;
  void keep_less();  // no lock held
  uint64_t newest_pending_epoch();
  bool hungry() const;
  uint64_t host_ahead_bytes() const;
  void drop_idle_copies(uint64_t ticks);
  void release_host_surplus(uint64_t ticks);  // no lock held
  bool refuse_once(const Request&);
  void report_oom(const Request&, bool soft);
  void note_asked();
  void note_async(CUmemoryPool mem_pool, uint64_t bytes, bool allocated);

  // A span's shard, to be called with it locked: large spans move between shards.
  Shard& shard_of(const Span& span) const {
    return shards_[span.shard.load(std::memory_order_relaxed)];
  }
  std::unique_lock<std::mutex> lock_shard_of(const Span& span) const;
  Span* span_at(CUdeviceptr address) const {
    return table_[(address - base_) >> kGranuleShift].load(std::memory_order_acquire);
  }
  // The span at an address with its shard locked; null and no lock when there is none.
  Span* lock_span(CUdeviceptr address, std::unique_lock<std::mutex>* lock) const;
  Object* live_object(Span& span, CUdeviceptr address) const;  // its shard locked
  AllocationInfo describe(const Object& object) const;         // its shard locked

  Driver& driver_;
  Fence& fence_;
  Residency* const residency_;
  Observer* const observer_;
  Observer* const tracer_;  // the same, or null when it does not hear allocations
  Budget& host_budget_;
  Budget device_budget_;
  const Config config_;
  const CUdeviceptr base_;
  const uint64_t small_reserve_;  // device bytes kept for small pages (law 8)
  std::atomic<Span*>* table_;     // granule -> span; mapped lazily by the kernel
  size_t table_bytes_;
  mutable Shard shards_[kShards];

  mutable std::mutex mutex_;  // guards all below
  AddressSpace space_;
  const std::unique_ptr<Guard> guard_;  // null: not in guard mode
  Frames frames_;
  struct Access {
    int device;
    bool host_only;
  };
  std::vector<Access> access_;  // devices that may reach the pages, ours first
  std::unordered_set<Span*> spans_;
  std::vector<std::unique_ptr<Span>> all_spans_;
  std::vector<Span*> spare_spans_;
  Frame scratch_;
  uint64_t spilled_total_ = 0, ooms_ = 0, tick_ = 0;
  uint64_t host_surplus_bytes_ = 0;  // of spare host frames, what is to go back
  uint64_t refused_bytes_ = 0;       // the request refused once last; its repetition spills
  uint64_t keep_less_at_ = 0;        // made_bytes_ from which it is worth looking again
  uint64_t asked_before_ = 0;        // the peak of the time between the last two sweeps
  std::atomic<bool> hungry_{false};
  std::atomic<uint64_t> made_bytes_{0};
  // Written by every large allocation: away from what every allocation reads.
  alignas(64) std::atomic<uint64_t> large_asked_{0};
  std::atomic<uint64_t> asked_peak_{0};
  std::atomic<uint64_t> lately_asked_{0};  // the peak since the last sweep
  mutable std::mutex touch_mutex_;         // guards histories and tick; taken last
  policy::Tick touch_tick_ = 0;
  InFlight in_flight_;
  uint32_t claims_ = 0;  // of all spans
  std::condition_variable unclaimed_;
  alignas(64) mutable std::mutex async_mutex_;  // guards async_use_; taken with a shard locked
  std::unordered_map<CUmemoryPool, AsyncUse> async_use_;
};

}  // namespace flexlom::pool
