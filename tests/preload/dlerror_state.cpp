// What dlsym and dlerror say about names that are not there, and about NULL and odd handles. The
// texts are printed: bare and under flexlom they must be the same to the letter.
#include <thread>

#include "tests/preload/session.hpp"

using namespace preload;

namespace {

void say(const char* what) {
  const char* text = dlerror();
  std::printf("%s: %s\n", what, text != nullptr ? text : "no error");
}

}  // namespace

int main() {
  say("at start");
  void* driver = open_driver();
  say("after dlopen");
  CHECK(dlsym(driver, "cuNoSuchThing") == nullptr);
  say("unknown driver name");
  say("asked again");
  CHECK(dlsym(driver, "cuMemAlloc_v2") != nullptr);
  say("after a driver name");
  CHECK(dlsym(driver, "cuGLMapBufferObject") == nullptr);
  say("known name that this driver lacks");
  CHECK(dlsym(driver, "cups") == nullptr);
  say("other name");
  CHECK(dlsym(driver, "cuMemAlloc_v2") != nullptr);
  CHECK(dlsym(driver, "cuGraphicsGLRegisterImage") == nullptr);
  CHECK(dlsym(driver, "cuInit") != nullptr);
  say("success after failure");
  CHECK(dlopen("libno-such-library.so", RTLD_NOW) == nullptr);
  CHECK(dlsym(RTLD_DEFAULT, "no_such_symbol_anywhere") == nullptr);
  say("no such symbol");
  CHECK(dlsym(RTLD_NEXT, "cuNoSuchThing") == nullptr);
  say("next of nothing");
  CHECK(dlvsym(driver, "cuMemAlloc_v2", "NO_SUCH_VERSION") == nullptr);
  say("version");

  // Calls of the driver's are no business of dlerror's.
  const Cuda cuda(driver);
  dlopen("libno-such-library.so", RTLD_NOW);
  cuda.start();
  say("after cuInit");
  dlopen("libno-such-library.so", RTLD_NOW);
  CHECK(cuda.round_trip(100));
  say("after an allocation");
  std::thread([&] {
    cuda.use_primary();
    dlopen("libno-such-library.so", RTLD_NOW);
    CHECK(cuda.round_trip(9 << 20));
    say("after a thread's first allocation");
  }).join();
  dlclose(driver);
  say("after dlclose");
  return verdict();
}
