// The program's own use of virtual memory management (CUDA Driver API 6.14). Its frames count
// against our budgets, its ranges are its own, and ours are not its to unmap: the driver answers
// INVALID_VALUE for cuMemAlloc memory in all of these, and so do we.
#include "interpose/hooks/common.h"

namespace flexlom {

namespace {

bool ours(Runtime* rt, CUdeviceptr p) { return rt != nullptr && rt->pool.owner(p) != nullptr; }

}  // namespace

namespace own {

CUresult cuMemCreate(CUmemGenericAllocationHandle* handle, size_t size,
                     const CUmemAllocationProp* prop, unsigned long long flags) {
  Runtime* rt = enter(Entry::cuMemCreate);
  CUcontext context = nullptr;
  int device = 0;
  // Without a context the device's facts cannot be asked for, and nothing was pooled yet.
  if (rt != nullptr && handle != nullptr && prop != nullptr &&
      rt->current(&context, &device) == CUDA_SUCCESS && device == prop->location.id) {
    InsidePool inside;
    const stacks::Caller caller(rt->listener.stacks());
    const CUresult r = rt->program_frames.create(handle, size, *prop, flags);
    if (r != CUDA_ERROR_NOT_SUPPORTED) return r;
  }
  return FORWARD(cuMemCreate, handle, size, prop, flags);
}

CUresult cuMemRelease(CUmemGenericAllocationHandle handle) {
  Runtime* rt = enter(Entry::cuMemRelease);
  const doors::Submission submission;
  const CUresult r = FORWARD(cuMemRelease, handle);
  if (rt != nullptr && r == CUDA_SUCCESS) {
    InsidePool inside;
    rt->program_frames.released(handle);
  }
  return r;
}

CUresult cuMemGetAllocationPropertiesFromHandle(CUmemAllocationProp* prop,
                                                CUmemGenericAllocationHandle handle) {
  Runtime* rt = enter(Entry::cuMemGetAllocationPropertiesFromHandle);
  if (rt != nullptr && prop != nullptr && rt->program_frames.asked_for(handle, prop))
    return CUDA_SUCCESS;
  return FORWARD(cuMemGetAllocationPropertiesFromHandle, prop, handle);
}

CUresult cuMemMap(CUdeviceptr p, size_t size, size_t offset, CUmemGenericAllocationHandle handle,
                  unsigned long long flags) {
  Runtime* rt = enter(Entry::cuMemMap);
  if (ours(rt, p)) return CUDA_ERROR_INVALID_VALUE;
  const CUresult r = FORWARD(cuMemMap, p, size, offset, handle, flags);
  if (rt != nullptr && r == CUDA_SUCCESS) {
    InsidePool inside;
    rt->program_frames.mapped(handle, p, size);
  }
  return r;
}

CUresult cuMemUnmap(CUdeviceptr p, size_t size) {
  Runtime* rt = enter(Entry::cuMemUnmap);
  if (ours(rt, p)) return CUDA_ERROR_INVALID_VALUE;
  const doors::Submission submission;
  const CUresult r = FORWARD(cuMemUnmap, p, size);
  if (rt != nullptr && r == CUDA_SUCCESS) {
    InsidePool inside;
    rt->program_frames.unmapped(p, size);
  }
  return r;
}

CUresult cuMemSetAccess(CUdeviceptr p, size_t size, const CUmemAccessDesc* access, size_t count) {
  Runtime* rt = enter(Entry::cuMemSetAccess);
  if (ours(rt, p)) return CUDA_ERROR_INVALID_VALUE;
  const doors::Submission submission;
  const CUresult r = FORWARD(cuMemSetAccess, p, size, access, count);
  return r;
}

CUresult cuMemAddressFree(CUdeviceptr p, size_t size) {
  Runtime* rt = enter(Entry::cuMemAddressFree);
  if (ours(rt, p)) return CUDA_ERROR_INVALID_VALUE;
  const doors::Submission submission;
  const CUresult r = FORWARD(cuMemAddressFree, p, size);
  return r;
}

}  // namespace own
}  // namespace flexlom
