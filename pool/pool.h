// The pool of the process: one DevicePool per device, created when a device first allocates, one
// fence for all of them, one host budget, and the keeper thread that does what can be done ahead.
//
// All functions are thread safe. None throws.
#pragma once

#include <array>
#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "pool/device_pool.h"
#include "pool/keeper.h"
#include "pool/residency/residency.h"

namespace flexlom::pool {

// Decides a device's budget from what is known of it when it first allocates.
using BudgetOf = uint64_t (*)(void* user, int device, const DeviceFacts& facts);

struct PoolConfig {
  CUdeviceptr base_hint =
      0x5000'0000'0000;  // device i lies i * 4 TiB below; 0: wherever the driver says
  size_t address_bytes = size_t{1} << 42;  // per device
  uint64_t host_budget_bytes = 0;
  int64_t idle_trim_ms = 5000;  // -1: cached frames are never given back for being idle
  BudgetOf device_budget = nullptr;
  // Who reaches a device's pages from the first one on, a bit for each device; may be empty.
  std::function<uint64_t(int device)> peers;
  Gate* gate = nullptr;                      // what submissions pass; null: pages are never moved
  void (*heavy_fence)() noexcept = nullptr;  // see fence.h
  bool guard = false;                        // guard.h; with it, `gate` must be null
  Residency::Config residency;
  void* user = nullptr;
  std::vector<Beat> beats;  // what the keeper calls at times
};

class Pool {
 public:
  // `driver`, `work_submitted` and `observer` outlive the pool; `observer` may be null.
  Pool(Driver& driver, std::atomic<uint32_t>& work_submitted, Observer* observer,
       const PoolConfig& config);
  ~Pool();

  // Null when this device is not pooled: no VMM, or the driver refused the address space.
  DevicePool* device(int ordinal) noexcept;
  // The same without opening it: null before its first use. Waits while it is being opened.
  DevicePool* opened(int ordinal) noexcept;
  // The pool that owns an address, or null.
  DevicePool* owner(CUdeviceptr address) const noexcept {
    DevicePool* p =
        regions_[(address >> kRegionShift) & (kRegions - 1)].load(std::memory_order_acquire);
    return p != nullptr && p->contains(address) ? p : nullptr;
  }

  CUresult allocate(const Request& request, unsigned shard_hint, CUdeviceptr* out) noexcept;
  CUresult free(const char* call, CUdeviceptr address, StreamKey stream) noexcept;
  bool find(CUdeviceptr address, AllocationInfo* out) const noexcept;

  // From now on the fence covers the context's work, and its device reaches pages on the host.
  void add_context(CUcontext context) noexcept;
  void end_context(CUcontext context) noexcept;
  void forget_stream(StreamKey stream) noexcept;

  Fence& fence() noexcept { return fence_; }
  Residency* residency() noexcept { return residency_.get(); }  // null: pages are never moved
  Budget& host_budget() noexcept { return host_budget_; }
  void stop_threads() noexcept {
    keeper_.stop();
    if (residency_ != nullptr) residency_->tracked().stop();
  }
  // For the end of the process, see Keeper.
  void stop_threads_within(uint64_t timeout_ms) noexcept {
    keeper_.stop_within(timeout_ms);
    if (residency_ != nullptr) residency_->tracked().stop_within(timeout_ms);
  }
  void leave_threads() noexcept {
    keeper_.leave();
    if (residency_ != nullptr) residency_->tracked().leave();
  }
  template <class F>
  void each_device(F&& f) const {
    const size_t end = devices_end_.load(std::memory_order_acquire);
    for (size_t i = 0; i < end; ++i) {
      if (DevicePool* p = devices_[i].load(std::memory_order_acquire)) f(*p);
    }
  }

 private:
  static constexpr unsigned kRegionShift = 42;
  static constexpr unsigned kRegions = 64;

  DevicePool* open_device(int ordinal);
  void sweep(uint64_t ticks_idle);
  void make_host_frames();

  Driver& driver_;
  Observer* const observer_;
  const PoolConfig config_;
  Fence fence_;
  Budget host_budget_;
  std::unique_ptr<Residency> residency_;
  std::array<std::atomic<DevicePool*>, kRegions> regions_{};
  std::array<std::atomic<DevicePool*>, kMaxDevices> devices_{};
  std::atomic<size_t> devices_end_{0};  // behind the last that is not null
  std::array<std::atomic<bool>, kMaxDevices> refused_{};
  std::mutex mutex_;       // guards opening a device, and seen_
  std::vector<int> seen_;  // devices with contexts
  std::vector<std::unique_ptr<DevicePool>> owned_;
  Keeper keeper_;  // last: stops before what it keeps is gone
};

}  // namespace flexlom::pool
