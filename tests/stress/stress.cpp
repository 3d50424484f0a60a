// Threads that allocate, fill, check and free memory at random, over the device's budget.
//
//   stress [--seed N] [--threads N] [--seconds S] [--iterations N] [--mib-per-thread N]
//          [--device-mib N] [--must-spill] [--no-captures] [--no-contexts] [--moves]
//
// The seed is printed; the same seed makes the same requests, though not the same interleaving.
// --device-mib: fails when the simulated device ever held more. Exit 0: every word was right.
#include <cinttypes>
#include <cstring>
#include <string_view>
#include <thread>

#include <time.h>
#include <unistd.h>

#include "tests/stress/worker.h"

namespace {

double now_s() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) * 1e-9;
}

[[noreturn]] void usage() {
  std::fprintf(stderr,
               "usage: stress [--seed N] [--threads N] [--seconds S] [--iterations N] [--mib-per-thread N]\n"
               "              [--device-mib N] [--must-spill] [--no-captures] [--no-contexts] [--moves]\n");
  std::exit(2);
}

struct Limits {
  uint64_t device_bytes = 0;
  bool must_spill = false;
};

stress::Options parse(int argc, char** argv, Limits* limits) {
  stress::Options options;
  options.seed = static_cast<uint64_t>(now_s() * 1e6) ^ static_cast<uint64_t>(getpid());
  for (int i = 1; i < argc; ++i) {
    const std::string_view name = argv[i];
    if (name == "--must-spill") limits->must_spill = true;
    else if (name == "--no-captures") options.captures = false;
    else if (name == "--no-contexts") options.contexts = false;
    else if (name == "--moves") options.moves = true;
    else if (i + 1 == argc) usage();
    else if (const double value = std::strtod(argv[++i], nullptr); name == "--seconds") options.seconds = value;
    else if (name == "--seed") options.seed = std::strtoull(argv[i], nullptr, 0);
    else if (name == "--threads") options.threads = static_cast<unsigned>(value);
    else if (name == "--iterations") options.iterations = static_cast<uint64_t>(value);
    else if (name == "--mib-per-thread") options.bytes_per_thread = static_cast<size_t>(value) << 20;
    else if (name == "--device-mib") limits->device_bytes = static_cast<uint64_t>(value) << 20;
    else usage();
  }
  return options;
}

}  // namespace

int main(int argc, char** argv) {
  Limits limits;
  stress::Shared shared(parse(argc, argv, &limits));
  std::printf("seed %" PRIu64 ", %u threads\n", shared.options.seed, shared.options.threads);
  std::fflush(stdout);

  if (const CUresult r = CU(cuInit)(0); r != CUDA_SUCCESS) {
    std::fprintf(stderr, "skipped: cuInit failed: error %d\n", static_cast<int>(r));
    return 77;
  }
  MUST(cuDevicePrimaryCtxRetain, &shared.context, 0);
  MUST(cuCtxSetCurrent, shared.context);
  MUST(cuDeviceGetDefaultMemPool, &shared.pool, 0);
  shared.kernels.load();

  std::vector<std::thread> threads;
  for (unsigned i = 0; i < shared.options.threads; ++i) {
    threads.emplace_back([&shared, i] { stress::Worker(shared, i).run(); });
  }
  if (shared.options.iterations == ~uint64_t{0}) {
    for (const double end = now_s() + shared.options.seconds; now_s() < end;) usleep(20'000);
    shared.stop = true;
  }
  for (std::thread& t : threads) t.join();
  for (const stress::Block& block : shared.mail) MUST(cuMemFree, block.address);
  MUST(cuCtxSynchronize);
  MUST(cuMemPoolTrimTo, shared.pool, 0);

  std::printf("iterations %" PRIu64 ", allocations %" PRIu64 ", refused %" PRIu64 ", checks %" PRIu64
              ", captures %" PRIu64 ", contexts %" PRIu64 "\n",
              shared.iterations.load(), shared.allocated.load(), shared.refused.load(), shared.checks.load(),
              shared.captures.load(), shared.contexts.load());
  std::printf("asked peak %" PRIu64 " MiB", shared.asked_peak_bytes.load() >> 20);
  bool kept = true;
  if (stress::is_simulated()) {
    const uint64_t peak = SIM(simcuda_peak_device_bytes)(0);
    std::printf(", device peak %.1f MiB, host peak seen %" PRIu64 " MiB, device now %.1f MiB",
                static_cast<double>(peak) / 1048576, shared.host_peak_bytes.load() >> 20,
                static_cast<double>(SIM(simcuda_device_bytes)(0)) / 1048576);
    if (limits.device_bytes > 0 && peak > limits.device_bytes) {
      std::printf("\nFAILED: the device held %" PRIu64 " bytes, allowed are %" PRIu64, peak, limits.device_bytes);
      kept = false;
    }
  }
  std::printf(", wrong %" PRIu64 "\n", shared.wrong.load());
  if (limits.must_spill && shared.host_peak_bytes.load() == 0) {
    std::printf("FAILED: nothing was spilled\n");
    kept = false;
  }
  return shared.wrong.load() == 0 && kept ? 0 : 1;
}
