// A shard: the free lists of some threads, behind one mutex that is rarely contended.
//
// Handing out and taking back touches one shard only and never the driver. Every span belongs to
// one shard for its life; a thread prefers its own shard and takes from others before it grows.
//
// Free objects of one size are on two lists: ready ones, last in first out, and pending ones, whose
// freeing epoch has not passed yet, first in first out. Large objects with pages in host frames
// have a list of their own, so that they are reused only when the device has no room.
#pragma once

#include <mutex>
#include <unordered_map>
#include <vector>

#include "pool/residency/fence.h"
#include "pool/size_classes.h"
#include "pool/span.h"

namespace flexlom::pool {

// What a request can be served from: a size class, or a number of granules.
struct SizeKey {
  bool small;
  uint32_t value;
  size_t bytes() const { return small ? class_bytes(value) : size_t{value} << kGranuleShift; }
};

inline SizeKey size_key(size_t bytes) {
  // An object of exactly kSmallLimit is large already (law 8: below 1 MiB is small).
  if (bytes < kSmallLimit) return {true, class_of(bytes)};
  return {false, granules_for(bytes)};
}

struct ShardStats {
  uint64_t allocs = 0, frees = 0;
  uint64_t live_asked_bytes = 0;  // of small objects
  uint64_t cached_bytes = 0;      // ready or pending large objects on the device
  uint64_t pending_objects = 0;
  uint64_t live_objects = 0;
};

// On cache lines of its own: neighbours belong to other threads.
class alignas(64) Shard {
 public:
  // A free object for `key`, or null. `stream` != 0 also takes objects freed on that stream.
  Object* pop(SizeKey key, StreamKey stream, const Fence& fence);
  Object* pop_spilled(uint32_t granules, const Fence& fence);
  void push_fresh(Object* object);  // a new object, ready at once
  void push_free(Object* object);   // a freed object with its epoch set; 0 = ready

  // The pending objects of `key`: how many, and the epoch of the oldest (0: none).
  uint32_t pending(SizeKey key, uint64_t* oldest_epoch);

  // Takes spans that hold nothing live and are not being moved off the lists (device mutex held):
  // idle since `before_tick` or earlier, until `want_bytes` of device frames are found. Their
  // objects are gone from every list afterwards.
  void take_idle(const Fence& fence, uint64_t before_tick, size_t want_bytes, bool large_only,
                 std::vector<Span*>* out);
  // The newest epoch any pending object waits for; 0: nothing pending.
  uint64_t newest_pending_epoch();
  // A destroyed stream's handle may come back as another stream: forget whose it was.
  void forget_stream(StreamKey stream);

  std::mutex mutex;  // guards everything here and the objects of this shard's spans
  ShardStats stats;
  uint64_t next_id = 0;
  uint64_t tick = 0;  // the keeper's clock, copied in at each sweep

 private:
  struct List {
    Object* ready = nullptr;
    Object* pending_head = nullptr;
    Object* pending_tail = nullptr;
    uint32_t pending_count = 0;
  };
  static constexpr uint32_t kDirect = 64;  // runs up to 128 MiB are found without hashing

  List& list(SizeKey key);
  List& list_of(const Span& span);
  void harvest(List& list, const Fence& fence);
  Object* take_ready(List& list);
  void unlist(Span& span);
  template <class F>
  void each_list(F&& f);

  List small_[kSizeClasses];
  List large_[kDirect + 1];
  std::unordered_map<uint32_t, List> huge_;
  std::unordered_map<uint32_t, List> spilled_;
};

}  // namespace flexlom::pool
