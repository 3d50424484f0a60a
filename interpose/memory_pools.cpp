#include "interpose/memory_pools.h"

#include "interpose/doors/originals.h"

namespace flexlom {

void MemoryPools::created(CUmemoryPool pool, const CUmemPoolProps& props) noexcept {
  const bool plain = props.allocType == CU_MEM_ALLOCATION_TYPE_PINNED &&
                     props.handleTypes == CU_MEM_HANDLE_TYPE_NONE &&
                     props.location.type == CU_MEM_LOCATION_TYPE_DEVICE && props.maxSize == 0;
  if (!plain) return;
  try {
    std::lock_guard lock(mutex_);
    served_[pool] = {props.location.id, 0};
  } catch (...) {
    // Without a record the pool is the driver's.
  }
}

void MemoryPools::destroyed(CUmemoryPool pool) noexcept {
  std::lock_guard lock(mutex_);
  served_.erase(pool);
}

// A default pool is nobody's to create, so it is not known before somebody asks.
void MemoryPools::find_default(int device) {
  const auto get_default = FLEXLOM_ORIGINAL(cuDeviceGetDefaultMemPool);
  CUmemoryPool standard = nullptr;
  if (default_known_[device] || get_default == nullptr ||
      get_default(&standard, device) != CUDA_SUCCESS)
    return;
  served_.try_emplace(standard, Served{device, 0});
  default_known_[device] = true;
}

void MemoryPools::find_defaults() {
  const auto get_count = FLEXLOM_ORIGINAL(cuDeviceGetCount);
  int count = 0;
  if (defaults_known_ || get_count == nullptr || get_count(&count) != CUDA_SUCCESS) return;
  for (int device = 0; device < count && device < kDevices; ++device) find_default(device);
  defaults_known_ = true;
}

MemoryPools::Served* MemoryPools::find(CUmemoryPool pool) noexcept {
  try {
    if (!served_.contains(pool)) find_defaults();
  } catch (...) {
    // Out of host memory: asked again the next time.
  }
  const auto found = served_.find(pool);
  return found != served_.end() ? &found->second : nullptr;
}

int MemoryPools::device_of(CUmemoryPool pool) noexcept {
  std::lock_guard lock(mutex_);
  const Served* served = find(pool);
  return served != nullptr ? served->device : -1;
}

void MemoryPools::access_set(CUmemoryPool pool, const CUmemAccessDesc* access,
                             size_t count) noexcept {
  std::lock_guard lock(mutex_);
  Served* served = find(pool);
  if (served == nullptr) return;
  for (size_t i = 0; i < count; ++i) {
    const CUmemLocation& location = access[i].location;
    if (location.type != CU_MEM_LOCATION_TYPE_DEVICE || location.id < 0 || location.id >= kDevices)
      continue;
    const uint64_t bit = uint64_t{1} << location.id;
    const bool given = access[i].flags == CU_MEM_ACCESS_FLAGS_PROT_READWRITE;
    served->peers = given ? served->peers | bit : served->peers & ~bit;
  }
}

uint64_t MemoryPools::peers_of(int device) noexcept {
  std::lock_guard lock(mutex_);
  uint64_t peers = 0;
  for (const auto& [pool, served] : served_) {
    if (served.device == device) peers |= served.peers;
  }
  return peers;
}

CUmemoryPool MemoryPools::current(int device) noexcept {
  const auto get_current = FLEXLOM_ORIGINAL(cuDeviceGetMemPool);
  if (device < 0 || device >= kDevices || get_current == nullptr) return nullptr;
  try {
    std::lock_guard lock(mutex_);
    find_default(device);
  } catch (...) {
    return nullptr;
  }
  CUmemoryPool pool = nullptr;
  return get_current(&pool, device) == CUDA_SUCCESS ? pool : nullptr;
}

}  // namespace flexlom
