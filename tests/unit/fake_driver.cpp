#include "tests/unit/fake_driver.h"

#include <algorithm>

namespace flexlom::unit {

CUresult FakeDriver::enter(const char* call) {
  ++calls_[call];
  const auto it = faults_.find(call);
  if (it == faults_.end() || --it->second.nth > 0) return CUDA_SUCCESS;
  const CUresult with = it->second.with;
  faults_.erase(it);
  ++faults_hit_;
  return with;
}

CUresult FakeDriver::facts(int, pool::DeviceFacts* out) noexcept {
  std::lock_guard lock(mutex_);
  if (const CUresult r = enter("facts")) return r;
  out->vmm = vmm;
  out->host_vmm = host_vmm;
  out->total_bytes = capacity_bytes;
  out->free_bytes = capacity_bytes;
  return CUDA_SUCCESS;
}

CUresult FakeDriver::reserve(CUdeviceptr hint, size_t bytes, CUdeviceptr* base) noexcept {
  std::lock_guard lock(mutex_);
  if (const CUresult r = enter("reserve")) return r;
  *base = hint != 0 ? hint : 0x3'0000'0000;
  reserved_[*base] = bytes;
  return CUDA_SUCCESS;
}

CUresult FakeDriver::unreserve(CUdeviceptr base, size_t bytes) noexcept {
  std::lock_guard lock(mutex_);
  if (const CUresult r = enter("unreserve")) return r;
  const auto it = reserved_.find(base);
  if (it == reserved_.end() || it->second != bytes) {
    problem("unreserve of what was not reserved");
    return CUDA_ERROR_INVALID_VALUE;
  }
  for (const auto& [address, mapping] : mappings_) {
    // After a failed unmap nobody can do better.
    if (faults_hit_ == 0 && address >= base && address < base + bytes) problem("unreserve with pages mapped");
  }
  reserved_.erase(it);
  return CUDA_SUCCESS;
}

CUresult FakeDriver::create(int, Where where, size_t bytes, CUmemGenericAllocationHandle* frame) noexcept {
  std::lock_guard lock(mutex_);
  if (const CUresult r = enter("create")) return r;
  if (bytes == 0 || bytes % kGranule != 0) {
    problem("create of a size that is no multiple of the granularity");
    return CUDA_ERROR_INVALID_VALUE;
  }
  if (where == Where::host && !host_vmm) return CUDA_ERROR_NOT_SUPPORTED;
  uint64_t& held = where == Where::device ? device_bytes_ : host_bytes_;
  const uint64_t limit = where == Where::device ? device_limit_bytes : host_limit_bytes;
  if (where == Where::device && held + bytes > capacity_bytes) return CUDA_ERROR_OUT_OF_MEMORY;
  held += bytes;
  if (held > limit) problem(where == Where::device ? "over the device budget" : "over the host budget");
  peak_device_bytes_ = std::max(peak_device_bytes_, device_bytes_);
  *frame = next_handle_++;
  frames_[*frame] = {where, bytes, false, false};
  return CUDA_SUCCESS;
}

void FakeDriver::drop_if_unused(CUmemGenericAllocationHandle frame) {
  const auto it = frames_.find(frame);
  if (!it->second.released || it->second.mapped) return;
  (it->second.where == Where::device ? device_bytes_ : host_bytes_) -= it->second.bytes;
  frames_.erase(it);
}

CUresult FakeDriver::release(CUmemGenericAllocationHandle frame) noexcept {
  std::lock_guard lock(mutex_);
  if (const CUresult r = enter("release")) return r;
  const auto it = frames_.find(frame);
  if (it == frames_.end() || it->second.released) {
    problem("release of what is not held");
    return CUDA_ERROR_INVALID_VALUE;
  }
  it->second.released = true;
  drop_if_unused(frame);
  return CUDA_SUCCESS;
}

CUresult FakeDriver::map(CUdeviceptr address, size_t bytes, CUmemGenericAllocationHandle frame) noexcept {
  std::lock_guard lock(mutex_);
  if (const CUresult r = enter("map")) return r;
  const auto it = frames_.find(frame);
  if (it == frames_.end() || it->second.released || it->second.bytes != bytes || address % kGranule != 0) {
    problem("map of a wrong frame, size or address");
    return CUDA_ERROR_INVALID_VALUE;
  }
  if (it->second.mapped) problem("a frame mapped twice: two allocations share memory");
  const bool inside = std::any_of(reserved_.begin(), reserved_.end(), [&](const auto& r) {
    return address >= r.first && address + bytes <= r.first + r.second;
  });
  if (!inside) {
    problem("map outside of the reserved range");
    return CUDA_ERROR_INVALID_VALUE;
  }
  auto next = mappings_.lower_bound(address);
  const bool hits_next = next != mappings_.end() && next->first < address + bytes;
  const bool hits_before =
      next != mappings_.begin() && std::prev(next)->first + std::prev(next)->second.bytes > address;
  if (hits_next || hits_before) {
    problem("map over a mapped page");
    return CUDA_ERROR_ALREADY_MAPPED;
  }
  mappings_[address] = {bytes, frame, 0};
  it->second.mapped = true;
  return CUDA_SUCCESS;
}

CUresult FakeDriver::unmap(CUdeviceptr address, size_t bytes) noexcept {
  std::lock_guard lock(mutex_);
  if (const CUresult r = enter("unmap")) return r;
  const auto it = mappings_.find(address);
  if (it == mappings_.end() || it->second.bytes != bytes) {
    problem("unmap of what is not mapped so");
    return CUDA_ERROR_INVALID_VALUE;
  }
  const CUmemGenericAllocationHandle frame = it->second.frame;
  mappings_.erase(it);
  frames_[frame].mapped = false;
  drop_if_unused(frame);
  return CUDA_SUCCESS;
}

CUresult FakeDriver::set_access(CUdeviceptr address, size_t bytes, int device) noexcept {
  std::lock_guard lock(mutex_);
  if (const CUresult r = enter("set_access")) return r;
  const auto it = mappings_.find(address);
  if (it == mappings_.end() || it->second.bytes != bytes) {
    problem("set_access on what is not mapped so");
    return CUDA_ERROR_INVALID_VALUE;
  }
  it->second.devices |= uint64_t{1} << device;
  return CUDA_SUCCESS;
}

// Whether the call may be made: context-wide event calls break an open capture.
bool FakeDriver::event_call(const char* call) {
  if (capturing) problem(std::string(call) + " while a capture is open");
  return !capturing;
}

CUresult FakeDriver::event_create(CUcontext context, CUevent* event) noexcept {
  std::lock_guard lock(mutex_);
  if (const CUresult r = enter("event_create")) return r;
  *event = reinterpret_cast<CUevent>(next_handle_++ * 16);
  events_[*event] = {context, ~uint64_t{0}};
  return CUDA_SUCCESS;
}

void FakeDriver::event_destroy(CUcontext context, CUevent event) noexcept {
  std::lock_guard lock(mutex_);
  enter("event_destroy");
  const auto it = events_.find(event);
  if (it == events_.end() || it->second.context != context) problem("destruction of an unknown event");
  else events_.erase(it);
}

CUresult FakeDriver::record(CUcontext context, CUevent event) noexcept {
  std::lock_guard lock(mutex_);
  if (!event_call("record")) return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
  if (const CUresult r = enter("record")) return r;
  const auto it = events_.find(event);
  if (it == events_.end() || it->second.context != context) {
    problem("record of an unknown event");
    return CUDA_ERROR_INVALID_HANDLE;
  }
  it->second.covers = work_[context].submitted;
  return CUDA_SUCCESS;
}

CUresult FakeDriver::query(CUevent event) noexcept {
  std::lock_guard lock(mutex_);
  if (!event_call("query")) return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
  if (const CUresult r = enter("query")) return r;
  const auto it = events_.find(event);
  if (it == events_.end()) {
    problem("query of an unknown event");
    return CUDA_ERROR_INVALID_HANDLE;
  }
  // One that was never recorded is done, as the driver has it: trusting it is the mistake to find.
  if (it->second.covers == ~uint64_t{0}) return CUDA_SUCCESS;
  return work_[it->second.context].finished >= it->second.covers ? CUDA_SUCCESS : CUDA_ERROR_NOT_READY;
}

CUresult FakeDriver::synchronize(CUcontext context) noexcept {
  std::lock_guard lock(mutex_);
  if (!event_call("synchronize")) return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
  if (const CUresult r = enter("synchronize")) return r;
  work_[context].finished = work_[context].submitted;
  return CUDA_SUCCESS;
}

}  // namespace flexlom::unit
