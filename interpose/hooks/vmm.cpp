// The program's own use of virtual memory management (CUDA Driver API 6.14). What it makes for
// itself alone is placed by us (program_maps.h); its other frames count against our budgets
// (program_frames.h). The pages of allocations are not its to map: the driver answers INVALID_VALUE
// for cuMemAlloc memory in all of these, and so do we.
#include "interpose/hooks/common.h"

namespace flexlom {

namespace {

// In our address space, and in no range that the program reserved there.
bool ours(Runtime* rt, CUdeviceptr p) {
  return rt != nullptr && rt->pool.owner(p) != nullptr && !rt->program_maps.holds(p);
}

// Sparse arrays take frames of a kind that is never ours.
bool maps_ours(const CUarrayMapInfo* list, unsigned int count) {
  for (unsigned int i = 0; list != nullptr && i < count; ++i) {
    if (list[i].memHandleType == CU_MEM_HANDLE_TYPE_GENERIC &&
        ProgramMaps::is_ours(list[i].memHandle.memHandle))
      return true;
  }
  return false;
}

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
    CUresult r = rt->program_maps.create(handle, size, *prop, flags, context);
    if (r == CUDA_ERROR_NOT_SUPPORTED) r = rt->program_frames.create(handle, size, *prop, flags);
    if (r != CUDA_ERROR_NOT_SUPPORTED) return r;
  }
  return FORWARD(cuMemCreate, handle, size, prop, flags);
}

CUresult cuMemRelease(CUmemGenericAllocationHandle handle) {
  Runtime* rt = enter(Entry::cuMemRelease);
  if (ProgramMaps::is_ours(handle)) {
    InsidePool inside;
    return rt != nullptr ? rt->program_maps.release(handle) : CUDA_ERROR_INVALID_VALUE;
  }
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
  if (ProgramMaps::is_ours(handle)) {
    if (rt == nullptr || prop == nullptr) return CUDA_ERROR_INVALID_VALUE;
    return rt->program_maps.properties(prop, handle);
  }
  if (rt != nullptr && prop != nullptr && rt->program_frames.asked_for(handle, prop))
    return CUDA_SUCCESS;
  return FORWARD(cuMemGetAllocationPropertiesFromHandle, prop, handle);
}

CUresult cuMemMap(CUdeviceptr p, size_t size, size_t offset, CUmemGenericAllocationHandle handle,
                  unsigned long long flags) {
  Runtime* rt = enter(Entry::cuMemMap);
  if (ours(rt, p)) return CUDA_ERROR_INVALID_VALUE;
  if (rt == nullptr && ProgramMaps::is_ours(handle)) return CUDA_ERROR_INVALID_VALUE;
  if (rt != nullptr) {
    InsidePool inside;
    const stacks::Caller caller(rt->listener.stacks());
    const CUresult r = rt->program_maps.map(p, size, offset, handle, flags);
    if (r == CUDA_SUCCESS) rt->program_frames.mapped(handle, p, size);
    if (r != CUDA_ERROR_NOT_SUPPORTED || ProgramMaps::is_ours(handle)) return r;
  }
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
  if (rt != nullptr) {
    InsidePool inside;
    const stacks::Caller caller(rt->listener.stacks());
    // Not a submission: it may have to wait for moves that wait for those.
    const CUresult r = rt->program_maps.unmap(p, size);
    if (r == CUDA_SUCCESS) rt->program_frames.unmapped(p, size);
    if (r != CUDA_ERROR_NOT_SUPPORTED) return r;
  }
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
  if (rt != nullptr) {
    InsidePool inside;
    const CUresult r = rt->program_maps.set_access(p, size, access, count);
    if (r != CUDA_ERROR_NOT_SUPPORTED) return r;
  }
  const doors::Submission submission;
  const CUresult r = FORWARD(cuMemSetAccess, p, size, access, count);
  return r;
}

