// The importing side of legacy IPC: maps another process's pages, once per allocation, counted.
#pragma once

#include <atomic>
#include <map>
#include <mutex>
#include <vector>

#include "interpose/ipc/protocol.h"
#include "interpose/real_driver.h"

namespace flexlom::ipc {

class Importer {
 public:
  explicit Importer(RealDriver& driver) : driver_(driver) {}

  // Opens a handle made by Exporter for `device`. The same handle opened again gives the same
  // address. INVALID_VALUE when the exporter does not know the allocation (any more), MAP_FAILED
  // when it cannot be reached or its pages cannot be mapped. Thread safe.
  CUresult open(const Handle& handle, int device, CUdeviceptr* out) noexcept;
  // NOT_FOUND when `p` was not opened here: then it is the driver's to close.
  CUresult close(CUdeviceptr p) noexcept;

  struct Range {
    CUdeviceptr base;
    size_t bytes;
  };
  // The imported allocation that contains `p`.
  bool find(CUdeviceptr p, Range* out) noexcept;
  bool empty() const noexcept { return count_.load(std::memory_order_acquire) == 0; }

 private:
  struct Page {
    CUdeviceptr address;
    size_t bytes;
    CUmemGenericAllocationHandle frame;
  };
  struct Import {
    Handle handle;
    CUdeviceptr reserved = 0;
    size_t reserved_bytes = 0;
    std::vector<Page> pages;
    unsigned opened = 1;
  };

  CUresult fetch(const Handle& handle, std::vector<uint64_t>* sizes, std::vector<int>* descriptors);
  CUresult map(Import& import, const std::vector<uint64_t>& sizes,
               const std::vector<int>& descriptors, int device);
  void unmap(Import& import);

  RealDriver& driver_;
  std::mutex mutex_;                       // guards imports_
  std::map<CUdeviceptr, Import> imports_;  // by the address the program was given
  std::atomic<size_t> count_{0};
};

}  // namespace flexlom::ipc
