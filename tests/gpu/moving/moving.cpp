#include "tests/gpu/moving/moving.h"

#include "kernels/testing.h"

namespace moving {

void* entry(const char* symbol) {
  static void* const library = [] {
    void* const handle = dlopen("libcuda.so.1", RTLD_NOW);
    if (handle == nullptr) {
      std::fprintf(stderr, "skipped: cannot load the driver: %s\n", dlerror());
      std::exit(77);
    }
    return handle;
  }();
  void* const address = dlsym(library, symbol);
  if (address == nullptr) {
    std::fprintf(stderr, "skipped: the driver lacks %s\n", symbol);
    std::exit(77);
  }
  return address;
}

// Without destructors: other threads may be in the middle of anything.
void fail(const char* what, CUresult result) {
  const char* name = nullptr;
  CU(cuGetErrorName)(result, &name);
  std::fprintf(stderr, "FAILED: %s: %s (%d)\n", what, name != nullptr ? name : "unknown error",
               static_cast<int>(result));
  std::_Exit(1);
}

void wrong(const char* what) {
  std::fprintf(stderr, "FAILED: %s\n", what);
  std::_Exit(1);
}

Program::Program(uint64_t bytes, int ordinal, CUcontext own) : context(own), total_bytes(bytes) {
  if (const CUresult error = CU(cuInit)(0); error != CUDA_SUCCESS) {
    std::fprintf(stderr, "skipped: cuInit failed: error %d\n", static_cast<int>(error));
    std::exit(77);
  }
  MUST(cuDeviceGet, &device, ordinal);
  if (own == nullptr) MUST(cuDevicePrimaryCtxRetain, &context, device);
  MUST(cuCtxSetCurrent, context);
  CUmodule module = nullptr;
  MUST(cuModuleLoadData, &module, flexlom_testing_fatbin);
  const struct {
    CUfunction* function;
    const char* name;
  } all[] = {{&kernels.fill, "flex_fill"},
             {&kernels.add, "flex_add"},
             {&kernels.sum, "flex_sum"},
             {&kernels.spin_until, "flex_spin_until"},
             {&kernels.spin_ns, "flex_spin_ns"},
             {&kernels.chase, "flex_chase"},
             {&kernels.reread, "flex_reread"},
             {&kernels.gather, "flex_gather"},
             {&kernels.scatter_add, "flex_scatter_add"},
             {&kernels.visit, "flex_visit"},
             {&kernels.serve, "flex_serve"},
             {&kernels.grid_steps, "flex_grid_steps"}};
  for (const auto& kernel : all) {
    MUST(cuModuleGetFunction, kernel.function, module, kernel.name);
    // A kernel that is loaded at its first launch would wait for one that spins: load all now.
    MUST(cuFuncLoad, *kernel.function);
  }
  MUST(cuMemAlloc, &counters_, kCounters * sizeof(uint64_t));
  // Streams that do not wait for the legacy one are used next, and a memset is not over when its
  // call is.
  MUST(cuMemsetD8, counters_, 0, kCounters * sizeof(uint64_t));
  MUST(cuStreamSynchronize, nullptr);
}

void Program::add_blocks(unsigned parts, unsigned count) {
  block_bytes = total_bytes / parts;
  words = block_bytes / sizeof(uint32_t);
  for (unsigned i = 0; i < count; ++i) {
    CUdeviceptr block = 0;
    MUST(cuMemAlloc, &block, block_bytes);
    blocks.push_back(block);
    launch(kernels.fill, nullptr, block, words, static_cast<uint32_t>(blocks.size()));
    MUST(cuStreamSynchronize, nullptr);
  }
}

uint64_t Program::sweep(CUstream stream, size_t first, size_t step) const {
  const CUdeviceptr total = counter();
  for (size_t i = first; i < blocks.size(); i += step) reread(blocks[i], stream, total);
  return value(total, stream);
}

void Program::sweeps(CUstream stream, unsigned count) {
  for (unsigned i = 0; i < count; ++i) mix(sweep(stream));
}

CUdeviceptr Program::counter() const {
  const std::lock_guard lock(mutex_);
  if (used_ == kCounters) wrong("the counters are used up");
  return counters_ + used_++ * sizeof(uint64_t);
}

uint64_t Program::value(CUdeviceptr counter, CUstream stream) const {
  uint64_t result = 0;
  // In this order, because a copy to pageable memory keeps its thread inside the driver.
  MUST(cuStreamSynchronize, stream);
  MUST(cuMemcpyDtoHAsync, &result, counter, sizeof result, stream);
  MUST(cuStreamSynchronize, stream);
  return result;
}

void Program::mix(uint64_t result) {
  for (int i = 0; i < 8; ++i) digest_ = (digest_ ^ (result >> (8 * i) & 0xff)) * 0x100000001b3u;
}

void Program::mix_blocks(CUstream stream) {
  for (const CUdeviceptr block : blocks) {
    const CUdeviceptr total = counter();
    launch(kernels.sum, stream, block, words, total);
    mix(value(total, stream));
  }
}

}  // namespace moving
