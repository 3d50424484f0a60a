// Another interposer in the process, before us, after us or on both sides: it keeps seeing the
// calls, the calls keep reaching the driver, and none is handed itself.
//
//   wrapped linked|opened LETTERS CALLS
//
// LETTERS: which wrappers are preloaded, in their order. CALLS: how many of the two allocations the
// first of them must see. Behind us a wrapper sees what we ask of the driver, so none of those from
// the pool.
#include <cuda.h>

#include "tests/preload/session.hpp"

using namespace preload;

int main(int argc, char** argv) {
  if (argc < 4) return 2;
  const bool linked = std::strcmp(argv[1], "linked") == 0;
  // "linked": what a program bound by the loader would call, which is the first in the search
  // order.
  void* driver = open_driver(RTLD_NOW | (linked ? RTLD_GLOBAL : RTLD_LOCAL));
  const Cuda cuda(linked ? RTLD_DEFAULT : driver);
  cuda.start();
  CHECK(cuda.round_trip(4096));
  CHECK(cuda.round_trip(5 << 20));
  const auto plain = reinterpret_cast<const char* (*)()>(dlsym(RTLD_DEFAULT, "plain_name"));
  CHECK(plain != nullptr);
  if (plain != nullptr) CHECK(std::strcmp(plain(), argv[2]) == 0);
  for (const char* letter = argv[2]; *letter != '\0'; ++letter) {
    char name[32];
    std::snprintf(name, sizeof name, "wrapper_allocs_%c", *letter);
    const auto allocs = look_up<int (*)()>(RTLD_DEFAULT, name);
    std::snprintf(name, sizeof name, "wrapper_frees_%c", *letter);
    const auto frees = look_up<int (*)()>(RTLD_DEFAULT, name);
    std::fprintf(stderr, "wrapper %c: %d allocations, %d frees\n", *letter, allocs(), frees());
    CHECK(allocs() == frees());
    if (letter == argv[2]) CHECK(allocs() == std::atoi(argv[3]));
  }
  return verdict();
}
