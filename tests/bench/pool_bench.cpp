// Costs of memory calls and launches as a program sees them, on whatever driver answers dlopen.
// Run it bare and under flexlom; tests/bench/run does both, interleaved, and compares.
//
//   pool_bench WHAT...
//     pair      cuMemAlloc + cuMemFree, no work between                       per size
//     work      the same with one kernel launched between                     per size
//     async     cuMemAllocAsync + cuMemFreeAsync on one stream, pool kept     per size
//     threads   pairs per second of 16 threads, mixed sizes
//     growth    first use of 1 GiB
//     launch    cuLaunchKernel of an empty kernel, and the same call past any interposer
//     launch_cold  the same, each call timed by itself after other code and data went through the
//               caches
//     launch_short  cuLaunchKernel of a kernel that names two allocations on the device while
//               others had to go to the host (FLEXLOM_DEVICE_LIMIT at most 256M), and past any
//               interposer
//     recorded  alloc + free of 4 KiB from 20 calls deep, slow enough for a log to be written
//     memory    host memory that 100,000 live allocations take
//
// Prints one JSON object per result. Nothing is subtracted: the cost of reading the clock is in
// every number. A sample of pair and async is the mean of 8 pairs in a row; one of work is a single
// pair.
#include "kernels/testing.h"
#include "tests/bench/clock.h"
#include "tests/bench/cold.h"
#include "tests/bench/elf_symbol.h"
#include "tests/gpu/driver.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

namespace {

constexpr std::size_t kKiB = 1024, kMiB = 1024 * kKiB, kGiB = 1024 * kMiB;
constexpr std::size_t kSizes[] = {256,       4 * kKiB,  64 * kKiB,  kMiB, 2 * kMiB,
                                  16 * kMiB, 64 * kMiB, 256 * kMiB, kGiB};

struct Bench {
  driver::Driver cuda = driver::Driver::load();
  CUdevice device = cuda.use_first_device();
  CUcontext context = nullptr;
  CUfunction empty = nullptr, copy = nullptr;
  CUstream stream = nullptr;
  bench::Clock clock;

  Bench() {
    CUmodule module = nullptr;
    cuda.check(cuda.cuCtxGetCurrent_(&context), "cuCtxGetCurrent");
    cuda.check(cuda.cuModuleLoadData_(&module, flexlom_testing_fatbin), "cuModuleLoadData");
    empty = cuda.kernel(module, "flex_empty");
    copy = cuda.kernel(module, "flex_copy");
    cuda.check(cuda.cuStreamCreate_(&stream, CU_STREAM_NON_BLOCKING), "cuStreamCreate");
    for (int i = 0; i < 100; ++i) cuda.launch(empty, 1, 1, stream);
    cuda.check(cuda.cuCtxSynchronize_(), "cuCtxSynchronize");
  }

  void report(const char* what, std::size_t size, std::vector<double> samples_ns) const {
    std::sort(samples_ns.begin(), samples_ns.end());
    auto at = [&](double q) {
      return samples_ns[static_cast<std::size_t>(q * static_cast<double>(samples_ns.size() - 1))];
    };
    std::printf(
        "{\"what\": \"%s\", \"size\": %zu, \"p50_ns\": %.1f, \"p90_ns\": %.1f, \"p99_ns\": %.1f, "
        "\"samples\": %zu}\n",
        what, size, at(0.5), at(0.9), at(0.99), samples_ns.size());
  }

  // Calls `sample` (ns of one repetition) until there are enough samples or enough time is gone.
  template <typename Sample>
  void repeat(const char* what, std::size_t size, Sample sample) const {
    std::vector<double> samples;
    for (int i = 0; i < 20; ++i) sample();
    const double end = clock.now_ns() + 200e6;
    while (samples.size() < 5000 && (samples.size() < 20 || clock.now_ns() < end))
      samples.push_back(sample());
    report(what, size, std::move(samples));
  }

  // Pairs in a row, so that reading the clock (about 30 ns) does not weigh on a pair of 100 ns.
  static constexpr int kInARow = 8;

