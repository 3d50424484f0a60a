// Exports whose original this driver lacks (interop with graphics, on a machine without any): a
// program that calls one gets an error code, not a jump to nowhere.
#include <cuda.h>

#include "tests/preload/every_symbol.hpp"

using namespace preload;

using Call = int (*)(void*, void*, void*, void*, void*, void*, void*, void*, void*, void*, void*,
                     void*, void*, void*, void*, void*, void*, void*, void*);

int main() {
  void* driver = open_driver();
  const DriverTable real(driver);
  size_t called = 0;
  for (const Row& row : rows) {
    if (row.pass() || real.address(row.symbol) != nullptr) continue;
    void* address = dlsym(RTLD_DEFAULT, row.symbol);
    CHECK((address != nullptr) == under_flexlom());
    if (address == nullptr) continue;
    void* const z = nullptr;
    CHECK(reinterpret_cast<Call>(address)(z, z, z, z, z, z, z, z, z, z, z, z, z, z, z, z, z, z,
                                          z) == CUDA_ERROR_NOT_SUPPORTED);
    ++called;
  }
  if (under_flexlom()) CHECK(called >= 10);
  return verdict();
}
