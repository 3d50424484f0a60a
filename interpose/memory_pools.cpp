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
    served_[pool] = props.location.id;
  } catch (...) {
    // Without a record the pool is the driver's.
  }
}

void MemoryPools::destroyed(CUmemoryPool pool) noexcept {
  std::lock_guard lock(mutex_);
  served_.erase(pool);
}

int MemoryPools::device_of(CUmemoryPool pool) noexcept {
  std::lock_guard lock(mutex_);
  const auto found = served_.find(pool);
  return found != served_.end() ? found->second : -1;
}

CUmemoryPool MemoryPools::current(int device) noexcept {
  const auto get_current = FLEXLOM_ORIGINAL(cuDeviceGetMemPool);
  const auto get_default = FLEXLOM_ORIGINAL(cuDeviceGetDefaultMemPool);
  if (device < 0 || device >= kDevices || get_current == nullptr || get_default == nullptr)
    return nullptr;
  try {
    std::lock_guard lock(mutex_);
    CUmemoryPool standard = nullptr;
    if (!default_known_[device] && get_default(&standard, device) == CUDA_SUCCESS) {
      served_[standard] = device;
      default_known_[device] = true;
    }
  } catch (...) {
    return nullptr;
  }
  CUmemoryPool pool = nullptr;
  return get_current(&pool, device) == CUDA_SUCCESS ? pool : nullptr;
}

}  // namespace flexlom