  double pair(std::size_t size) const {
    CUresult result = CUDA_SUCCESS;
    const double begin = clock.now_ns();
    for (int i = 0; i < kInARow && result == CUDA_SUCCESS; ++i) {
      CUdeviceptr block = 0;
      result = cuda.cuMemAlloc_(&block, size);
      if (result == CUDA_SUCCESS) result = cuda.cuMemFree_(block);
    }
    const double ns = (clock.now_ns() - begin) / kInARow;
    cuda.check(result, "cuMemAlloc and cuMemFree");
    return ns;
  }

  double pair_with_work(std::size_t size, int repetition) const {
    CUdeviceptr block = 0;
    const double begin = clock.now_ns();
    CUresult result = cuda.cuMemAlloc_(&block, size);
    const double allocated = clock.now_ns();
    cuda.check(result, "cuMemAlloc");
    cuda.launch(empty, 1, 1, stream);
    const double launched = clock.now_ns();
    result = cuda.cuMemFree_(block);
    const double end = clock.now_ns();
    cuda.check(result, "cuMemFree");
    // Not timed. Keeps the launch queue from filling, which would measure the queue.
    if (repetition % 64 == 0) cuda.check(cuda.cuStreamSynchronize_(stream), "cuStreamSynchronize");
    return (allocated - begin) + (end - launched);
  }

  double async_pair(std::size_t size) const {
    CUresult result = CUDA_SUCCESS;
    const double begin = clock.now_ns();
    for (int i = 0; i < kInARow && result == CUDA_SUCCESS; ++i) {
      CUdeviceptr block = 0;
      result = cuda.cuMemAllocAsync_(&block, size, stream);
      if (result == CUDA_SUCCESS) result = cuda.cuMemFreeAsync_(block, stream);
    }
    const double ns = (clock.now_ns() - begin) / kInARow;
    cuda.check(result, "cuMemAllocAsync and cuMemFreeAsync");
    return ns;
  }

  void pairs() const {
    for (std::size_t size : kSizes) repeat("pair", size, [&] { return pair(size); });
  }

  void work() const {
    for (std::size_t size : kSizes) {
      int repetition = 0;
      repeat("work", size, [&] { return pair_with_work(size, repetition++); });
    }
  }

  // The driver's own pool at its best: it keeps all memory that it ever had.
  void async() const {
    CUmemoryPool pool = nullptr;
    cuuint64_t keep = ~cuuint64_t{0};
    cuda.check(cuda.cuDeviceGetDefaultMemPool_(&pool, device), "cuDeviceGetDefaultMemPool");
    cuda.check(cuda.cuMemPoolSetAttribute_(pool, CU_MEMPOOL_ATTR_RELEASE_THRESHOLD, &keep),
               "cuMemPoolSetAttribute");
    for (std::size_t size : kSizes) repeat("async", size, [&] { return async_pair(size); });
  }

  // Each thread holds four blocks and replaces one at a time by one of another size.
  void threads() const {
    constexpr unsigned kThreads = 16;
    static constexpr std::size_t kMixed[] = {256,       kKiB, 4 * kKiB, 16 * kKiB,
                                             64 * kKiB, kMiB, 2 * kMiB, 4 * kMiB};
    std::atomic<bool> go{false}, stop{false};
    std::atomic<std::uint64_t> pairs_done{0};
    std::vector<std::thread> crew;
    for (unsigned id = 0; id < kThreads; ++id)
      crew.emplace_back([&, id] {
        cuda.check(cuda.cuCtxSetCurrent_(context), "cuCtxSetCurrent");
        std::uint32_t state = 0x9E3779B9u * (id + 1);
        CUdeviceptr held[4] = {};
        std::uint64_t done = 0;
        while (!go.load(std::memory_order_acquire)) std::this_thread::yield();
        for (; !stop.load(std::memory_order_relaxed); ++done) {
          state ^= state << 13, state ^= state >> 17, state ^= state << 5;
          CUdeviceptr& slot = held[done % 4];
          if (slot != 0) cuda.check(cuda.cuMemFree_(slot), "cuMemFree");
          cuda.check(cuda.cuMemAlloc_(&slot, kMixed[state % std::size(kMixed)]), "cuMemAlloc");
        }
        for (CUdeviceptr block : held)
          if (block != 0) cuda.check(cuda.cuMemFree_(block), "cuMemFree");
        pairs_done += done;
      });
    const double begin = clock.now_ns();
    go.store(true, std::memory_order_release);
    std::this_thread::sleep_for(std::chrono::seconds(1));
    stop.store(true);
    const double seconds = (clock.now_ns() - begin) * 1e-9;
    for (std::thread& thread : crew) thread.join();
    std::printf("{\"what\": \"threads\", \"threads\": %u, \"pairs_per_s\": %.0f}\n", kThreads,
                static_cast<double>(pairs_done.load()) / seconds);
  }

