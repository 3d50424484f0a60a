// What the programs of tests/gpu/moving.cpp share: the driver through dlopen, the kernels, blocks
// of device memory, and the digest of what was computed.
//
// CU(cuMemAlloc)(&p, n) calls the symbol that cuda.h means by that name (cuMemAlloc_v2); MUST ends
// the program when the call fails. Both may be used by any thread.
#pragma once

#include <cuda.h>

#include <dlfcn.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <vector>

namespace moving {

void* entry(const char* symbol);  // never null
[[noreturn]] void fail(const char* what, CUresult result);
[[noreturn]] void wrong(const char* what);

// Expanded first, so that cuda.h's own #define of a name to its current version takes effect.
#define CU_TEXT(symbol) #symbol
#define CU_SYMBOL(symbol)                                                        \
  ([] {                                                                          \
    static const auto cu_entry_ =                                                \
        reinterpret_cast<decltype(&::symbol)>(::moving::entry(CU_TEXT(symbol))); \
    return cu_entry_;                                                            \
  }())
#define CU(name) CU_SYMBOL(name)
#define MUST(name, ...) ::moving::must(CU(name)(__VA_ARGS__), #name)

inline void must(CUresult result, const char* what) {
  if (result != CUDA_SUCCESS) fail(what, result);
}

// The twin of an entry that means the thread's own default stream by stream 0.
template <class Function>
Function twin(Function, const char* symbol) {
  return reinterpret_cast<Function>(entry(symbol));
}

struct Kernels {
  CUfunction fill, add, sum, spin_until, spin_ns, chase, reread, gather, scatter_add, visit, serve,
      grid_steps;
};

struct Shape {
  unsigned blocks = 528, threads = 256;
};

// Every argument must have exactly the type of the kernel's parameter.
template <class... A>
void launch_shaped(Shape shape, CUfunction function, CUstream stream, A... arguments) {
  void* list[] = {static_cast<void*>(&arguments)..., nullptr};
  MUST(cuLaunchKernel, function, shape.blocks, 1, 1, shape.threads, 1, 1, 0, stream, list, nullptr);
}
template <class... A>
void launch(CUfunction function, CUstream stream, A... arguments) {
  launch_shaped({}, function, stream, arguments...);
}

// One program's device, memory and result. Its functions may be called by any thread whose current
// context is `context`, add() and mix() excepted.
class Program {
 public:
  // Its context, the device's primary one or `own`, becomes the current one.
  explicit Program(uint64_t total_bytes, int ordinal = 0, CUcontext own = nullptr);

  CUcontext context = nullptr;
  CUdevice device = 0;
  Kernels kernels{};
  const uint64_t total_bytes;
  uint64_t block_bytes = 0;         // of each of `blocks`
  uint64_t words = 0;               // 32-bit words of a block
  std::vector<CUdeviceptr> blocks;  // filled, each with a pattern of its own

  // Adds blocks of total_bytes / `parts`, waits until they are filled.
  void add_blocks(unsigned parts, unsigned count);

  void reread(CUdeviceptr block, CUstream stream, CUdeviceptr total) const {
    launch(kernels.reread, stream, block, words, kPasses, total);
  }
  // Rereads every `step`-th block from `first` on and waits; the sum of all.
  uint64_t sweep(CUstream stream, size_t first = 0, size_t step = 1) const;
  // So often that where pages lie follows what is used: the first sweeps are measured.
  void sweeps(CUstream stream, unsigned count);

  // A 64-bit word of device memory that is zero; never given back.
  CUdeviceptr counter() const;
  // Waits for the stream, and reads it.
  uint64_t value(CUdeviceptr counter, CUstream stream) const;

  // Takes a result up into the digest, which depends on the order.
  void mix(uint64_t result);
  // Every word of every block.
  void mix_blocks(CUstream stream);
  uint64_t digest() const { return digest_; }

  static constexpr uint32_t kPasses = 3;

 private:
  static constexpr size_t kCounters = 1u << 15;

  CUdeviceptr counters_ = 0;
  mutable std::mutex mutex_;  // guards used_
  mutable size_t used_ = 0;
  uint64_t digest_ = 0xcbf29ce484222325u;
};

// A stream that does not wait for the legacy one, destroyed at the end of its scope.
class Stream {
 public:
  Stream() { MUST(cuStreamCreate, &stream_, CU_STREAM_NON_BLOCKING); }
  ~Stream() { MUST(cuStreamDestroy, stream_); }
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
  operator CUstream() const { return stream_; }
  void wait() const { MUST(cuStreamSynchronize, stream_); }

 private:
  CUstream stream_ = nullptr;
};

// A word that host and device both see. Pinned host memory.
class Flag {
 public:
  Flag() {
    void* memory = nullptr;
    MUST(cuMemHostAlloc, &memory, sizeof(uint32_t), CU_MEMHOSTALLOC_DEVICEMAP);
    word_ = static_cast<uint32_t*>(memory);
    set(0);
    MUST(cuMemHostGetDevicePointer, &address_, memory, 0);
  }
  ~Flag() { MUST(cuMemFreeHost, word_); }
  Flag(const Flag&) = delete;
  Flag& operator=(const Flag&) = delete;
  void set(uint32_t value) { __atomic_store_n(word_, value, __ATOMIC_RELEASE); }
  CUdeviceptr address() const { return address_; }

 private:
  uint32_t* word_ = nullptr;
  CUdeviceptr address_ = 0;
};

// Each computes something in which pages move, and takes what it computed up into the digest.
void pointer_table(Program& program);
void linked_list(Program& program);
void graphs(Program& program);
void persistent(Program& program);
void wait_value(Program& program);
void host_func(Program& program);
void cooperative(Program& program);
void capture_open(Program& program);
void many_streams(Program& program);
void blocking_copies(Program& program);
void contexts(Program& program);
void peers(Program& program);  // of two devices; ends the process with 77 where there is one

}  // namespace moving
