// A program that uses more memory than the device may hold, so that its pages move all the time,
// while one driver call fails once.
//
//   move_faults CALL N CODE
//
// The Nth entry of CALL, from the first allocation on, fails with CODE. Exit 0: it was hit, the
// program saw no error (but for a launch or an allocation of its own that met the failing call
// itself), every word was right, and the budget held. Exit 3: CALL was never entered that often.
#include <cinttypes>
#include <cstring>
#include <string>
#include <vector>

#include "tests/stress/driver.h"

using stress::launch;

namespace {

// FLEXLOM_DEVICE_LIMIT of tests/faults/run; and what the fingerprints keep for their scratch.
constexpr uint64_t kLimit = 24u << 20, kScratch = 2u << 20;
constexpr uint64_t kBytes = 6u << 20;
constexpr unsigned kBlocks = 7, kVerdicts = 256;

struct Scenario {
  struct Block {
    CUdeviceptr address;
    uint32_t seed;
  };

  CUcontext context = nullptr;
  stress::Kernels kernels;
  CUstream stream = nullptr;
  uint64_t* verdicts = nullptr;  // pinned host memory: none of the pool's
  unsigned checks = 0;
  unsigned launches_failed = 0, allocations_failed = 0;
  int wrong = 0;
  std::vector<Block> held;

  template <class... A>
  void start(CUfunction function, A... arguments) {
    if (launch(function, stream, arguments...) == CUDA_SUCCESS) return;
    ++launches_failed;
    stress::must(launch(function, stream, arguments...), "a launch that failed once");
  }
  void allocate(Block& block) {
    if (CU(cuMemAlloc)(&block.address, kBytes) == CUDA_SUCCESS) return;
    ++allocations_failed;
    MUST(cuMemAlloc, &block.address, kBytes);
  }
  void open() {
    MUST(cuCtxCreate, &context, nullptr, 0, 0);
    kernels.load();
    MUST(cuStreamCreate, &stream, CU_STREAM_NON_BLOCKING);
    void* pinned = nullptr;
    MUST(cuMemHostAlloc, &pinned, kVerdicts * sizeof(uint64_t), 0);
    verdicts = static_cast<uint64_t*>(pinned);
    std::memset(verdicts, 0, kVerdicts * sizeof(uint64_t));
    // Stream-ordered memory once: from now on trimming the device's memory pool trims ours.
    CUdeviceptr ordered = 0;
    MUST(cuMemAllocAsync, &ordered, 512, stream);
    MUST(cuMemFreeAsync, ordered, stream);
  }
  void allocate_all() {
    for (uint32_t i = 0; i < kBlocks; ++i) {
      held.push_back({0, i});
      allocate(held.back());
      fill(held.back(), i);
    }
    settle();
  }
  void fill(Block& block, uint32_t seed) {
    block.seed = seed;
    start(kernels.fill, block.address, kBytes / 4, seed);
  }
  void settle() {
    MUST(cuStreamSynchronize, stream);
    for (unsigned i = 0; i < checks; ++i) {
      if (verdicts[i] == 0) continue;
      std::fprintf(stderr, "FAILED: check %u found %" PRIu64 " wrong words\n", i, verdicts[i]);
      ++wrong;
    }
    std::memset(verdicts, 0, kVerdicts * sizeof(uint64_t));
    checks = 0;
  }
  // Each block is read twice, every third is then written: pages leave unchanged and changed.
  void pass(uint32_t round) {
    for (uint32_t i = 0; i < kBlocks; ++i) {
      for (int twice = 0; twice < 2; ++twice) {
        start(kernels.check, held[i].address, kBytes / 4, held[i].seed,
              reinterpret_cast<CUdeviceptr>(verdicts + checks++));
      }
      if ((i + round) % 3 == 0) fill(held[i], round * kBlocks + i);
      MUST(cuStreamSynchronize, stream);
    }
    settle();
  }
  // The device full of pages that have not been used for long: an allocation pushes some of them
  // out.
  void exchange() {
    MUST(cuMemFree, held.front().address);
    allocate(held.front());
    fill(held.front(), 99);
    settle();
  }
  void close() {
    for (const Block& block : held) MUST(cuMemFree, block.address);
    MUST(cuCtxSynchronize);
    CUmemoryPool pool = nullptr;
    MUST(cuDeviceGetDefaultMemPool, &pool, 0);
    MUST(cuMemPoolTrimTo, pool, 0);
    MUST(cuMemFreeHost, verdicts);
    MUST(cuStreamDestroy, stream);
    MUST(cuCtxDestroy, context);
  }
};

int fail(const char* what, uint64_t found, uint64_t expected) {
  std::fprintf(stderr, "FAILED: %s: %" PRIu64 ", not %" PRIu64 "\n", what, found, expected);
  return 1;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) {
    std::fprintf(stderr, "usage: move_faults CALL N CODE\n");
    return 2;
  }
  if (!stress::is_simulated()) {
    std::fprintf(stderr, "skipped: only the simulated driver can be made to fail\n");
    return 77;
  }
  const std::string call = argv[1], rule = call + ":n=" + argv[2] + ":err=" + argv[3];
  MUST(cuInit, 0);
  CUcontext primary = nullptr;
  MUST(cuDevicePrimaryCtxRetain, &primary, 0);  // keeps the device open between the contexts
  Scenario scenario;
  scenario.open();
  if (SIM(simcuda_fault)(rule.c_str()) != 0) {
    std::fprintf(stderr, "the rule %s is not understood\n", rule.c_str());
    return 2;
  }
  scenario.allocate_all();
  for (uint32_t round = 0; round < 3; ++round) scenario.pass(round);
  scenario.exchange();
  scenario.pass(3);
  const uint64_t hit = SIM(simcuda_counters)((call + "!fault").c_str());
  if (SIM(simcuda_fault)("") != 0) return 2;
  if (hit == 0 && scenario.wrong == 0) return 3;
  for (uint32_t round = 4; round < 6; ++round) scenario.pass(round);
  scenario.close();

  int status = scenario.wrong == 0 ? 0 : 1;
  if (scenario.launches_failed > (call == "cuLaunchKernel" ? 1u : 0u))
    status = fail("launches of the program that failed", scenario.launches_failed, 0);
  const bool backs_memory = call == "cuMemCreate" || call == "cuMemMap" || call == "cuMemSetAccess";
  if (scenario.allocations_failed > (backs_memory ? 1u : 0u))
    status = fail("allocations that failed", scenario.allocations_failed, 0);
  const uint64_t device = SIM(simcuda_device_bytes)(0), host = SIM(simcuda_host_bytes)();
  // Memory that the driver did not take back when it was told to is lost; nothing else may be.
  const uint64_t lost = call == "cuMemUnmap" || call == "cuMemRelease" ? 4u << 20 : 0;
  if (device > kScratch + lost) status = fail("bytes left on the device", device, kScratch + lost);
  const uint64_t peak = SIM(simcuda_peak_device_bytes)(0);
  if (peak > kLimit) status = fail("most bytes on the device", peak, kLimit);
  std::printf("driver: device_held=%" PRIu64 " host_held=%" PRIu64 "\n", device, host);
  return status;
}
