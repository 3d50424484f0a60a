#include "interpose/green_contexts.h"

#include "interpose/hooks/common.h"

namespace flexlom {

CUcontext primary_context(int device) noexcept {
  // Retain and release around it: the handle is the same for every holder, and the count is
  // restored.
  CUcontext context = nullptr;
  unsigned int flags = 0;
  int active = 0;
  if (FORWARD(cuDevicePrimaryCtxGetState, device, &flags, &active) != CUDA_SUCCESS || active == 0)
    return nullptr;
  if (FORWARD(cuDevicePrimaryCtxRetain, &context, device) != CUDA_SUCCESS) return nullptr;
  FORWARD(cuDevicePrimaryCtxRelease_v2, device);
  return context;
}

CUresult GreenContexts::owner_of_current(int device, CUcontext* context) const noexcept {
  if (!any()) [[likely]]
    return CUDA_SUCCESS;
  CUgreenCtx green = nullptr;
  const CUresult r = FORWARD(cuStreamGetGreenCtx, nullptr, &green);
  if (r == CUDA_ERROR_CONTEXT_IS_DESTROYED) return r;
  if (r != CUDA_SUCCESS || green == nullptr) return CUDA_SUCCESS;
  const CUcontext primary = primary_context(device);
  if (primary == nullptr) return CUDA_ERROR_CONTEXT_IS_DESTROYED;
  *context = primary;
  return CUDA_SUCCESS;
}

CUcontext GreenContexts::owner_of(CUstream stream, CUcontext context) const noexcept {
  CUgreenCtx green = nullptr;
  CUdevice device = 0;
  if (!any() || FORWARD(cuStreamGetGreenCtx, stream, &green) != CUDA_SUCCESS || green == nullptr)
    return context;
  if (FORWARD(cuCtxPushCurrent_v2, context) != CUDA_SUCCESS) return context;
  const CUresult r = FORWARD(cuCtxGetDevice, &device);
  CUcontext popped = nullptr;
  FORWARD(cuCtxPopCurrent_v2, &popped);
  const CUcontext primary = r == CUDA_SUCCESS ? primary_context(device) : nullptr;
  return primary != nullptr ? primary : context;
}

}  // namespace flexlom
