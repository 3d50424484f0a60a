// A program that can do without the driver: it looks, does not find one, and goes on.
#include <cuda.h>

#include "tests/preload/check.hpp"

using namespace preload;

int main() {
  CHECK(dlopen("libcuda.so.1", RTLD_NOW) == nullptr);
  std::printf("%s\n", dlerror());
  // Our exports are there for linked programs. They must not pretend that there is a driver.
  if (void* init = dlsym(RTLD_DEFAULT, "cuInit")) {
    CHECK(under_flexlom());
    CHECK(reinterpret_cast<decltype(&cuInit)>(init)(0) != CUDA_SUCCESS);
    CUdeviceptr p = 0;
    const auto alloc = look_up<CUresult (*)(CUdeviceptr*, size_t)>(RTLD_DEFAULT, "cuMemAlloc_v2");
    CHECK(alloc(&p, 100) != CUDA_SUCCESS);
    size_t available = 0, total = 0;
    const auto info = look_up<CUresult (*)(size_t*, size_t*)>(RTLD_DEFAULT, "cuMemGetInfo_v2");
    CHECK(info(&available, &total) != CUDA_SUCCESS);
  } else {
    CHECK(!under_flexlom());
  }
  std::printf("went on\n");
  return verdict();
}
