// The driver opened by another path, closed, and opened again; calls looked up before stay good.
//
//   reopen_driver [PATH]
#include <cuda.h>

#include "tests/preload/session.hpp"

using namespace preload;

int main(int argc, char** argv) {
  const char* path = argc > 1 ? argv[1] : "libcuda.so.1";
  void* driver = dlopen(path, RTLD_NOW | RTLD_NODELETE);
  CHECK(driver != nullptr);
  if (driver == nullptr) return 1;
  const Cuda cuda(driver);
  CHECK(in_flexlom(reinterpret_cast<void*>(cuda.cuMemAlloc_v2_)) == under_flexlom());
  cuda.start();
  CHECK(cuda.round_trip(1 << 20));
  for (int i = 0; i < 3; ++i) {
    CHECK(dlclose(driver) == 0);
    CHECK(cuda.round_trip(1 << 20));
    driver = dlopen(path, RTLD_NOW);
    const Cuda again(driver);
    CHECK(again.cuMemAlloc_v2_ == cuda.cuMemAlloc_v2_);
    CHECK(again.cuMemFree_v2_ == cuda.cuMemFree_v2_);
    CHECK(again.round_trip(1 << 20));
  }
  return verdict();
}
