#include "interpose/program_frames.h"

#include "interpose/doors/originals.h"

namespace flexlom {

using pool::Where;

namespace {

CUresult driver_create(CUmemGenericAllocationHandle* out, size_t size,
                       const CUmemAllocationProp& prop, unsigned long long flags) {
  const auto real = FLEXLOM_ORIGINAL(cuMemCreate);
  return real != nullptr ? real(out, size, &prop, flags) : CUDA_ERROR_NOT_SUPPORTED;
}

}  // namespace

CUresult ProgramFrames::create(CUmemGenericAllocationHandle* out, size_t size,
                               const CUmemAllocationProp& asked,
                               unsigned long long flags) noexcept {
  const bool plain = asked.type == CU_MEM_ALLOCATION_TYPE_PINNED &&
                     asked.location.type == CU_MEM_LOCATION_TYPE_DEVICE && size > 0 &&
                     size % pool::kGranule == 0 && flags == 0;
  pool::DevicePool* device = plain ? pool_.device(asked.location.id) : nullptr;
  if (device == nullptr) return CUDA_ERROR_NOT_SUPPORTED;
  try {
    if (device->take_for_program(size)) {
      CUresult r = driver_create(out, size, asked, flags);
      if (r == CUDA_ERROR_OUT_OF_MEMORY && device->trim(0) > 0)
        r = driver_create(out, size, asked, flags);
      if (r == CUDA_SUCCESS) {
        add(*out, size, Where::device, asked);
        return r;
      }
      device->give_for_program(size);
      if (r != CUDA_ERROR_OUT_OF_MEMORY) return r;
    }
    return create_on_host(out, size, asked, flags);
  } catch (...) {
    return CUDA_ERROR_OUT_OF_MEMORY;
  }
}

CUresult ProgramFrames::create_on_host(CUmemGenericAllocationHandle* out, size_t size,
                                       const CUmemAllocationProp& asked, unsigned long long flags) {
  pool::DevicePool* device = pool_.device(asked.location.id);
  if (!device->can_spill() || !pool_.host_budget().take(size)) return CUDA_ERROR_OUT_OF_MEMORY;
  CUmemAllocationProp prop{};
  prop.type = CU_MEM_ALLOCATION_TYPE_PINNED;
  const int node = device->host_numa_id();
  prop.location.type = node >= 0 ? CU_MEM_LOCATION_TYPE_HOST_NUMA : CU_MEM_LOCATION_TYPE_HOST;
  prop.location.id = node >= 0 ? node : 0;
  // A frame that may be exported should stay exportable; where host memory cannot be, it works
  // here.
  for (const CUmemAllocationHandleType types :
       {asked.requestedHandleTypes, CU_MEM_HANDLE_TYPE_NONE}) {
    prop.requestedHandleTypes = types;
    if (driver_create(out, size, prop, flags) != CUDA_SUCCESS) continue;
    add(*out, size, Where::host, asked);
    device->note_spilled(size);
    return CUDA_SUCCESS;
  }
  pool_.host_budget().give(size);
  return CUDA_ERROR_OUT_OF_MEMORY;
}

void ProgramFrames::add(CUmemGenericAllocationHandle handle, size_t size, Where where,
                        const CUmemAllocationProp& asked) {
  std::lock_guard lock(mutex_);
  frames_[handle] = Frame{size, where, asked};
  held_.fetch_add(1, std::memory_order_relaxed);
  if (where == Where::host) spilled_.fetch_add(1, std::memory_order_relaxed);
  if (pool::DevicePool* device = pool_.device(asked.location.id))
    device->note_program_bytes(size, true);
}

void ProgramFrames::settle(Frames::iterator frame) {
  const Frame& f = frame->second;
  if (f.references > 0 || f.mappings > 0) return;
  pool::DevicePool* device = pool_.device(f.asked.location.id);
  if (f.where == Where::host) {
    pool_.host_budget().give(f.bytes);
    spilled_.fetch_sub(1, std::memory_order_relaxed);
  } else if (device != nullptr) {
    device->give_for_program(f.bytes);
  }
  if (device != nullptr) device->note_program_bytes(f.bytes, false);
  held_.fetch_sub(1, std::memory_order_relaxed);
  frames_.erase(frame);
}

void ProgramFrames::retained(CUmemGenericAllocationHandle handle) noexcept {
  std::lock_guard lock(mutex_);
  if (const auto frame = frames_.find(handle); frame != frames_.end()) ++frame->second.references;
}

void ProgramFrames::released(CUmemGenericAllocationHandle handle) noexcept {
  if (held_.load(std::memory_order_relaxed) == 0) return;
  std::lock_guard lock(mutex_);
  const auto frame = frames_.find(handle);
  if (frame == frames_.end() || frame->second.references == 0) return;
  --frame->second.references;
  settle(frame);
}

void ProgramFrames::mapped(CUmemGenericAllocationHandle handle, CUdeviceptr address,
                           size_t size) noexcept {
  if (held_.load(std::memory_order_relaxed) == 0) return;
  try {
    std::lock_guard lock(mutex_);
    const auto frame = frames_.find(handle);
    if (frame == frames_.end()) return;
    const Frame& f = frame->second;
    mappings_[address] = Mapping{size, handle, f.where == Where::host ? f.asked.location.id : -1};
    ++frame->second.mappings;
  } catch (...) {
    // Without a record the frame counts until it is released, a little too short.
  }
}

void ProgramFrames::unmapped(CUdeviceptr address, size_t size) noexcept {
  if (held_.load(std::memory_order_relaxed) == 0) return;
  std::lock_guard lock(mutex_);
  // One call may cover several mappings, whole ones only.
  for (auto it = mappings_.lower_bound(address);
       it != mappings_.end() && it->first - address < size;) {
    const auto frame = frames_.find(it->second.handle);
    it = mappings_.erase(it);
    if (frame == frames_.end()) continue;
    --frame->second.mappings;
    settle(frame);
  }
}

bool ProgramFrames::asked_for(CUmemGenericAllocationHandle handle,
                              CUmemAllocationProp* out) noexcept {
  if (spilled_.load(std::memory_order_relaxed) == 0) return false;
  std::lock_guard lock(mutex_);
  const auto frame = frames_.find(handle);
  if (frame == frames_.end() || frame->second.where != Where::host) return false;
  *out = frame->second.asked;
  return true;
}

int ProgramFrames::spilled_device(CUdeviceptr address) noexcept {
  if (spilled_.load(std::memory_order_relaxed) == 0) return -1;
  std::lock_guard lock(mutex_);
  auto next = mappings_.upper_bound(address);
  if (next == mappings_.begin()) return -1;
  const auto& [start, mapping] = *--next;
  return address - start < mapping.bytes ? mapping.spilled_on : -1;
}

}  // namespace flexlom
