#include "pool/pool.h"

#include <algorithm>

namespace flexlom::pool {

Pool::Pool(Driver& driver, std::atomic<uint32_t>& work_submitted, Observer* observer,
           const PoolConfig& config)
    : driver_(driver),
      observer_(observer),
      config_(config),
      fence_(driver, work_submitted, config.heavy_fence),
      host_budget_(config.host_budget_bytes),
      residency_(config.gate != nullptr ? std::make_unique<Residency>(driver, fence_, *config.gate,
                                                                      observer, config.residency)
                                        : nullptr),
      keeper_([this](uint64_t ticks) { sweep(ticks); }, [this] { make_host_frames(); },
              config.idle_trim_ms, config.beats) {}

Pool::~Pool() { stop_threads(); }

DevicePool* Pool::device(int ordinal) noexcept {
  if (ordinal < 0 || ordinal >= kMaxDevices) return nullptr;
  const size_t i = static_cast<size_t>(ordinal);
  if (DevicePool* p = devices_[i].load(std::memory_order_acquire)) return p;
  if (refused_[i].load(std::memory_order_relaxed)) return nullptr;
  try {
    return open_device(ordinal);
  } catch (...) {
    return nullptr;
  }
}

DevicePool* Pool::opened(int ordinal) noexcept {
  if (ordinal < 0 || ordinal >= kMaxDevices) return nullptr;
  const auto& slot = devices_[static_cast<size_t>(ordinal)];
  if (DevicePool* p = slot.load(std::memory_order_acquire)) return p;
  std::lock_guard lock(mutex_);
  return slot.load(std::memory_order_relaxed);
}

DevicePool* Pool::open_device(int ordinal) {
  std::lock_guard lock(mutex_);
  const size_t i = static_cast<size_t>(ordinal);
  if (DevicePool* p = devices_[i].load(std::memory_order_relaxed)) return p;
  if (refused_[i].load(std::memory_order_relaxed)) return nullptr;
  DeviceFacts facts;
  const CUresult r = driver_.facts(ordinal, &facts);
  if (r != CUDA_SUCCESS) return nullptr;  // perhaps later
  if (!facts.vmm) {
    refused_[i].store(true, std::memory_order_relaxed);
    if (observer_ != nullptr) {
      observer_->warned(
          "this driver or device has no virtual memory management: allocations pass through");
    }
    return nullptr;
  }
  if (!facts.host_vmm && observer_ != nullptr) {
    observer_->warned(
        "this driver cannot map host memory at device addresses: nothing can be spilled");
  }
  DevicePool::Config config;
  config.device = ordinal;
  const CUdeviceptr below = static_cast<CUdeviceptr>(ordinal) * config_.address_bytes;
  config.base_hint = config_.base_hint > below ? config_.base_hint - below : 0;
  config.address_bytes = config_.address_bytes;
  // Far below the pools of all devices, and far above the low addresses where small numbers look
  // like pointers.
  constexpr CUdeviceptr kWindowsBelow = 0x1000'0000'0000;
  config.window_hint =
      config_.base_hint > kWindowsBelow ? config_.base_hint - kWindowsBelow + below / 4 : 0;
  config.device_budget_bytes =
      config_.device_budget(config_.user, ordinal, facts) & ~(kGranule - 1);
  config.device_total_bytes = facts.total_bytes;
  config.host_vmm = facts.host_vmm;
  config.host_numa_id = facts.host_numa_id;
  config.guard = config_.guard;
  CUresult error = CUDA_SUCCESS;
  auto pool = DevicePool::create(driver_, fence_, observer_, host_budget_, config, &error,
                                 residency_.get());
  if (pool == nullptr) {
    refused_[i].store(true, std::memory_order_relaxed);
    if (observer_ != nullptr) {
      observer_->warned("the driver refused the pool's address range: allocations pass through");
    }
    return nullptr;
  }
  if (observer_ != nullptr)
    observer_->device_opened(ordinal, pool->base(), pool->address_bytes(),
                             config.device_budget_bytes);
  const CUdeviceptr last = pool->base() + pool->address_bytes() - 1;
  for (CUdeviceptr region = pool->base() >> kRegionShift; region <= last >> kRegionShift;
       ++region) {
    regions_[region & (kRegions - 1)].store(pool.get(), std::memory_order_release);
  }
  for (const int device : seen_) {
    if (device != ordinal) pool->allow_access(device, true);
  }
  const uint64_t peers = config_.peers ? config_.peers(ordinal) : 0;
  for (int device = 0; device < kMaxDevices; ++device) {
    if (device != ordinal && (peers >> device & 1) != 0) pool->allow_access(device);
  }
  DevicePool* raw = pool.get();
  owned_.push_back(std::move(pool));
  devices_[i].store(raw, std::memory_order_release);
  size_t end = devices_end_.load(std::memory_order_relaxed);
  while (end <= i && !devices_end_.compare_exchange_weak(end, i + 1, std::memory_order_release)) {
  }
  return raw;
}

CUresult Pool::allocate(const Request& request, unsigned shard_hint, CUdeviceptr* out) noexcept {
  DevicePool* pool = device(request.device);
  if (pool == nullptr) return CUDA_ERROR_NOT_SUPPORTED;
  try {
    const CUresult r = pool->allocate(request, shard_hint, out);
    if (keeper_.idle()) keeper_.start();
    if (pool->take_hunger()) keeper_.nudge();
    return r;
  } catch (...) {
    return CUDA_ERROR_OUT_OF_MEMORY;
  }
}

CUresult Pool::free(const char* call, CUdeviceptr address, StreamKey stream) noexcept {
  DevicePool* pool = owner(address);
  if (pool == nullptr) return CUDA_ERROR_INVALID_VALUE;
  try {
    const CUresult r = pool->free(call, address, stream);
    // Freed without a stream: as the driver's own call, this one waits, and the next work that
    // touches the memory faults. Bounded, because the driver's wait for a kernel that never ends is
    // nothing to be repeated.
    constexpr uint64_t kWait_ns = 2'000'000'000;
    if (r == CUDA_SUCCESS && pool->guarded())
      pool->settle(stream == 0 && !fence_.capture_open() ? kWait_ns : 0);
    return r;
  } catch (...) {
    return CUDA_ERROR_OUT_OF_MEMORY;
  }
}

bool Pool::find(CUdeviceptr address, AllocationInfo* out) const noexcept {
  const DevicePool* pool = owner(address);
  return pool != nullptr && pool->find(address, out);
}

void Pool::add_context(CUcontext context) noexcept {
  const int device = fence_.add_context(context);
  if (device < 0 || static_cast<size_t>(device) >= kMaxDevices) return;
  std::lock_guard lock(mutex_);
  if (std::find(seen_.begin(), seen_.end(), device) != seen_.end()) return;
  try {
    seen_.push_back(device);
  } catch (...) {
    return;
  }
  each_device([&](DevicePool& pool) {
    if (pool.device() != device) pool.allow_access(device, true);
  });
}

void Pool::end_context(CUcontext context) noexcept {
  fence_.remove_context(context);
  each_device([&](DevicePool& p) {
    p.release_context(context);
    if (p.guarded()) p.settle(0);
  });
}

void Pool::forget_stream(StreamKey stream) noexcept {
  each_device([&](DevicePool& p) { p.forget_stream(stream); });
}

void Pool::sweep(uint64_t ticks_idle) {
  each_device([&](DevicePool& p) { p.sweep(ticks_idle); });
}

void Pool::make_host_frames() {
  each_device([&](DevicePool& p) {
    while (!keeper_.stopping() && p.wants_host_frames()) {
      const uint64_t before = host_budget_.held();
      p.make_host_frame();
      if (host_budget_.held() == before) break;  // refused: not now
    }
  });
}

}  // namespace flexlom::pool
