// What every part of the pool agrees on: sizes, places, identities.
//
// Units are bytes unless a name says otherwise. A granule is the smallest unit of address space
// (2 MiB, the granularity of cuMemCreate on every GPU with VMM, CUDA Driver API 6.14); a page is
// one VMM handle's worth of granules, mostly a power of two of them, and the unit of mapping.
#pragma once

#include <cuda.h>

#include <cstddef>
#include <cstdint>

namespace flexlom::pool {

inline constexpr int kMaxDevices = 64;

inline constexpr size_t kGranule = size_t{2} << 20;
inline constexpr unsigned kGranuleShift = 21;
inline constexpr unsigned kMaxPageOrder =
    5;  // 64 MiB: the cost of a handle is per handle, not per byte
inline constexpr unsigned kPageOrders = kMaxPageOrder + 1;
// One more size: 20 MiB, the unit in which PyTorch's expandable segments grow. What the program may
// hand to another process as one handle has to be one page.
inline constexpr unsigned kSegmentPage = kPageOrders;
inline constexpr unsigned kPageSizes = kPageOrders + 1;
inline constexpr size_t kSmallLimit = size_t{1} << 20;  // below this an object shares a 2 MiB page
inline constexpr size_t kAlignment = 512;               // what cuMemAlloc gives

// Where a frame lies.
enum class Where : uint8_t { device, host };

// Physical memory: one handle, and the private address it is mapped at for our own copies (0: none
// yet). Only host frames get one.
struct Frame {
  CUmemGenericAllocationHandle handle = 0;
  CUdeviceptr window = 0;
};

inline constexpr uint32_t page_granules(unsigned order) {
  return order == kSegmentPage ? 10 : uint32_t{1} << order;
}
inline constexpr size_t page_bytes(unsigned order) { return kGranule * page_granules(order); }

inline constexpr bool is_one_page(size_t bytes) {
  for (unsigned order = 0; order < kPageSizes; ++order) {
    if (bytes == page_bytes(order)) return true;
  }
  return false;
}

inline constexpr uint32_t granules_for(size_t bytes) {
  return static_cast<uint32_t>((bytes + kGranule - 1) >> kGranuleShift);
}

// Which call made an allocation: it decides what the program is told about it.
// `mapped`: cuMemMap, of frames that the program holds a handle of.
enum class Kind : uint8_t { malloc_, pitch, async, mapped };

// Identity of a stream for stream-ordered reuse; 0 means "no stream: any work may still use it".
using StreamKey = uint64_t;

struct Request {
  const char* call = "";  // a string literal: the driver entry point, for the trace
  size_t bytes = 0;
  int device = 0;
  CUcontext context = nullptr;
  Kind kind = Kind::malloc_;
  StreamKey stream = 0;
  CUmemoryPool mem_pool = nullptr;
  // Whether the caller answers a failed allocation by freeing memory it caches and asking again;
  // asked only before the first page would spill, with no lock held. Null: it does not.
  bool (*caller_trims)() = nullptr;
};

// What is known of one live allocation; a copy, valid as of the call that returned it.
struct AllocationInfo {
  CUdeviceptr base = 0;
  size_t asked_bytes = 0;
  size_t given_bytes = 0;
  uint64_t id = 0;  // unique in the process, never reused
  int device = 0;
  CUcontext context = nullptr;
  Kind kind = Kind::malloc_;
  CUmemoryPool mem_pool = nullptr;
  size_t spilled_bytes = 0;  // how much of it lies in host frames now
  bool sync_memops = false;
  bool exported = false;
};

}  // namespace flexlom::pool
