// Programs linked before glibc 2.34 ask for dlsym@GLIBC_2.2.5, later ones for dlsym@GLIBC_2.34.
#include <cuda.h>

#include "tests/preload/check.hpp"

using namespace preload;

extern "C" {
void* old_dlsym(void* handle, const char* name);
void* new_dlsym(void* handle, const char* name);
}
__asm__(".symver old_dlsym, dlsym@GLIBC_2.2.5");
__asm__(".symver new_dlsym, dlsym@GLIBC_2.34");

int main() {
  void* driver = open_driver();
  void* by_old = old_dlsym(driver, "cuMemAlloc_v2");
  void* by_new = new_dlsym(driver, "cuMemAlloc_v2");
  CHECK(by_old != nullptr);
  CHECK(by_old == by_new);
  CHECK(in_flexlom(by_old) == under_flexlom());
  CHECK(in_flexlom(reinterpret_cast<void*>(&old_dlsym)) == under_flexlom());
  CHECK(in_flexlom(reinterpret_cast<void*>(&new_dlsym)) == under_flexlom());
  CHECK(old_dlsym(RTLD_DEFAULT, "printf") == new_dlsym(RTLD_DEFAULT, "printf"));
  CHECK(old_dlsym(driver, "cuDriverGetVersion") == new_dlsym(driver, "cuDriverGetVersion"));
  CHECK(in_driver(old_dlsym(driver, "cuDriverGetVersion")));
  return verdict();
}
