// A program linked against libcuda, as `nvcc -lcuda` makes them: the loader binds its calls to our
// exports, and pointers to functions are the same whether taken by the program or looked up.
#include <cuda.h>

#include <vector>

#include "tests/preload/check.hpp"

using namespace preload;

int main() {
  CHECK_OK(cuInit(0));
  CUcontext context = nullptr;
  CHECK_OK(cuDevicePrimaryCtxRetain(&context, 0));
  CHECK_OK(cuCtxSetCurrent(context));
  for (const size_t bytes : {size_t{1}, size_t{4096}, size_t{3} << 20, size_t{40} << 20}) {
    CUdeviceptr p = 0;
    CHECK_OK(cuMemAlloc(&p, bytes));
    CHECK_OK(cuMemsetD8(p, 0x3c, bytes));
    std::vector<unsigned char> out(bytes);
    CHECK_OK(cuMemcpyDtoH(out.data(), p, bytes));
    bool same = true;
    for (unsigned char byte : out) same = same && byte == 0x3c;
    CHECK(same);
    CUdeviceptr base = 0;
    size_t size = 0;
    CHECK_OK(cuMemGetAddressRange(&base, &size, p + bytes / 2));
    CHECK(base == p && size == bytes);
    CHECK_OK(cuMemFree(p));
  }
  void* self = dlopen(nullptr, RTLD_NOW);
  CHECK(dlsym(self, "cuMemAlloc_v2") == dlsym(RTLD_DEFAULT, "cuMemAlloc_v2"));
  CHECK(in_flexlom(dlsym(self, "cuMemAlloc_v2")) == under_flexlom());
  CHECK(in_driver(dlsym(self, "cuDriverGetVersion")));
  CHECK(cuMemFree(0) == CUDA_SUCCESS);
  CHECK_OK(cuDevicePrimaryCtxRelease(0));
  return verdict();
}
