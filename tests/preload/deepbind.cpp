// A plugin opened with RTLD_DEEPBIND is bound to the driver itself: its calls pass us by. Nothing
// can be done about that from here, but the two must get along: both sides work, and a pointer of
// one side that the other frees is answered with a code of the driver's.
#include <cuda.h>

#include "tests/preload/session.hpp"

using namespace preload;

int main() {
  const Cuda cuda(open_driver());
  cuda.start();
  void* plugin = dlopen(std::getenv("PRELOAD_PLUGIN"), RTLD_NOW | RTLD_LOCAL | RTLD_DEEPBIND);
  CHECK(plugin != nullptr);
  if (plugin == nullptr) {
    std::fprintf(stderr, "%s\n", dlerror());
    return 1;
  }
  using Alloc = int (*)(CUdeviceptr*, size_t);
  using Free = int (*)(CUdeviceptr);
  const auto plugin_alloc = look_up<Alloc>(plugin, "plugin_alloc");
  const auto plugin_free = look_up<Free>(plugin, "plugin_free");
  const auto plugin_round_trip = look_up<int (*)(size_t)>(plugin, "plugin_round_trip");
  CHECK(plugin_round_trip(1 << 20) == 1);
  CHECK(cuda.round_trip(1 << 20));

  // Freed through the door: not ours, so the driver is asked, and knows it.
  CUdeviceptr theirs = 0;
  CHECK_OK(plugin_alloc(&theirs, 4096));
  CHECK(cuda.cuMemsetD8_v2_(theirs, 1, 4096) == CUDA_SUCCESS);
  CHECK_OK(cuda.cuMemFree_v2_(theirs));

  // Freed past the door: the driver does not know a pool's pointer. It stays allocated, and ours.
  CUdeviceptr ours = 0;
  CHECK_OK(cuda.cuMemAlloc_v2_(&ours, 4096));
  const int code = plugin_free(ours);
  CHECK(under_flexlom() ? code == CUDA_ERROR_INVALID_VALUE : code == CUDA_SUCCESS);
  if (code != CUDA_SUCCESS) CHECK_OK(cuda.cuMemFree_v2_(ours));
  CHECK(cuda.round_trip(1 << 20));
  return verdict();
}
