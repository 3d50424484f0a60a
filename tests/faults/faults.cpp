// A program that goes through everything the pool does, while one driver call fails once.
//
//   faults CALL N CODE
//
// The Nth entry of CALL from here on fails with CODE. Exit 0: it was hit, every word was right, every
// answer was a CUDA answer, nothing leaked and the budget held. Exit 3: CALL was never entered that often.
#include <cinttypes>
#include <cstring>
#include <string>
#include <vector>

#include "tests/stress/driver.h"

using stress::launch;

namespace {

constexpr uint64_t kLimit = 16u << 20;  // as FLEXLOM_DEVICE_LIMIT of tests/faults/run
constexpr unsigned kVerdicts = 512;

struct Scenario {
  CUcontext context = nullptr;
  stress::Kernels kernels;
  CUstream first = nullptr, second = nullptr;
  uint64_t* verdicts = nullptr;  // pinned host memory: none of the pool's
  unsigned checks = 0;
  unsigned refused = 0;
  int wrong = 0;

  struct Block {
    CUdeviceptr address;
    size_t bytes;
    uint32_t seed;
  };
  std::vector<Block> held;

  void open();
  void close();
  void round();
  // An answer that a program understands: what the pool cannot do is out of memory or the driver's error.
  bool allowed(CUresult r, const char* what) {
    if (r == CUDA_SUCCESS) return true;
    const char* name = nullptr;
    if (CU(cuGetErrorName)(r, &name) != CUDA_SUCCESS) {
      std::fprintf(stderr, "FAILED: %s answered %d, which is no CUDA error\n", what, static_cast<int>(r));
      ++wrong;
    }
    ++refused;
    return false;
  }
  bool allocate(size_t bytes, CUstream stream);
  void check(const Block& block, CUstream stream);
  void free_last(CUstream stream);
  void settle();
};

void Scenario::open() {
  MUST(cuCtxCreate, &context, nullptr, 0, 0);
  kernels.load();
  MUST(cuStreamCreate, &first, CU_STREAM_NON_BLOCKING);
  MUST(cuStreamCreate, &second, CU_STREAM_NON_BLOCKING);
  void* pinned = nullptr;
  MUST(cuMemHostAlloc, &pinned, kVerdicts * sizeof(uint64_t), 0);
  verdicts = static_cast<uint64_t*>(pinned);
  std::memset(verdicts, 0, kVerdicts * sizeof(uint64_t));
}

bool Scenario::allocate(size_t bytes, CUstream stream) {
  Block block{0, bytes, static_cast<uint32_t>(bytes * 31 + checks)};
  const bool ordered = stream != nullptr;
  const CUresult r = ordered ? CU(cuMemAllocAsync)(&block.address, bytes, stream) : CU(cuMemAlloc)(&block.address, bytes);
  if (!allowed(r, ordered ? "cuMemAllocAsync" : "cuMemAlloc")) return false;
  stress::must(launch(kernels.fill, ordered ? stream : first, block.address, uint64_t{bytes / 4}, block.seed), "fill");
  held.push_back(block);
  return true;
}

void Scenario::check(const Block& block, CUstream stream) {
  if (checks == kVerdicts) settle();
  stress::must(launch(kernels.check, stream, block.address, uint64_t{block.bytes / 4}, block.seed,
                      reinterpret_cast<CUdeviceptr>(verdicts + checks)), "check");
  ++checks;
}

void Scenario::free_last(CUstream stream) {
  const Block block = held.back();
  held.pop_back();
  const CUresult r = stream != nullptr ? CU(cuMemFreeAsync)(block.address, stream) : CU(cuMemFree)(block.address);
  // A free that is refused would be a leak the program cannot repair.
  stress::must(r, "free");
}

void Scenario::settle() {
  MUST(cuStreamSynchronize, first);
  MUST(cuStreamSynchronize, second);
  for (unsigned i = 0; i < checks; ++i) {
    if (verdicts[i] == 0) continue;
    std::fprintf(stderr, "FAILED: check %u found %" PRIu64 " wrong words\n", i, verdicts[i]);
    ++wrong;
  }
  std::memset(verdicts, 0, kVerdicts * sizeof(uint64_t));
  checks = 0;
}

void Scenario::round() {
  // Growth on the device, then on the host.
  for (const size_t bytes : {size_t{700}, size_t{300'000}, size_t{2} << 20, size_t{4} << 20, size_t{8} << 20,
                             size_t{6} << 20, size_t{3} << 20}) {
    allocate(bytes, nullptr);
  }
  for (const Block& block : held) check(block, first);
  // Freed behind work that still reads it, and asked for again at once, for another stream.
  if (!held.empty()) {
    const Block last = held.back();
    stress::must(launch(kernels.spin_ns, first, uint64_t{3'000'000}), "spin");
    check(last, first);
    free_last(nullptr);
    if (allocate(last.bytes, second)) {
      check(held.back(), second);
      free_last(second);
      if (allocate(last.bytes, second)) check(held.back(), second), free_last(second);
    }
  }
  while (!held.empty()) free_last(nullptr);
  settle();
  // Sizes that need the room of others, and memory given back.
  if (allocate(size_t{12} << 20, nullptr)) check(held.back(), first), free_last(nullptr);
  CUmemoryPool pool = nullptr;
  MUST(cuDeviceGetDefaultMemPool, &pool, 0);
  allowed(CU(cuMemPoolTrimTo)(pool, 0), "cuMemPoolTrimTo");
  for (int i = 0; i < 4; ++i) {
    if (allocate(size_t{3} << 20, i % 2 == 0 ? nullptr : second)) check(held.back(), i % 2 == 0 ? first : second);
  }
  // What the program asks while memory is held.
  size_t free_bytes = 0, total_bytes = 0;
  allowed(CU(cuMemGetInfo)(&free_bytes, &total_bytes), "cuMemGetInfo");
  for (const Block& block : held) {
    CUdeviceptr base = 0;
    size_t bytes = 0;
    if (allowed(CU(cuMemGetAddressRange)(&base, &bytes, block.address + 1), "cuMemGetAddressRange") &&
        (base != block.address || bytes != block.bytes)) {
      std::fprintf(stderr, "FAILED: wrong range of %llx\n", block.address);
      ++wrong;
    }
  }
  settle();
  while (!held.empty()) free_last(nullptr);
  MUST(cuCtxSynchronize);
  allowed(CU(cuMemPoolTrimTo)(pool, 0), "cuMemPoolTrimTo");
}

void Scenario::close() {
  MUST(cuMemFreeHost, verdicts);
  MUST(cuStreamDestroy, first);
  MUST(cuStreamDestroy, second);
  MUST(cuCtxDestroy, context);
}

int fail(const char* what, uint64_t found, uint64_t expected) {
  std::fprintf(stderr, "FAILED: %s: %" PRIu64 ", not %" PRIu64 "\n", what, found, expected);
  return 1;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) {
    std::fprintf(stderr, "usage: faults CALL N CODE\n");
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
  scenario.round();
  scenario.round();
  const uint64_t hit = SIM(simcuda_counters)((call + "!fault").c_str());
  if (SIM(simcuda_fault)("") != 0) return 2;
  if (hit == 0 && scenario.wrong == 0) return 3;
  const unsigned refused = scenario.refused;

  // Without the fault everything works again.
  scenario.refused = 0;
  scenario.round();
  scenario.close();
  int status = scenario.wrong == 0 ? 0 : 1;
  if (scenario.refused != 0) status = fail("calls refused after the fault was over", scenario.refused, 0);
  const uint64_t device = SIM(simcuda_device_bytes)(0), host = SIM(simcuda_host_bytes)();
  // Memory that the driver did not take back when it was told to is lost; nothing else may be.
  const uint64_t lost = call == "cuMemUnmap" || call == "cuMemRelease" ? 8u << 20 : 0;
  // The fingerprints of pages that moved keep a page for their scratch.
  const uint64_t scratch = 2u << 20;
  if (device > lost + scratch) status = fail("bytes left on the device", device, lost + scratch);
  const uint64_t peak = SIM(simcuda_peak_device_bytes)(0);
  // Without a pool, for a moment or for good, the driver serves the program and there is no budget to keep.
  const bool opens_pool = call == "cuMemGetInfo" || call == "cuDeviceGetAttribute" || call == "cuMemAddressReserve";
  if (peak > kLimit && !opens_pool) status = fail("most bytes on the device", peak, kLimit);
  // tests/faults/run compares these with the pool's own books: what they do not know of has leaked.
  std::printf("driver: device_held=%" PRIu64 " host_held=%" PRIu64 "\n", device, host);
  std::printf("hit %" PRIu64 ", %u calls refused, peak %" PRIu64 " MiB\n", hit, refused, peak >> 20);
  return status;
}
