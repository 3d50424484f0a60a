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
  uint32_t granule;  // from the start of the span
  uint8_t order;
  Where where;
  CUmemGenericAllocationHandle frame;
};

struct Span {
  std::atomic<uint32_t> shard{0};
  uint32_t first = 0;  // granule in the device's address space
  uint32_t count = 0;
  CUdeviceptr base = 0;
  size_t object_bytes = 0;  // small: the class; large: count granules
  uint32_t size_class = 0;
  uint32_t objects_total = 0;
  uint32_t objects_used = 0;  // live or pending
  bool small = false;
  bool exported =
      false;  // its frames were handed to others: never moved, never cached for another size
  uint64_t idle_since = 0;  // tick of the last hand-back
  size_t spilled_bytes = 0;
  std::unique_ptr<Object[]> objects;
  std::vector<Page> pages;

  size_t bytes() const { return size_t{count} << kGranuleShift; }
};

}  // namespace flexlom::pool
