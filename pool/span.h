// Spans and objects: the pool's records of address space in use.
//
// A span is a run of granules backed by pages. It holds many small objects of one size class, or
// one large object. Span records are never given back to the heap (a stale pointer from a table
// lookup may still read `shard`); everything else in them is guarded by the shard they belong to,
// except the pages, which are guarded by the device's mutex.
#pragma once

#include <atomic>
#include <memory>
#include <vector>

#include "pool/arena.h"
#include "pool/driver.h"
#include "pool/residency/history.h"
#include "pool/types.h"

namespace flexlom::pool {

struct Span;

enum class ObjectState : uint8_t {
  fresh,    // never handed out, or handed back: on a ready list
  live,     // the program's
  pending,  // freed, but work running at its free may still use it
};

struct Object {
  Object* next = nullptr;
  Span* span = nullptr;
  CUdeviceptr address = 0;
  uint64_t id = 0;
  uint64_t epoch = 0;  // pending: reusable once the fence has passed it
  StreamKey stream =
      0;  // pending: work ordered behind the free on this stream may reuse it at once
  size_t asked_bytes = 0;
  CUcontext context = nullptr;
  CUmemoryPool mem_pool = nullptr;
  ObjectState state = ObjectState::fresh;
  Kind kind = Kind::malloc_;
  bool sync_memops = false;
};

// One mapped page: which frame backs which granules of the span.
struct Page {
  uint32_t granule = 0;  // from the start of the span
  uint8_t order = 0;
  Where where = Where::device;
  bool moving = false;     // a mover works on it: its span keeps its pages until that is over
  bool has_copy = false;   // `copy` is kept for the page's next way down
  bool has_mark = false;   // and `mark` is what the page was when `copy` was equal to it
  uint64_t came_tick = 0;  // the sweep after which it came to the device, and left its copy behind
  Frame frame;
  // While the page is on the device: the host frame it came from. Equal to the page as long as the
  // page's fingerprint is still `mark`, which is checked before it is believed.
  Frame copy;
  Fingerprint mark;

  size_t bytes() const { return page_bytes(order); }
};

struct alignas(64) Span {
  policy::History history;  // of the whole large object; guarded by the device pool's touch mutex
  // Written under the device's mutex, read without it: by then it may be another number.
  std::atomic<size_t> spilled_bytes{0};
  // Histories of the pages, of one that is large for its device, or of the range that it lies in so
  // many granules from its beginning; null: `history` is all. Set under the device's mutex and the
  // touch mutex, and beside the above because all submissions look here.
  std::shared_ptr<Arena> arena;
  uint32_t arena_offset = 0;
  std::atomic<uint32_t> shard{0};
  uint32_t first = 0;  // granule in the device's address space
  uint32_t count = 0;
  CUdeviceptr base = 0;
  size_t object_bytes = 0;  // small: the class; large: count granules
  uint32_t size_class = 0;
  uint32_t objects_total = 0;
  uint32_t objects_used = 0;       // live or pending
  std::atomic<bool> small{false};  // also read by who holds a stale pointer
  // Its frames were handed to others: never moved, and given back rather than used for another
  // size.
  bool exported = false;
  // Mapped by the program, which has not given access to it, or less than all: it stays as it is.
  bool closed = false;
  uint64_t idle_since = 0;  // tick of the last hand-back
  // As counted when its (large) object went on a free list; guarded by the shard.
  size_t listed_device_bytes = 0;
  bool listed_spilled = false;
  uint64_t generation = 0;  // of this record's use; device mutex
  // How many bytes of spans the pool had made when this one was: what tells the youngest.
  std::atomic<uint64_t> born_bytes{0};
  uint32_t moving = 0;  // pages a mover works on; device mutex
  std::unique_ptr<Object[]> objects;
  std::vector<Page> pages;
  // Tracked mode (residency/tracked.h); guarded by the touch mutex, too.
  uint32_t claims = 0;     // its pages are changing places: a submission that names it waits
  uint64_t arrival = 0;    // the last batch of copies into its pages (Mover::Arrival); 0: none
  bool untracked = false;  // may be used without being named: its address was seen in copied data

  size_t bytes() const { return size_t{count} << kGranuleShift; }
};

}  // namespace flexlom::pool
