#include "pool/windows.h"

namespace flexlom::pool {

namespace {
constexpr size_t kBytes = size_t{1} << 40;
}  // namespace

Windows::~Windows() {
  if (space_ != nullptr) driver_.unreserve(space_->base(), space_->bytes());
}

CUresult Windows::open(unsigned order, Frame* frame) {
  if (frame->window != 0) return CUDA_SUCCESS;
  if (space_ == nullptr) {
    CUdeviceptr base = 0;
    const CUresult r = driver_.reserve(hint_, kBytes, &base);
    if (r != CUDA_SUCCESS) return r;
    space_ = std::make_unique<AddressSpace>(base, kBytes);
  }
  const uint32_t granules = page_granules(order);
  const uint32_t first = space_->take(granules);
  if (first == AddressSpace::kNone) return CUDA_ERROR_OUT_OF_MEMORY;
  const CUdeviceptr address = space_->address(first);
  CUresult r = driver_.map(address, page_bytes(order), frame->handle);
  if (r == CUDA_SUCCESS) {
    r = driver_.set_access(address, page_bytes(order), device_);
    if (r == CUDA_SUCCESS) {
      frame->window = address;
      return CUDA_SUCCESS;
    }
    // An address that stays mapped is never used again.
    if (driver_.unmap(address, page_bytes(order)) != CUDA_SUCCESS) return r;
  }
  space_->give(first, granules);
  return r;
}

bool Windows::close(unsigned order, Frame* frame) noexcept {
  if (frame->window == 0) return true;
  if (driver_.unmap(frame->window, page_bytes(order)) != CUDA_SUCCESS) return false;
  space_->give(static_cast<uint32_t>((frame->window - space_->base()) >> kGranuleShift),
               page_granules(order));
  frame->window = 0;
  return true;
}

}  // namespace flexlom::pool
