// The hidden command internal-replay: one allocator, in a process of its own, because allocators
// leave their traces in the driver, and flexlom has to be preloaded.
//
//   internal-replay malloc|async|as-recorded|as-recorded-alone DEVICE LOG
//
// "alone": without the allocation of all that is free, which the others make last.
//
// Prints one JSON object. The driver is opened as programs do that do not link it.
#undef __CUDA_API_VERSION_INTERNAL
#include <cuda.h>
#include <dlfcn.h>
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "interpose/tool/commands.h"
#include "interpose/tool/json_builder.h"
#include "interpose/tool/output.h"
#include "interpose/tool/replay_log.h"

namespace flexlom::tool {
namespace {

using Clock = std::chrono::steady_clock;

#define NAME_OF(FUNCTION) NAME_OF_EXPANDED(FUNCTION)
#define NAME_OF_EXPANDED(FUNCTION) #FUNCTION

struct Missing {
  std::string what;
};

struct Driver {
  void* library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_GLOBAL);
#define WANTED(FUNCTION)              \
  decltype(&::FUNCTION) FUNCTION##_ = \
      library == nullptr              \
          ? nullptr                   \
          : reinterpret_cast<decltype(&::FUNCTION)>(dlsym(library, NAME_OF(FUNCTION)))
  WANTED(cuInit);
  WANTED(cuDeviceGet);
  WANTED(cuDevicePrimaryCtxRetain);
  WANTED(cuCtxSetCurrent);
  WANTED(cuCtxSynchronize);
  WANTED(cuStreamCreate);
  WANTED(cuMemGetInfo);
  WANTED(cuMemAlloc);
  WANTED(cuMemFree);
  WANTED(cuMemAllocAsync);
  WANTED(cuMemFreeAsync);
  WANTED(cuDeviceGetDefaultMemPool);
  WANTED(cuMemPoolSetAttribute);
  WANTED(cuMemPoolGetAttribute);
#undef WANTED

  static void check(CUresult r, const char* what) {
    if (r != CUDA_SUCCESS) throw Missing{fmt::format("{}: error {}", what, static_cast<int>(r))};
  }
  uint64_t free_bytes() const {
    size_t free = 0, total = 0;
    check(cuMemGetInfo_(&free, &total), "cuMemGetInfo");
    return free;
  }
};

enum class Way { malloc_, async, as_recorded };

class Replay {
 public:
  Replay(const ReplayTrace& trace, Way way, int device) : trace_(trace), way_(way) {
    if (cuda_.library == nullptr) throw Missing{"no CUDA driver: libcuda.so.1 cannot be loaded"};
    if (cuda_.cuInit_ == nullptr || cuda_.cuMemPoolGetAttribute_ == nullptr)
      throw Missing{"this CUDA driver is too old"};
    Driver::check(cuda_.cuInit_(0), "cuInit");
    Driver::check(cuda_.cuDeviceGet_(&device_, device), "cuDeviceGet");
    CUcontext context = nullptr;
    Driver::check(cuda_.cuDevicePrimaryCtxRetain_(&context, device_), "cuDevicePrimaryCtxRetain");
    Driver::check(cuda_.cuCtxSetCurrent_(context), "cuCtxSetCurrent");
    streams_.resize(trace.streams + size_t{1}, nullptr);
    for (size_t i = 1; i < streams_.size(); ++i)
      Driver::check(cuda_.cuStreamCreate_(&streams_[i], CU_STREAM_NON_BLOCKING), "cuStreamCreate");
    if (way_ == Way::async) keep_all();
    addresses_.resize(trace.blocks, 0);
    sizes_.resize(trace.blocks, 0);
    free_at_start_ = cuda_.free_bytes();
  }

  // Held bytes are asked for at new peaks of what is live, outside the time that counts.
  void run() {
    uint64_t sampled = 0;
    const uint64_t grain = trace_.peak_bytes / 256 + 1;
    auto start = Clock::now();
    for (const ReplayStep& step : trace_.steps) {
      if (step.bytes == 0) {
        free(step);
        continue;
      }
      allocate(step);
      if (live_ < sampled + grain) continue;
      elapsed_ += Clock::now() - start;
      sampled = live_;
      sample();
      start = Clock::now();
    }
    Driver::check(cuda_.cuCtxSynchronize_(), "cuCtxSynchronize");
    elapsed_ += Clock::now() - start;
    sample();
  }

