// A program whose malloc and free call the driver, as allocators with a device-side twin do. Our
// own heap use lands in them, from inside the pool. The driver's own heap use is left alone: it may
// hold locks then.
#include <cuda.h>
#include <link.h>
#include <stddef.h>
#include <stdint.h>

#include <atomic>

#include "tests/preload/session.hpp"

extern "C" {
void* __libc_malloc(size_t);
void __libc_free(void*);
}

namespace {

preload::Cuda* cuda = nullptr;
std::atomic<bool> hooked{false};
std::atomic<int> from_malloc{0}, refused{0};
thread_local int depth __attribute__((tls_model("initial-exec"))) = 0;
thread_local CUdeviceptr pending __attribute__((tls_model("initial-exec"))) = 0;
uintptr_t driver_start = 0, driver_end = 0;

void find_driver() {
  dl_iterate_phdr(
      [](dl_phdr_info* info, size_t, void*) {
        if (std::strstr(info->dlpi_name, "libcuda.so") == nullptr) return 0;
        driver_start = info->dlpi_addr;
        const auto& last = info->dlpi_phdr[info->dlpi_phnum - 1];
        for (const auto* segment = info->dlpi_phdr; segment <= &last; ++segment)
          if (segment->p_type == PT_LOAD)
            driver_end = info->dlpi_addr + segment->p_vaddr + segment->p_memsz;
        return 1;
      },
      nullptr);
}

void use_driver(void* caller) {
  const auto from = reinterpret_cast<uintptr_t>(caller);
  if (!hooked.load(std::memory_order_relaxed) || depth != 0 ||
      (from >= driver_start && from < driver_end))
    return;
  ++depth;
  CUdeviceptr p = 0;
  if (pending != 0) {
    if (cuda->cuMemFree_v2_(pending) != CUDA_SUCCESS) ++refused;
    pending = 0;
  }
  if (cuda->cuMemAlloc_v2_(&p, 3000) == CUDA_SUCCESS) {
    pending = p;
    ++from_malloc;
  } else {
    ++refused;
  }
  --depth;
}

}  // namespace

extern "C" __attribute__((visibility("default"))) void* malloc(size_t n) {
  use_driver(__builtin_return_address(0));
  return __libc_malloc(n);
}
extern "C" __attribute__((visibility("default"))) void free(void* p) {
  use_driver(__builtin_return_address(0));
  __libc_free(p);
}

int main() {
  using namespace preload;
  cuda = new Cuda(open_driver());
  cuda->start();
  CHECK(cuda->round_trip(4096));
  find_driver();
  CHECK(driver_end > driver_start);
  hooked = true;
  CUdeviceptr all[200];
  for (int round = 0; round < 5; ++round) {
    for (int i = 0; i < 200; ++i)
      CHECK_OK(cuda->cuMemAlloc_v2_(&all[i], size_t{1000} + size_t{4000} * i));
    for (int i = 0; i < 200; ++i) CHECK_OK(cuda->cuMemFree_v2_(all[i]));
  }
  std::free(std::malloc(10));
  hooked = false;
  if (pending != 0) CHECK_OK(cuda->cuMemFree_v2_(pending));
  CHECK(from_malloc > 0);
  CHECK(refused == 0);
  // Nothing of it stays behind: all memory can still be had at once.
  CHECK(cuda->round_trip(100 << 20));
  return verdict();
}
