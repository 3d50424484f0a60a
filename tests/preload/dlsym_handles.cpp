// dlsym on the driver's handle, on RTLD_DEFAULT and on dlopen(NULL): every entry point with a door
// comes back as a door, every other one as the driver's own, at the same address whichever way it
// was asked.
#include "tests/preload/every_symbol.hpp"

using namespace preload;

int main() {
  void* driver = open_driver(RTLD_NOW | RTLD_GLOBAL);
  const DriverTable real(driver);
  void* program = dlopen(nullptr, RTLD_NOW);
  CHECK(real.size() > 400);
  size_t doors = 0, passed = 0, absent = 0;
  for (const Row& row : rows) {
    void* own = real.address(row.symbol);
    void* by_handle = dlsym(driver, row.symbol);
    void* by_default = dlsym(RTLD_DEFAULT, row.symbol);
    void* by_program = dlsym(program, row.symbol);
    if (own == nullptr) {
      // The driver does not have it: so it must look to a program that asks the driver.
      CHECK(by_handle == nullptr);
      ++absent;
      continue;
    }
    if (!under_flexlom() || row.pass()) {
      CHECK(by_handle == own);
      CHECK(by_default == own);
      CHECK(by_program == own);
      ++passed;
      continue;
    }
    ++doors;
    const bool all = in_flexlom(by_handle) && in_flexlom(by_default) && in_flexlom(by_program);
    if (!all)
      std::fprintf(stderr, "%s: %s %s %s\n", row.symbol, object_of(by_handle),
                   object_of(by_default), object_of(by_program));
    CHECK(all);
  }
  CHECK(doors + passed + absent == std::size(rows));
  if (under_flexlom()) CHECK(doors > 250);
  std::printf("%zu entry points\n", std::size(rows));
  return verdict();
}
