// CUDA before main and after it: a constructor, a static object's destructor, exit handlers
// registered before and after cuInit. The codes are printed; bare and under flexlom they must be
// the same.
#include <cuda.h>
#include <unistd.h>

#include "tests/preload/session.hpp"

using namespace preload;

namespace {

Cuda* cuda = nullptr;
CUdeviceptr kept[8];

void try_all(const char* when, int slot) {
  if (cuda == nullptr) return;
  CUdeviceptr p = 0;
  size_t available = 0, total = 0;
  const int alloc = cuda->cuMemAlloc_v2_(&p, 5000);
  const int large = cuda->cuMemAlloc_v2_(&p, 9 << 20);
  const int memset = alloc == 0 ? cuda->cuMemsetD8_v2_(kept[slot], 1, 100) : -1;
  const int release = cuda->cuMemFree_v2_(kept[slot]);
  const int info = cuda->cuMemGetInfo_v2_(&available, &total);
  std::printf("%s: alloc %d large %d memset %d free %d info %d\n", when, alloc, large, memset,
              release, info);
  std::fflush(stdout);
}

void registered_before() { try_all("handler registered before cuInit", 0); }
void registered_after() { try_all("handler registered after cuInit", 1); }

struct Static {
  ~Static() { try_all("static destructor", 2); }
} destroyed_after_main;

__attribute__((constructor)) void before_main() {
  std::atexit(&registered_before);
  cuda = new Cuda(open_driver());
  cuda->start();
  for (CUdeviceptr& p : kept) CHECK_OK(cuda->cuMemAlloc_v2_(&p, 1000));
  try_all("constructor", 3);
}

__attribute__((destructor)) void after_all() { try_all("destructor of the program", 4); }

}  // namespace

int main() {
  std::atexit(&registered_after);
  try_all("main", 5);
  return verdict();
}
