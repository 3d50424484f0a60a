// Frees of pointers that are foreign, interior, already free, or nothing at all. Codes are printed
// and must be the driver's; good memory beside them stays good.
#include <cuda.h>

#include "tests/preload/session.hpp"

using namespace preload;

int main() {
  const Cuda cuda(open_driver());
  cuda.start();
  for (const size_t bytes : {size_t{100}, size_t{70000}, size_t{2} << 20, size_t{9} << 20}) {
    CUdeviceptr p = 0, beside = 0;
    CHECK_OK(cuda.cuMemAlloc_v2_(&p, bytes));
    CHECK_OK(cuda.cuMemAlloc_v2_(&beside, bytes));
    CHECK_OK(cuda.cuMemsetD8_v2_(beside, 0x77, bytes));
    int on_stack = 0;
    const auto stack = reinterpret_cast<CUdeviceptr>(&on_stack);
    const struct {
      const char* what;
      CUdeviceptr address;
    } frees[] = {{"interior", p + 1}, {"middle", p + bytes / 2},
                 {"stack", stack},    {"unknown", 0xdeadbeef000},
                 {"one", 1},          {"last", ~CUdeviceptr{0}},
                 {"null", 0},         {"first", p},
                 {"second", p},       {"third", p}};
    std::printf("%zu:", bytes);
    for (const auto& f : frees)
      std::printf(" %s %d", f.what, static_cast<int>(cuda.cuMemFree_v2_(f.address)));
    std::printf("\n");
    unsigned char last = 0;
    CHECK_OK(cuda.cuMemcpyDtoH_v2_(&last, beside + bytes - 1, 1));
    CHECK(last == 0x77);
    CHECK_OK(cuda.cuMemFree_v2_(beside));
  }
  return verdict();
}
