// Memory that the program makes for itself with cuMemCreate: frameworks with a virtual-memory
// allocator of their own (JAX, PyTorch's expandable segments). It is mapped where the program maps
// it, but it counts against the same budgets, and when the device budget is used up the program is
// given a host frame instead, which it maps and uses as it would the other (CUDA Driver API 6.14).
//
// Thread safe. A frame counts until it is both released and unmapped, as the driver keeps it.
#pragma once

#include <atomic>
#include <map>
#include <mutex>
#include <unordered_map>

#include "pool/pool.h"

namespace flexlom {

class ProgramFrames {
 public:
  explicit ProgramFrames(pool::Pool& pool) : pool_(pool) {}

  // cuMemCreate for device memory. NOT_SUPPORTED: not a request that concerns us, the driver's to
  // do.
  CUresult create(CUmemGenericAllocationHandle* out, size_t size, const CUmemAllocationProp& asked,
                  unsigned long long flags) noexcept;
  void retained(CUmemGenericAllocationHandle handle) noexcept;
  void released(CUmemGenericAllocationHandle handle) noexcept;
  void mapped(CUmemGenericAllocationHandle handle, CUdeviceptr address, size_t size) noexcept;
  void unmapped(CUdeviceptr address, size_t size) noexcept;

  // What the program asked for, when it holds a host frame in its place.
  bool asked_for(CUmemGenericAllocationHandle handle, CUmemAllocationProp* out) noexcept;
  // The device that the program believes this address to be on; -1 when there is nothing to
  // correct.
  int spilled_device(CUdeviceptr address) noexcept;

 private:
  struct Frame {
    size_t bytes;
    pool::Where where;
    CUmemAllocationProp asked;
    unsigned references = 1;
    unsigned mappings = 0;
  };
  struct Mapping {
    size_t bytes;
    CUmemGenericAllocationHandle handle;
    int spilled_on;  // device, or -1
  };
  using Frames = std::unordered_map<CUmemGenericAllocationHandle, Frame>;

  CUresult create_on_host(CUmemGenericAllocationHandle* out, size_t size,
                          const CUmemAllocationProp& asked, unsigned long long flags);
  void add(CUmemGenericAllocationHandle handle, size_t size, pool::Where where,
           const CUmemAllocationProp& asked);
  void settle(Frames::iterator frame);  // mutex_ held

  pool::Pool& pool_;
  std::mutex mutex_;  // guards the two below
  Frames frames_;
  std::map<CUdeviceptr, Mapping> mappings_;
  std::atomic<uint64_t> spilled_{0};  // frames in host memory now
  std::atomic<uint64_t> held_{0};     // frames of any kind
};

}  // namespace flexlom
