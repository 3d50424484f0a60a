// Who reaches the pages: the pool's own device, peers that the program gave access to, and, for
// pages on the host, every device that has a context.
#include <algorithm>

#include "pool/device_pool.h"

namespace flexlom::pool {

// For a page that was mapped just now.
CUresult DevicePool::open_access(CUdeviceptr address, size_t bytes, Where where) {
  for (const Access& access : access_) {
    if (access.host_only && where != Where::host) continue;
    const CUresult r = driver_.set_access(address, bytes, access.device);
    // Without it some copies of another device are refused, and nothing else.
    if (r != CUDA_SUCCESS && !access.host_only) return r;
  }
  return CUDA_SUCCESS;
}

CUresult DevicePool::show(CUdeviceptr address, size_t bytes, const Frame& frame, Where where) {
  CUresult r = driver_.map(address, bytes, frame.handle);
  if (r != CUDA_SUCCESS) return r;
  r = open_access(address, bytes, where);
  if (r != CUDA_SUCCESS) driver_.unmap(address, bytes);
  return r;
}

CUresult DevicePool::allow_access(int device, bool host_only) {
  std::lock_guard lock(mutex_);
  const auto known = std::find_if(access_.begin(), access_.end(),
                                  [&](const Access& access) { return access.device == device; });
  if (known != access_.end() && (host_only || !known->host_only)) return CUDA_SUCCESS;
  for (Span* span : spans_) {
    for (const Page& page : span->pages) {
      if (host_only && page.where != Where::host) continue;
      const CUdeviceptr address = span->base + (CUdeviceptr{page.granule} << kGranuleShift);
      const CUresult r = driver_.set_access(address, page_bytes(page.order), device);
      // A page on its way up may have its device frame already.
      if (r != CUDA_SUCCESS && !host_only) return r;
    }
  }
  if (known != access_.end()) {
    known->host_only = false;
  } else {
    access_.push_back({device, host_only});
  }
  return CUDA_SUCCESS;
}

bool DevicePool::accessible_by(int device) const {
  std::lock_guard lock(mutex_);
  return std::any_of(access_.begin(), access_.end(), [&](const Access& access) {
    return access.device == device && !access.host_only;
  });
}

}  // namespace flexlom::pool
