// Allocators in a library of PyTorch's name, with more asked for than the device has: the one that
// frees its cache and asks again is refused once for that, the stream-ordered one, which does not,
// is never.
#include "tests/preload/session.hpp"

using namespace preload;

int main(int argc, char** argv) {
  const Cuda cuda(open_driver());
  cuda.start();
  void* const library = dlopen(argc > 1 ? argv[1] : "libc10_cuda.so", RTLD_NOW);
  CHECK(library != nullptr);
  if (library == nullptr) return verdict();
  const auto take_all = look_up<int (*)(int, int, int, int*)>(library, "take_all");
  constexpr int kBlocks = 6;  // of 32 MiB
  int refused = 0;
  CHECK(take_all(1, 0, kBlocks, &refused) == kBlocks);
  CHECK(refused == 0);
  if (!under_flexlom()) return verdict();
  CHECK(take_all(0, 1, kBlocks, &refused) == kBlocks);
  CHECK(refused > 0);
  return verdict();
}
