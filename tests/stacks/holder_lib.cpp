// A library with a static object that owns device memory, which its destructor frees: among the
// last things that happen in a process.
#include <cuda.h>

namespace {

struct Holder {
  CUresult (*release)(CUdeviceptr) = nullptr;
  CUdeviceptr memory = 0;
  ~Holder() {
    if (release != nullptr) release(memory);
  }
} holder;

}  // namespace

extern "C" __attribute__((visibility("default"))) void hold_until_the_end(
    CUdeviceptr memory, CUresult (*release)(CUdeviceptr)) {
  holder.release = release;
  holder.memory = memory;
}
