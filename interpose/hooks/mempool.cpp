// Memory pools (CUDA Driver API 6.15) and their attributes: the driver's numbers plus what our
// pages hold for the pools we serve, so that used, reserved and their high-water marks add up for
// the program.

#include "interpose/hooks/common.h"

namespace flexlom {

namespace {

// The device of a pool that we serve and that has been used; -1: nothing of ours to add.
int device_of(Runtime& rt, CUmemoryPool pool) {
  const int device = rt.memory_pools.device_of(pool);
  return rt.pool.opened(device) != nullptr ? device : -1;
}

uint64_t share(Runtime& rt, int device, CUmemoryPool pool, CUmemPool_attribute attribute) {
  const pool::AsyncUse use = rt.pool.device(device)->async_use(pool);
  switch (attribute) {
    case CU_MEMPOOL_ATTR_USED_MEM_CURRENT:
      return use.used_bytes;
    case CU_MEMPOOL_ATTR_USED_MEM_HIGH:
      return use.used_high_bytes;
    case CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT:
      return use.reserved_bytes;
    case CU_MEMPOOL_ATTR_RESERVED_MEM_HIGH:
      return use.reserved_high_bytes;
    default:
      return 0;
  }
}

}  // namespace

namespace own {

CUresult cuMemPoolGetAttribute(CUmemoryPool pool, CUmemPool_attribute attribute, void* value) {
  Runtime* rt = enter(Entry::cuMemPoolGetAttribute);
  const CUresult r = FORWARD(cuMemPoolGetAttribute, pool, attribute, value);
  if (r != CUDA_SUCCESS || rt == nullptr || attribute < CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT ||
      attribute > CU_MEMPOOL_ATTR_USED_MEM_HIGH) {
    return r;
  }
  if (const int device = device_of(*rt, pool); device >= 0) {
    *static_cast<cuuint64_t*>(value) += share(*rt, device, pool, attribute);
  }
  return r;
}

CUresult cuMemPoolSetAttribute(CUmemoryPool pool, CUmemPool_attribute attribute, void* value) {
  Runtime* rt = enter(Entry::cuMemPoolSetAttribute);
  const CUresult r = FORWARD(cuMemPoolSetAttribute, pool, attribute, value);
  const bool high =
      attribute == CU_MEMPOOL_ATTR_RESERVED_MEM_HIGH || attribute == CU_MEMPOOL_ATTR_USED_MEM_HIGH;
  if (r == CUDA_SUCCESS && rt != nullptr && high) {
    if (const int device = device_of(*rt, pool); device >= 0) {
      rt->pool.device(device)->reset_async_high(pool, attribute == CU_MEMPOOL_ATTR_USED_MEM_HIGH);
    }
  }
  return r;
}

CUresult cuMemPoolTrimTo(CUmemoryPool pool, size_t keep_bytes) {
  Runtime* rt = enter(Entry::cuMemPoolTrimTo);
  const CUresult r = FORWARD(cuMemPoolTrimTo, pool, keep_bytes);
  if (r == CUDA_SUCCESS && rt != nullptr) {
    if (const int device = device_of(*rt, pool); device >= 0) {
      InsidePool inside;
      rt->pool.device(device)->trim(keep_bytes);
    }
  }
  return r;
}

CUresult cuMemPoolCreate(CUmemoryPool* pool, const CUmemPoolProps* props) {
  Runtime* rt = enter(Entry::cuMemPoolCreate);
  const CUresult r = FORWARD(cuMemPoolCreate, pool, props);
  if (r == CUDA_SUCCESS && rt != nullptr) {
    InsidePool inside;
    rt->memory_pools.created(*pool, *props);
  }
  return r;
}

// What was allocated from the pool lives on until it is freed, as the driver documents.
CUresult cuMemPoolDestroy(CUmemoryPool pool) {
  Runtime* rt = enter(Entry::cuMemPoolDestroy);
  const CUresult r = FORWARD(cuMemPoolDestroy, pool);
  if (r == CUDA_SUCCESS && rt != nullptr) rt->memory_pools.destroyed(pool);
  return r;
}

CUresult cuMemPoolSetAccess(CUmemoryPool pool, const CUmemAccessDesc* access, size_t count) {
  Runtime* rt = enter(Entry::cuMemPoolSetAccess);
  const CUresult r = FORWARD(cuMemPoolSetAccess, pool, access, count);
  if (r != CUDA_SUCCESS || rt == nullptr) return r;
  InsidePool inside;
  // First: a device that is opened at this moment either finds it there, or is found below.
  rt->memory_pools.access_set(pool, access, count);
  const int device = device_of(*rt, pool);
  if (device < 0) return r;
  for (size_t i = 0; i < count; ++i) {
    if (access[i].location.type != CU_MEM_LOCATION_TYPE_DEVICE) continue;
    if (access[i].flags != CU_MEM_ACCESS_FLAGS_PROT_READWRITE) continue;
    rt->pool.device(device)->allow_access(access[i].location.id);
  }
  return r;
}

// A pointer from a pool that we serve cannot be exported: such a pool has no handle type, and the
// driver says so.
CUresult cuMemPoolExportPointer(CUmemPoolPtrExportData* data, CUdeviceptr p) {
  Runtime* rt = enter(Entry::cuMemPoolExportPointer);
  if (rt != nullptr && data != nullptr && rt->pool.owner(p) != nullptr) {
    rt->listener.warned("cuMemPoolExportPointer refused: the pointer's pool has no handle type");
    return CUDA_ERROR_INVALID_VALUE;
  }
  return FORWARD(cuMemPoolExportPointer, data, p);
}

}  // namespace own
}  // namespace flexlom
