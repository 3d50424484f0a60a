// Names that begin with "cu" but are no entry points, and a library that has functions of its own
// under entry points' names: everybody gets what the library that was asked has.
#include <initializer_list>

#include "tests/preload/check.hpp"

using namespace preload;

int main() {
  void* library = dlopen(std::getenv("PRELOAD_LOOKALIKE"), RTLD_NOW | RTLD_LOCAL);
  CHECK(library != nullptr);
  if (library == nullptr) return 1;
  for (const char* name : {"curl_easy_init", "cupsGetDefault", "cu_thing", "cuddle", "cu",
                           "cuTopia", "cuMemAllocator", "cublasCreate_v2", "cufftExecC2C"}) {
    const auto call = look_up<const char* (*)()>(library, name);
    CHECK(std::strcmp(object_of(reinterpret_cast<void*>(call)), "liblookalike.so") == 0);
    CHECK(std::strcmp(call(), name) == 0);
  }
  // Before the driver is there, and after.
  for (int pass = 0; pass < 2; ++pass) {
    const auto init = look_up<const char* (*)()>(library, "cuMemHostAlloc");
    const auto alloc = look_up<const char* (*)()>(library, "cuMemAlloc_v2");
    CHECK(std::strcmp(init(), "cuMemHostAlloc") == 0);
    CHECK(std::strcmp(alloc(), "cuMemAlloc_v2") == 0);
    open_driver();
  }
  void* driver = open_driver();
  CHECK(std::strcmp(object_of(dlsym(driver, "cuMemAlloc_v2")), "liblookalike.so") != 0);
  return verdict();
}
