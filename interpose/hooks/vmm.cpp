// The program's own use of virtual memory management: its ranges are its own, ours are not its to
// unmap. The driver answers INVALID_VALUE for cuMemAlloc memory in all of these, and so do we.
#include "interpose/hooks/common.h"

namespace flexlom {

namespace {

bool ours(Runtime* rt, CUdeviceptr p) { return rt != nullptr && rt->pool.owner(p) != nullptr; }

}  // namespace

namespace own {

CUresult cuMemMap(CUdeviceptr p, size_t size, size_t offset, CUmemGenericAllocationHandle handle,
                  unsigned long long flags) {
  Runtime* rt = enter(Entry::cuMemMap);
  if (ours(rt, p)) return CUDA_ERROR_INVALID_VALUE;
  const CUresult r = FORWARD(cuMemMap, p, size, offset, handle, flags);
  doors::note_submission();
  return r;
}

CUresult cuMemUnmap(CUdeviceptr p, size_t size) {
  Runtime* rt = enter(Entry::cuMemUnmap);
  if (ours(rt, p)) return CUDA_ERROR_INVALID_VALUE;
  const CUresult r = FORWARD(cuMemUnmap, p, size);
  doors::note_submission();
  return r;
}

CUresult cuMemSetAccess(CUdeviceptr p, size_t size, const CUmemAccessDesc* access, size_t count) {
  Runtime* rt = enter(Entry::cuMemSetAccess);
  if (ours(rt, p)) return CUDA_ERROR_INVALID_VALUE;
  const CUresult r = FORWARD(cuMemSetAccess, p, size, access, count);
  doors::note_submission();
  return r;
}

CUresult cuMemAddressFree(CUdeviceptr p, size_t size) {
  Runtime* rt = enter(Entry::cuMemAddressFree);
  if (ours(rt, p)) return CUDA_ERROR_INVALID_VALUE;
  const CUresult r = FORWARD(cuMemAddressFree, p, size);
  doors::note_submission();
  return r;
}

}  // namespace own
}  // namespace flexlom
