// Calls every entry point once with nothing but zeros. The answers go to standard output, where
// bare and under flexlom must agree; the runner also compares the driver's own log of what was
// entered with the names printed, which proves that every twin and version keeps its own original.
//
//   hostile_calls gate|own
#include <cuda.h>

#include "tests/preload/every_symbol.hpp"
#include "tests/preload/session.hpp"

using namespace preload;

// Enough zeros for the longest list, and for the one structure that is passed by value.
using Call = int (*)(void*, void*, void*, void*, void*, void*, void*, void*, void*, void*, void*,
                     void*, void*, void*, void*, void*, void*, void*, void*);

int main(int argc, char** argv) {
  const bool gates = argc > 1 && std::strcmp(argv[1], "gate") == 0;
  void* driver = open_driver();
  const Cuda cuda(driver);
  cuda.start();
  std::fflush(stdout);
  for (const Row& row : rows) {
    if (row.pass() || row.gate() != gates) continue;
    void* address = dlsym(driver, row.symbol);
    if (address == nullptr) continue;
    const auto call = reinterpret_cast<Call>(address);
    void* const z = nullptr;
    std::printf("%s ", row.symbol);
    std::fflush(stdout);
    std::printf("%d\n", call(z, z, z, z, z, z, z, z, z, z, z, z, z, z, z, z, z, z, z));
  }
  return verdict();
}