  // What is said to be free must be had in one piece, whatever came before.
  bool all_that_is_free(uint64_t* bytes) {
    *bytes = cuda_.free_bytes() & ~((uint64_t{2} << 20) - 1);
    CUdeviceptr address = 0;
    if (*bytes == 0) return true;
    if (cuda_.cuMemAlloc_(&address, *bytes) != CUDA_SUCCESS) return false;
    return cuda_.cuMemFree_(address) == CUDA_SUCCESS;
  }

  std::string result(bool alone) {
    Json json('{');
    json.number("elapsed_ns",
                static_cast<uint64_t>(
                    std::chrono::duration_cast<std::chrono::nanoseconds>(elapsed_).count()));
    json.number("steps", trace_.steps.size());
    json.number("failures", failures_);
    json.number("peak_live_bytes", peak_live_);
    json.number("peak_held_bytes", way_ == Way::async ? reserved_peak() : peak_held_);
    uint64_t free = 0;
    const bool had = !alone && all_that_is_free(&free);
    json.number("free_bytes", free);
    json.raw("all_free", had ? "true" : "false");
    return json.end();
  }

 private:
  bool in_order(const ReplayStep& step) const {
    return way_ == Way::async || (way_ == Way::as_recorded && step.in_order);
  }

  void allocate(const ReplayStep& step) {
    CUdeviceptr address = 0;
    const CUresult r = in_order(step)
                           ? cuda_.cuMemAllocAsync_(&address, step.bytes, streams_[step.stream])
                           : cuda_.cuMemAlloc_(&address, step.bytes);
    if (r != CUDA_SUCCESS) {
      ++failures_;
      return;
    }
    addresses_[step.block] = address;
    sizes_[step.block] = step.bytes;
    live_ += step.bytes;
    peak_live_ = std::max(peak_live_, live_);
  }

  void free(const ReplayStep& step) {
    CUdeviceptr& address = addresses_[step.block];
    if (address == 0) return;  // it had failed
    const CUresult r = in_order(step) ? cuda_.cuMemFreeAsync_(address, streams_[step.stream])
                                      : cuda_.cuMemFree_(address);
    Driver::check(r, "free");
    address = 0;
    live_ -= sizes_[step.block];
  }

  void sample() {
    const uint64_t free = cuda_.free_bytes();
    if (free_at_start_ > free) peak_held_ = std::max(peak_held_, free_at_start_ - free);
  }

  // As programs do that use this allocator for its speed: nothing goes back to the driver.
  void keep_all() {
    Driver::check(cuda_.cuDeviceGetDefaultMemPool_(&pool_, device_), "cuDeviceGetDefaultMemPool");
    cuuint64_t all = ~cuuint64_t{0};
    Driver::check(cuda_.cuMemPoolSetAttribute_(pool_, CU_MEMPOOL_ATTR_RELEASE_THRESHOLD, &all),
                  "cuMemPoolSetAttribute");
  }
  uint64_t reserved_peak() {
    cuuint64_t high = 0;
    Driver::check(cuda_.cuMemPoolGetAttribute_(pool_, CU_MEMPOOL_ATTR_RESERVED_MEM_HIGH, &high),
                  "cuMemPoolGetAttribute");
    return high;
  }

  const ReplayTrace& trace_;
  const Way way_;
  Driver cuda_;
  CUdevice device_ = 0;
  CUmemoryPool pool_ = nullptr;
  std::vector<CUstream> streams_;
  std::vector<CUdeviceptr> addresses_;
  std::vector<uint64_t> sizes_;
  uint64_t live_ = 0, peak_live_ = 0, peak_held_ = 0, failures_ = 0;
  uint64_t free_at_start_ = 0;
  Clock::duration elapsed_{};
};

}  // namespace

int replay_child_command(Words words) {
  if (words.size() != 3) return exit_usage;
  const std::string_view name = words[0];
  const Way way = name == "async" ? Way::async : name == "malloc" ? Way::malloc_ : Way::as_recorded;
  ReplayTrace trace;
  std::string error;
  if (!read_replay(words[2], -1, &trace, &error)) {
    complain(printable(error));
    return 1;
  }
  try {
    Replay replay(trace, way, std::atoi(words[1]));
    replay.run();
    fmt::print("{}\n", replay.result(name == "as-recorded-alone"));
    return 0;
  } catch (const Missing& missing) {
    complain(missing.what);
    return 1;
  }
}

}  // namespace flexlom::tool