CUresult cuMemAddressFree(CUdeviceptr p, size_t size) {
  Runtime* rt = enter(Entry::cuMemAddressFree);
  if (ours(rt, p)) return CUDA_ERROR_INVALID_VALUE;
  if (rt != nullptr) {
    InsidePool inside;
    const CUresult r = rt->program_maps.give_back(p, size);
    if (r != CUDA_ERROR_NOT_SUPPORTED) return r;
  }
  const doors::Submission submission;
  const CUresult r = FORWARD(cuMemAddressFree, p, size);
  return r;
}

CUresult cuMemAddressReserve(CUdeviceptr* p, size_t size, size_t alignment, CUdeviceptr hint,
                             unsigned long long flags) {
  Runtime* rt = enter(Entry::cuMemAddressReserve);
  CUcontext context = nullptr;
  int device = 0;
  if (rt != nullptr && p != nullptr && hint == 0 && flags == 0 &&
      rt->current(&context, &device) == CUDA_SUCCESS) {
    InsidePool inside;
    const CUresult r = rt->program_maps.reserve(p, size, alignment, device);
    if (r != CUDA_ERROR_NOT_SUPPORTED) return r;
  }
  const doors::Submission submission;
  return FORWARD(cuMemAddressReserve, p, size, alignment, hint, flags);
}

CUresult cuMemExportToShareableHandle(void* out, CUmemGenericAllocationHandle handle,
                                      CUmemAllocationHandleType type, unsigned long long flags) {
  Runtime* rt = enter(Entry::cuMemExportToShareableHandle);
  if (ProgramMaps::is_ours(handle)) {
    if (rt == nullptr) return CUDA_ERROR_INVALID_VALUE;
    InsidePool inside;
    const auto share = [&]() noexcept { return rt->program_maps.share(out, handle, type, flags); };
    const CUdeviceptr p = rt->program_maps.place_of(handle);
    const CUresult r = share_from_device(*rt, p, CUDA_ERROR_NOT_SUPPORTED, share);
    if (r == CUDA_ERROR_NOT_SUPPORTED) {
      rt->listener.warned(
          "cuMemExportToShareableHandle refused: the memory lies in host memory and cannot come "
          "to the device now, or it lies in several pages (more than 64 MiB)");
    }
    return r;
  }
  return FORWARD(cuMemExportToShareableHandle, out, handle, type, flags);
}

CUresult cuMulticastBindMem(CUmemGenericAllocationHandle multicast, size_t at,
                            CUmemGenericAllocationHandle handle, size_t offset, size_t size,
                            unsigned long long flags) {
  Runtime* rt = enter(Entry::cuMulticastBindMem);
  if (ProgramMaps::is_ours(handle)) {
    if (rt != nullptr)
      rt->listener.warned(
          "cuMulticastBindMem refused: only memory with a handle type can be bound");
    return CUDA_ERROR_NOT_SUPPORTED;
  }
  return FORWARD(cuMulticastBindMem, multicast, at, handle, offset, size, flags);
}

CUresult cuMulticastBindAddr(CUmemGenericAllocationHandle multicast, size_t at, CUdeviceptr p,
                             size_t size, unsigned long long flags) {
  Runtime* rt = enter(Entry::cuMulticastBindAddr);
  if (rt != nullptr && rt->program_maps.holds(p)) {
    InsidePool inside;
    rt->program_maps.pin(p, size);
  }
  return FORWARD(cuMulticastBindAddr, multicast, at, p, size, flags);
}

CUresult cuMemMapArrayAsync(CUarrayMapInfo* list, unsigned int count, CUstream stream) {
  enter(Entry::cuMemMapArrayAsync);
  if (maps_ours(list, count)) return CUDA_ERROR_INVALID_VALUE;
  const doors::Submission submission;
  return FORWARD(cuMemMapArrayAsync, list, count, stream);
}

CUresult cuMemMapArrayAsync_ptsz(CUarrayMapInfo* list, unsigned int count, CUstream stream) {
  enter(Entry::cuMemMapArrayAsync_ptsz);
  if (maps_ours(list, count)) return CUDA_ERROR_INVALID_VALUE;
  const doors::Submission submission;
  return FORWARD_TWIN(Entry::cuMemMapArrayAsync_ptsz, cuMemMapArrayAsync, list, count, stream);
}

}  // namespace own
}  // namespace flexlom