  __attribute__((noinline)) double deeper(int depth) const {
    const double ns = depth == 0 ? pair(4 * kKiB) : deeper(depth - 1);
    asm volatile("" : : : "memory");  // no tail call: every level is a frame
    return ns;
  }

  void recorded() const {
    std::vector<double> samples;
    for (int i = 0; i < 2000; ++i) {
      samples.push_back(deeper(20));
      std::this_thread::sleep_for(std::chrono::microseconds(100));
    }
    report("recorded", 4 * kKiB, std::move(samples));
  }

  // Blocks that are kept, so that each is memory the program never had.
  void growth() const {
    std::vector<double> samples;
    std::vector<CUdeviceptr> blocks(5);
    for (CUdeviceptr& block : blocks) {
      const double begin = clock.now_ns();
      CUresult result = cuda.cuMemAlloc_(&block, kGiB);
      samples.push_back(clock.now_ns() - begin);
      if (result == CUDA_ERROR_OUT_OF_MEMORY && samples.size() > 1) break;  // a small device
      cuda.check(result, "cuMemAlloc");
    }
    report("growth", kGiB, std::move(samples));
    for (CUdeviceptr block : blocks)
      if (block != 0) cuda.check(cuda.cuMemFree_(block), "cuMemFree");
  }

  // The driver whose launch is the address in the library itself.
  driver::Driver past_interposers() const {
    void* library = dlopen("libcuda.so.1", RTLD_NOW);
    driver::Driver direct = cuda;
    direct.cuLaunchKernel_ =
        reinterpret_cast<decltype(&::cuLaunchKernel)>(bench::own_symbol(library, "cuLaunchKernel"));
    if (direct.cuLaunchKernel_ == nullptr) driver::Driver::skip("no own symbol", "cuLaunchKernel");
    return direct;
  }

  void launches_cold() const {
    constexpr int kPairs = 4000, kPending = 16;
    const driver::Driver direct = past_interposers();
    bench::Cold cold;
    std::vector<double> got, own;
    auto once = [&](const driver::Driver& api) {
      cold.chill();
      const double begin = clock.now_ns();
      api.launch(empty, 1, 1, stream);
      return clock.now_ns() - begin;
    };
    for (int i = 0; i < kPairs; ++i) {
      const bool own_first = i % 2 == 0;
      const double first = once(own_first ? direct : cuda);
      const double second = once(own_first ? cuda : direct);
      own.push_back(own_first ? first : second);
      got.push_back(own_first ? second : first);
      if (i % kPending == 0) cuda.check(cuda.cuStreamSynchronize_(stream), "cuStreamSynchronize");
    }
    report("launch_cold", 0, std::move(got));
    report("launch_cold_direct", 0, std::move(own));
  }

