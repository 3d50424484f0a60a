// A second copy of the driver in a namespace of its own (dlmopen), as some profilers load it: its
// addresses are none we know. They are handed out untouched, counted, and both copies work.
//
//   second_driver alone|beside         is the first copy loaded as well?
#include <cuda.h>

#include "tests/preload/session.hpp"

using namespace preload;

int main(int argc, char** argv) {
  const bool beside = argc > 1 && std::strcmp(argv[1], "beside") == 0;
  if (beside) {
    const Cuda first(open_driver());
    first.start();
    CHECK(first.round_trip(1 << 20));
  }
  void* other = dlmopen(LM_ID_NEWLM, "libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
  CHECK(other != nullptr);
  if (other == nullptr) {
    std::fprintf(stderr, "%s\n", dlerror());
    return 1;
  }
  const Cuda second(other);
  CHECK(!in_flexlom(reinterpret_cast<void*>(second.cuMemAlloc_v2_)));
  second.start();
  CHECK(second.round_trip(1 << 20));
  if (beside) {
    const Cuda first(open_driver());
    CHECK(in_flexlom(reinterpret_cast<void*>(first.cuMemAlloc_v2_)) == under_flexlom());
    CHECK(first.round_trip(1 << 20));
  }
  return verdict();
}
