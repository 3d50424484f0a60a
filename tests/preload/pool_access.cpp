// Access to a memory pool given, and taken away, before anything was allocated from it. Two
// devices that reach each other; what one's pool gave is filled from the other's context.
#include <cuda.h>

#include <initializer_list>

#include "tests/preload/check.hpp"

using namespace preload;

namespace {

void* driver = nullptr;

#define CU(name) look_up<decltype(&::name)>(driver, #name)

enum class Pool { standard, made };

CUmemoryPool pool_on(Pool which, int device) {
  CUmemoryPool pool = nullptr;
  if (which == Pool::standard) {
    CHECK_OK(CU(cuDeviceGetDefaultMemPool)(&pool, device));
    return pool;
  }
  CUmemPoolProps props{};
  props.allocType = CU_MEM_ALLOCATION_TYPE_PINNED;
  props.location = {CU_MEM_LOCATION_TYPE_DEVICE, device};
  CHECK_OK(CU(cuMemPoolCreate)(&pool, &props));
  return pool;
}

void set_access(CUmemoryPool pool, int device, CUmemAccess_flags flags) {
  const CUmemAccessDesc access{{CU_MEM_LOCATION_TYPE_DEVICE, device}, flags};
  CHECK_OK(CU(cuMemPoolSetAccess)(pool, &access, 1));
}

// Allocates from the pool in its device's context and fills in the other's.
CUresult filled(CUmemoryPool pool, CUcontext owner, CUcontext other) {
  constexpr size_t kBytes = size_t{4} << 20;
  CUdeviceptr p = 0;
  CHECK_OK(CU(cuCtxSetCurrent)(owner));
  CHECK_OK(CU(cuMemAllocFromPoolAsync)(&p, kBytes, pool, nullptr));
  CHECK_OK(CU(cuStreamSynchronize)(nullptr));
  CHECK_OK(CU(cuCtxSetCurrent)(other));
  const CUresult r = CU(cuMemsetD8_v2)(p, 7, kBytes);
  CHECK_OK(CU(cuCtxSynchronize)());
  CHECK_OK(CU(cuCtxSetCurrent)(owner));
  CHECK_OK(CU(cuMemFreeAsync)(p, nullptr));
  CHECK_OK(CU(cuStreamSynchronize)(nullptr));
  return r;
}

}  // namespace

// pool_access standard|made none|owner|other given|taken: the pool, whose context is current when
// access is set, and whether it is still there at the first allocation.
int main(int count, char** words) {
  if (count < 4) return 2;
  const Pool which = words[1][0] == 's' ? Pool::standard : Pool::made;
  const bool taken = words[3][0] == 't';
  driver = open_driver();
  CHECK_OK(CU(cuInit)(0));
  CUcontext contexts[2] = {};
  for (int i : {0, 1}) CHECK_OK(CU(cuDevicePrimaryCtxRetain)(&contexts[i], i));
  if (words[2][0] == 'o') CHECK_OK(CU(cuCtxSetCurrent)(contexts[words[2][1] == 't' ? 1 : 0]));
  const CUmemoryPool pool = pool_on(which, 0);
  set_access(pool, 1, CU_MEM_ACCESS_FLAGS_PROT_READWRITE);
  if (taken) set_access(pool, 1, CU_MEM_ACCESS_FLAGS_PROT_NONE);
  const CUresult r = filled(pool, contexts[0], contexts[1]);
  CHECK(r == (taken ? CUDA_ERROR_INVALID_VALUE : CUDA_SUCCESS));
  // It can still be given.
  if (taken) {
    set_access(pool, 1, CU_MEM_ACCESS_FLAGS_PROT_READWRITE);
    CHECK_OK(filled(pool, contexts[0], contexts[1]));
  }
  return verdict();
}