  // Batches through the address that the program got alternate with batches through the driver's
  // own, in one process: two processes differ by more than what is measured here.
  template <typename Launch>
  void compare_launches(const char* what, const char* what_direct, Launch launch) const {
    constexpr int kBatch = 100, kRounds = 1000;
    const driver::Driver direct = past_interposers();
    std::vector<double> got, own;
    auto batch = [&](const driver::Driver& api, std::vector<double>& samples) {
      const double begin = clock.now_ns();
      for (int i = 0; i < kBatch; ++i) launch(api);
      samples.push_back((clock.now_ns() - begin) / kBatch);
      cuda.check(cuda.cuStreamSynchronize_(stream), "cuStreamSynchronize");
    };
    for (int i = 0; i < kRounds; ++i) {
      const bool own_first = i % 2 == 0;
      batch(own_first ? direct : cuda, own_first ? own : got);
      batch(own_first ? cuda : direct, own_first ? got : own);
    }
    report(what, 0, std::move(got));
    report(what_direct, 0, std::move(own));
  }

  void launches() const {
    compare_launches("launch", "launch_direct",
                     [&](const driver::Driver& api) { api.launch(empty, 1, 1, stream); });
  }

  void launches_short() const {
    std::vector<CUdeviceptr> blocks(7);
    for (std::size_t i = 0; i < blocks.size(); ++i)  // the last two, small ones, find room
      cuda.check(cuda.cuMemAlloc_(&blocks[i], i < 5 ? 64 * kMiB : 4 * kMiB), "cuMemAlloc");
    const CUdeviceptr from = blocks[5], to = blocks[6];
    compare_launches("launch_short", "launch_short_direct", [&](const driver::Driver& api) {
      api.launch(copy, 1, 1, stream, to, from, std::uint64_t{0});
    });
    for (const CUdeviceptr block : blocks) cuda.check(cuda.cuMemFree_(block), "cuMemFree");
  }

  // Anonymous memory only: on the simulated driver device memory is shared memory of this process.
  static std::size_t anonymous_bytes() {
    std::ifstream status("/proc/self/status");
    for (std::string line; std::getline(status, line);)
      if (line.rfind("RssAnon:", 0) == 0) return std::stoull(line.substr(8)) * kKiB;
    return 0;
  }

  void memory() const {
    constexpr std::size_t kLive = 100000;
    std::vector<CUdeviceptr> blocks(kLive, 1);  // touched before the first reading
    const std::size_t before = anonymous_bytes();
    for (std::size_t i = 0; i < kLive; ++i)
      cuda.check(cuda.cuMemAlloc_(&blocks[i], 256 << (i % 3)), "cuMemAlloc");
    const std::size_t after = anonymous_bytes();
    for (CUdeviceptr block : blocks) cuda.check(cuda.cuMemFree_(block), "cuMemFree");
    std::printf("{\"what\": \"memory\", \"live\": %zu, \"host_bytes\": %zu}\n", kLive,
                after > before ? after - before : 0);
  }
};

}  // namespace

int main(int argc, char** argv) {
  struct {
    const char* name;
    void (Bench::*measure)() const;
  } const kinds[] = {{"pair", &Bench::pairs},
                     {"work", &Bench::work},
                     {"async", &Bench::async},
                     {"threads", &Bench::threads},
                     {"growth", &Bench::growth},
                     {"launch", &Bench::launches},
                     {"launch_cold", &Bench::launches_cold},
                     {"launch_short", &Bench::launches_short},
                     {"recorded", &Bench::recorded},
                     {"memory", &Bench::memory}};
  for (int i = 1; i < argc; ++i)
    if (std::none_of(std::begin(kinds), std::end(kinds),
                     [&](auto& kind) { return std::strcmp(kind.name, argv[i]) == 0; })) {
      std::fprintf(stderr, "pool_bench: unknown measurement '%s'\n", argv[i]);
      return 2;
    }
  if (argc < 2) {
    std::fprintf(stderr,
                 "usage: pool_bench pair|work|async|threads|growth|launch|launch_cold|launch_short|"
                 "recorded|memory...\n");
    return 2;
  }
  Bench bench;
  for (int i = 1; i < argc; ++i)
    for (auto& kind : kinds)
      if (std::strcmp(kind.name, argv[i]) == 0) (bench.*kind.measure)();
  return 0;
}
