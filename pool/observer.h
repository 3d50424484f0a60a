// What the pool tells whoever listens: the trace log, the statistics, the tests.
//
// Called from the thread that caused the event, never with a shard locked unless said.
// Implementations must be quick, must not call the pool, and must not throw.
#pragma once

#include <string_view>

#include "pool/types.h"

namespace flexlom::pool {

struct OutOfMemory {
  Request request;
  uint64_t device_held_bytes, device_budget_bytes, host_held_bytes, host_budget_bytes;
  bool soft;  // refused once so that the program trims its own cache; the retry will spill
};

// A page that changed places.
struct Moved {
  int device;
  CUdeviceptr address;
  size_t bytes;
  Where to;
  bool copied;  // false: the host's copy was still right, and no bytes crossed the link
};

// Why a move was given up; nothing changed.
enum class GaveUp : uint8_t {
  capture,    // a stream capture is open: no fence may be recorded
  readers,    // a thread stayed inside a submission (a blocking copy)
  work,       // work kept running (a persistent kernel, a stream that waits)
  context,    // the driver refused a stream, or a context is being destroyed
  no_memory,  // no host frame or no device frame for it
  count_
};

class Observer {
 public:
  virtual ~Observer() = default;
  // Whether allocated() and freed() are wanted at all; asked once, so that a pool without a
  // listener does not describe what nobody hears.
  virtual bool hears_allocations() const noexcept { return true; }
  // `at_once`: from what lay free, without a wait: no time to speak of has passed since it was
  // asked for.
  virtual void allocated(const Request&, const AllocationInfo&, bool at_once) noexcept {}
  virtual void freed(const char* call, const AllocationInfo&, StreamKey stream) noexcept {}
  // Guard mode: freed, and no work uses it any more. Still mapped until this returns, with all of
  // its pages: they end where it ends, up to 256 bytes on. No lock of the pool is held.
  virtual void retiring(const AllocationInfo&) noexcept {}
  virtual void spilled(int device, CUdeviceptr address, size_t bytes) noexcept {}
  virtual void mapped(int device, CUdeviceptr address, size_t bytes, Where where) noexcept {}
  virtual void unmapped(int device, CUdeviceptr address, size_t bytes, Where where) noexcept {}
  // A device has its pool now: nothing of it was handed out before. `bytes` of addresses.
  virtual void device_opened(int device, CUdeviceptr base, size_t bytes,
                             uint64_t budget_bytes) noexcept {}
  virtual void moved(const Moved&) noexcept {}
  virtual void gave_up(int device, GaveUp why) noexcept {}
  virtual void out_of_memory(const OutOfMemory&) noexcept {}
  virtual void warned(std::string_view text) noexcept {}  // a degradation; once per cause
};

}  // namespace flexlom::pool
