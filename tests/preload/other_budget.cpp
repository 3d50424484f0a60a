// What is said of a memory pool of device 1 with device 0 current, and nearly full: device 1's free
// memory stays its own.
#include <cuda.h>

#include <string_view>

#include "tests/preload/check.hpp"

using namespace preload;

// other_budget attribute|trim|access: what is called
int main(int count, char** words) {
  if (count < 2) return 2;
  const std::string_view how = words[1];
  void* driver = open_driver();
#define CU(name) look_up<decltype(&::name)>(driver, #name)
  CHECK_OK(CU(cuInit)(0));
  CUcontext contexts[2] = {};
  for (int i : {0, 1}) CHECK_OK(CU(cuDevicePrimaryCtxRetain)(&contexts[i], i));
  CHECK_OK(CU(cuCtxSetCurrent)(contexts[0]));
  size_t available = 0, total = 0;
  CHECK_OK(CU(cuMemGetInfo_v2)(&available, &total));
  CUdeviceptr p = 0;
  CHECK_OK(CU(cuMemAlloc_v2)(&p, available / 10 * 9));
  CUmemPoolProps props{};
  props.allocType = CU_MEM_ALLOCATION_TYPE_PINNED;
  props.location = {CU_MEM_LOCATION_TYPE_DEVICE, 1};
  CUmemoryPool pool = nullptr;
  CHECK_OK(CU(cuMemPoolCreate)(&pool, &props));
  if (how == "attribute") {
    cuuint64_t used = 0;
    CHECK_OK(CU(cuMemPoolGetAttribute)(pool, CU_MEMPOOL_ATTR_USED_MEM_CURRENT, &used));
    CHECK(used == 0);
  } else if (how == "trim") {
    CHECK_OK(CU(cuMemPoolTrimTo)(pool, 0));
  } else {
    const CUmemAccessDesc access{{CU_MEM_LOCATION_TYPE_DEVICE, 0},
                                 CU_MEM_ACCESS_FLAGS_PROT_READWRITE};
    CHECK_OK(CU(cuMemPoolSetAccess)(pool, &access, 1));
  }
  CHECK_OK(CU(cuCtxSetCurrent)(contexts[1]));
  CHECK_OK(CU(cuMemGetInfo_v2)(&available, &total));
  CHECK(available > total / 4 * 3);
  return verdict();
}
