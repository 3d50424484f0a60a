// Memory that the program maps itself with frames of its own making (CUDA Driver API 6.14), as
// PyTorch's expandable segments and XLA's allocator do. A frame that cannot be handed to
// anybody else (no handle type, or too large for what is left of the device) is ours to place, and
// so is one that can because it is a single page, in a process with one device: the program's
// handle stands for pages, and once mapped in a range that was reserved here they come and go like
// those of an allocation (pool/program.cpp). All others are the driver's, and counted
// (program_frames.h).
//
// Thread safe. Every call answers NOT_SUPPORTED, or false, for what is the driver's to do.
#pragma once

#include <atomic>
#include <map>
#include <mutex>
#include <unordered_map>

#include "pool/pool.h"

namespace flexlom {

class ProgramMaps {
 public:
  using Handle = CUmemGenericAllocationHandle;

  explicit ProgramMaps(pool::Pool& pool) : pool_(pool) {}

  // Told by the value alone: the driver must never see one, not even one that is gone.
  static bool is_ours(Handle handle) noexcept { return handle >> kTagShift == kTag; }

  // `device`: the one whose memory will probably be mapped there.
  CUresult reserve(CUdeviceptr* out, size_t size, size_t alignment, int device) noexcept;
  CUresult give_back(CUdeviceptr p, size_t size) noexcept;

  CUresult create(Handle* out, size_t size, const CUmemAllocationProp& asked,
                  unsigned long long flags, CUcontext context) noexcept;
  CUresult retain(Handle* out, CUdeviceptr p) noexcept;
  CUresult release(Handle handle) noexcept;
  // NOT_SUPPORTED: it is more than one page, or lies on the host.
  CUresult share(void* out, Handle handle, CUmemAllocationHandleType type,
                 unsigned long long flags) noexcept;
  // Where its pages may come and go; 0: nowhere.
  CUdeviceptr place_of(Handle handle) noexcept;
  CUresult properties(CUmemAllocationProp* out, Handle handle) noexcept;

  CUresult map(CUdeviceptr p, size_t size, size_t offset, Handle handle,
               unsigned long long flags) noexcept;
  CUresult unmap(CUdeviceptr p, size_t size) noexcept;
  CUresult set_access(CUdeviceptr p, size_t size, const CUmemAccessDesc* access,
                      size_t count) noexcept;

  // The mapping at an address, as the program knows it.
  struct View {
    CUdeviceptr range = 0;  // the reservation; 0: the driver's
    size_t range_bytes = 0;
    CUdeviceptr base = 0;
    size_t bytes = 0;
    bool is_foreign = false;  // a frame of the driver's, of which nothing below is known
    int spilled_on = -1;      // the device it was meant for, when it lies on the host
    int device = 0;
    bool rdma = false;
    uint64_t handle_types = 0;
    uint64_t mapping_id = 0, handle_id = 0;
    unsigned access = 0;     // CUmemAccess_flags of `device`
    uint64_t peers = 0;      // a bit for each device that may read and write it, too
    bool by_driver = false;  // access other than that is as the driver says

    // CUmemAccess_flags; none for no device.
    unsigned access_of(int other) const noexcept {
      if (other == device) return access;
      const bool peer = other >= 0 && other < pool::kMaxDevices && (peers >> other & 1) != 0;
      return peer ? CU_MEM_ACCESS_FLAGS_PROT_READWRITE : 0;
    }
  };
  bool view(CUdeviceptr p, View* out) noexcept;
  // In a range of the program's, mapped or not; tells which.
  bool holds(CUdeviceptr p, View* out = nullptr) noexcept;
  // What is mapped there stays where it is from now on; false: part of it lies on the host.
  bool pin(CUdeviceptr p, size_t size) noexcept;

 private:
  static constexpr unsigned kTagShift = 48;
  static constexpr Handle kTag = 0xF1EC;

  struct Range {
    size_t bytes;
    pool::DevicePool* pool;
    std::shared_ptr<pool::Arena> arena;  // null: no memory for it
  };
  struct Frames {
    pool::DevicePool* pool;
    pool::DevicePool::Loose loose;  // empty while they are placed
    CUmemAllocationProp asked;
    size_t bytes;
    uint64_t id;
    unsigned references = 1, mappings = 0;
    CUdeviceptr placed_at = 0;  // 0: not
  };
  // Placed: a span of the pool. Else the driver knows of it, piece by piece.
  struct Mapping {
    size_t bytes;
    Handle handle;
    uint64_t id;
    bool placed = false;
    bool by_driver = false;  // placed, but its access is the driver's affair, and it stays
    unsigned access = 0;
    uint64_t peers = 0;
  };
  using Mappings = std::map<CUdeviceptr, Mapping>;

  // All below: mutex_ held.
  std::map<CUdeviceptr, Range>::iterator range_at(CUdeviceptr p);
  Mappings::iterator mapping_at(CUdeviceptr p);
  Mappings::iterator first_in(CUdeviceptr p);
  CUresult place(CUdeviceptr p, Frames& frames);
  CUresult map_pieces(CUdeviceptr p, Frames& frames);
  CUresult leave_to_driver(CUdeviceptr p, Mapping& mapping);
  CUresult open(CUdeviceptr p, Mapping& mapping, const CUmemAccessDesc* access, size_t count);
  void settle(Handle handle);

  pool::Pool& pool_;
  std::mutex mutex_;  // guards all below
  uint64_t next_id_ = 0;
  std::map<CUdeviceptr, Range> ranges_;
  std::unordered_map<Handle, Frames> frames_;
  Mappings mappings_;               // in our ranges, and of our handles
  std::atomic<uint64_t> known_{0};  // ranges and handles ever: 0, and there is nothing to look for
};

}  // namespace flexlom
