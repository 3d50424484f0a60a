// The fingerprint kernel against the host function, and its speed against plain reading.
//
//   fingerprint_check [--sweep]
//
// On a real GPU it prints one line of JSON: medians in GB/s (10^9) of batches of 16 pages of 64
// MiB, of single pages of 64 MiB, and of a kernel that only reads the same 16 pages. --sweep adds
// the batch with other amounts of work per block. The simulated driver shows correctness only.
#include "kernels/fingerprint.h"
#include "kernels/fingerprint_host.h"
#include "kernels/testing.h"
#include "tests/gpu/driver.h"

#include <algorithm>
#include <chrono>
#include <cinttypes>
#include <cstring>
#include <random>
#include <string>
#include <vector>

using namespace flexlom::kernels;

extern "C" const unsigned char flexlom_reading_fatbin[];  // kernels/reading.cu

// clang-format off
#define EXTRA_FUNCTIONS(X) \
  X(cuMemAllocHost) X(cuMemcpyDtoD) X(cuEventCreate) X(cuEventRecord) X(cuEventSynchronize) \
  X(cuEventElapsedTime)
// clang-format on

namespace {

constexpr uint64_t kMiB = uint64_t{1} << 20, kLargePage = 64 * kMiB;
constexpr unsigned kBatch = 16;
constexpr double kLeastShare = 0.7;  // of the rate of plain reading

struct Extra {
#define X(name) decltype(&::name) name##_ = nullptr;
  EXTRA_FUNCTIONS(X)
#undef X
  Extra() {
    void* library = dlopen("libcuda.so.1", RTLD_NOW);
#define X(name)                                                                       \
  name##_ = reinterpret_cast<decltype(&::name)>(dlsym(library, DRIVER_STRING(name))); \
  if (name##_ == nullptr) driver::Driver::skip("the driver lacks", DRIVER_STRING(name));
    EXTRA_FUNCTIONS(X)
#undef X
  }
};

int passed = 0, failed = 0;

void expect(bool right, const std::string& what) {
  ++(right ? passed : failed);
  if (!right) std::printf("FAILED: %s\n", what.c_str());
}

class Check {
 public:
  Check() : cuda_(driver::Driver::load()) {
    const CUdevice device = cuda_.use_first_device();
    cuda_.check(cuda_.cuDeviceGetName_(name_, sizeof name_, device), "cuDeviceGetName");
    kernel_ = function(flexlom_fingerprint_fatbin, kFingerprintName);
    fill_ = function(flexlom_testing_fatbin, "flex_fill");
    scratch_ = allocate(kScratchBytes);
    cuda_.check(cuda_.cuMemsetD8_(scratch_, 0, kScratchBytes), "cuMemsetD8");
    device_results_ = allocate(kFingerprintMaxPages * sizeof(Fingerprint));
    void* mapped = nullptr;
    cuda_.check(extra_.cuMemAllocHost_(&mapped, kFingerprintMaxPages * sizeof(Fingerprint)),
                "cuMemAllocHost");
    results_ = static_cast<Fingerprint*>(mapped);
  }

  bool simulated() const { return std::strstr(name_, "imulated") != nullptr; }

  void sizes();
  void lists();
  void changes();
  void rates(bool sweep);

 private:
  static constexpr size_t kScratchBytes = kFingerprintMaxPages * sizeof(FingerprintScratch);

  CUfunction function(const void* image, const char* name) const {
    CUmodule module = nullptr;
    cuda_.check(cuda_.cuModuleLoadData_(&module, image), "cuModuleLoadData");
    return cuda_.kernel(module, name);
  }

  CUdeviceptr allocate(uint64_t bytes) const {
    CUdeviceptr p = 0;
    cuda_.check(cuda_.cuMemAlloc_(&p, bytes), "cuMemAlloc");
    return p;
  }

  FingerprintPage page(uint64_t bytes, uint32_t seed) const {
    const CUdeviceptr p = allocate(bytes);
    cuda_.launch(fill_, 256, 256, nullptr, p, bytes / 4, seed);
    return {p, bytes};
  }

  void start(const std::vector<FingerprintPage>& pages, uint64_t results, unsigned blocks) const {
    FingerprintLaunch launch{};
    std::copy(pages.begin(), pages.end(), launch.pages);
    launch.scratch = scratch_;
    launch.results = results;
    launch.count = static_cast<uint32_t>(pages.size());
    void* parameters[] = {&launch};
    cuda_.check(cuda_.cuLaunchKernel_(kernel_, blocks, launch.count, 1, kFingerprintThreads, 1, 1,
                                      0, nullptr, parameters, nullptr),
                "cuLaunchKernel");
  }

  uint64_t mapped_results() const { return reinterpret_cast<uint64_t>(results_); }

  Fingerprint on_device(const FingerprintPage& page) const {
    start({page}, mapped_results(), fingerprint_blocks(page.bytes));
    cuda_.check(cuda_.cuCtxSynchronize_(), "cuCtxSynchronize");
    return results_[0];
  }

  Fingerprint on_host(const FingerprintPage& page) const {
    std::vector<uint64_t> copy(page.bytes / 8);
    cuda_.check(cuda_.cuMemcpyDtoH_(copy.data(), page.address, page.bytes), "cuMemcpyDtoH");
    return fingerprint_of(copy.data(), page.bytes);
  }

  uint32_t read(CUdeviceptr p) const {
    uint32_t word = 0;
    cuda_.check(cuda_.cuMemcpyDtoH_(&word, p, sizeof word), "cuMemcpyDtoH");
    return word;
  }

  void write(CUdeviceptr p, uint32_t word) const {
    cuda_.check(cuda_.cuMemcpyHtoD_(p, &word, sizeof word), "cuMemcpyHtoD");
  }

  // The median rate of `repetitions` runs of `work`, each of which reads `bytes`.
  template <class Work>
  double rate(int repetitions, uint64_t bytes, Work work) const;

  driver::Driver cuda_;
  Extra extra_;
  char name_[128] = {};
  CUfunction kernel_ = nullptr, fill_ = nullptr;
  CUdeviceptr scratch_ = 0, device_results_ = 0;
  Fingerprint* results_ = nullptr;  // mapped
};

void Check::sizes() {
  for (const uint64_t bytes : {kFingerprintUnitBytes, 7 * kFingerprintUnitBytes, 2 * kMiB,
                               4 * kMiB + kFingerprintUnitBytes, 16 * kMiB, kLargePage}) {
    if (simulated() && bytes > 4 * kMiB)
      continue;  // it says no more there, and takes a second each
    const FingerprintPage one = page(bytes, static_cast<uint32_t>(bytes >> 12));
    const Fingerprint expected = on_host(one);
    const std::string of = " of " + std::to_string(bytes) + " bytes";
    for (const unsigned blocks : {1u, 3u, fingerprint_blocks(bytes), 1000u}) {
      results_[0] = {};
      start({one}, mapped_results(), blocks);
      cuda_.check(cuda_.cuCtxSynchronize_(), "cuCtxSynchronize");
      expect(results_[0] == expected, "page" + of + ", " + std::to_string(blocks) + " blocks");
    }
    cuda_.check(cuda_.cuMemsetD8_(one.address, 0, bytes), "cuMemsetD8");
    expect(on_device(one) == on_host(one), "zeros" + of);
    expect(on_device(one) != expected, "zeros and a pattern" + of);
    cuda_.check(cuda_.cuMemFree_(one.address), "cuMemFree");
  }
}

// Pages of all sizes in one launch, results in device memory, again and again on the same scratch.
void Check::lists() {
  std::vector<FingerprintPage> pages;
  for (uint32_t i = 0; i < kFingerprintMaxPages; ++i)
    pages.push_back(page((uint64_t{1} + (i * 37) % 16) * 32 * kFingerprintUnitBytes, i));
  for (int round = 0; round < 4; ++round) {
    cuda_.check(cuda_.cuMemsetD8_(device_results_, 0, pages.size() * sizeof(Fingerprint)),
                "cuMemsetD8");
    start(pages, device_results_, fingerprint_blocks(2 * kMiB));
    start(pages, mapped_results(), 2);
    std::vector<Fingerprint> got(pages.size());
    cuda_.check(cuda_.cuMemcpyDtoH_(got.data(), device_results_, got.size() * sizeof got[0]),
                "cuMemcpyDtoH");
    cuda_.check(cuda_.cuCtxSynchronize_(), "cuCtxSynchronize");
    bool right = true;
    for (size_t i = 0; i < pages.size(); ++i)
      right &= got[i] == results_[i] && (round != 0 || got[i] == on_host(pages[i]));
    expect(right, "64 pages in one launch, round " + std::to_string(round));
  }
  std::vector<uint8_t> scratch(kScratchBytes);
  cuda_.check(cuda_.cuMemcpyDtoH_(scratch.data(), scratch_, scratch.size()), "cuMemcpyDtoH");
  expect(std::all_of(scratch.begin(), scratch.end(), [](uint8_t byte) { return byte == 0; }),
         "the scratch is left as it was found");
  for (const FingerprintPage& one : pages) cuda_.check(cuda_.cuMemFree_(one.address), "cuMemFree");
}

void Check::changes() {
  const FingerprintPage one = page(simulated() ? kMiB / 4 : kLargePage, 5);
  const Fingerprint before = on_device(one);
  std::mt19937_64 random(6);
  int unseen = 0;
  const int rounds = simulated() ? 300 : 3000;
  for (int round = 0; round < rounds; ++round) {
    const CUdeviceptr a = one.address + random() % (one.bytes / 4) * 4;
    const CUdeviceptr b = one.address + random() % (one.bytes / 4) * 4;
    const uint32_t word_a = read(a), word_b = read(b);
    switch (round % 3) {
      case 0:
        write(a, word_a ^ uint32_t{1} << random() % 32);
        break;
      case 1:
        write(a, word_b);
        write(b, word_a);
        if (word_a == word_b) continue;
        break;
      case 2:
        write(a, 0);
        if (word_a == 0) continue;
        break;
    }
    unseen += on_device(one) == before;
    write(a, word_a);
    write(b, word_b);
  }
  expect(unseen == 0, std::to_string(unseen) + " changes unseen");
  expect(on_device(one) == before, "the page as it was has the fingerprint that it had");

  const CUdeviceptr shifted = allocate(one.bytes);
  cuda_.check(cuda_.cuMemsetD8_(shifted, 0, one.bytes), "cuMemsetD8");
  cuda_.check(extra_.cuMemcpyDtoD_(shifted + 4, one.address, one.bytes - 4), "cuMemcpyDtoD");
  expect(on_device({shifted, one.bytes}) != before, "shifted by a word");
  cuda_.check(cuda_.cuMemFree_(shifted), "cuMemFree");
  cuda_.check(cuda_.cuMemFree_(one.address), "cuMemFree");
}

template <class Work>
double Check::rate(int repetitions, uint64_t bytes, Work work) const {
  CUevent begin = nullptr, end = nullptr;
  cuda_.check(extra_.cuEventCreate_(&begin, CU_EVENT_DEFAULT), "cuEventCreate");
  cuda_.check(extra_.cuEventCreate_(&end, CU_EVENT_DEFAULT), "cuEventCreate");
  std::vector<double> rates;
  // The first ones wake the clocks up.
  for (int i = -10; i < repetitions; ++i) {
    cuda_.check(extra_.cuEventRecord_(begin, nullptr), "cuEventRecord");
    work();
    cuda_.check(extra_.cuEventRecord_(end, nullptr), "cuEventRecord");
    cuda_.check(extra_.cuEventSynchronize_(end), "cuEventSynchronize");
    float ms = 0;
    cuda_.check(extra_.cuEventElapsedTime_(&ms, begin, end), "cuEventElapsedTime");
    if (i >= 0) rates.push_back(static_cast<double>(bytes) / 1e6 / ms);
  }
  std::nth_element(rates.begin(), rates.begin() + repetitions / 2, rates.end());
  return rates[static_cast<size_t>(repetitions) / 2];
}

void Check::rates(bool sweep) {
  const CUdeviceptr all = allocate(kBatch * kLargePage);
  cuda_.launch(fill_, 1024, 256, nullptr, all, kBatch * kLargePage / 4, uint32_t{9});
  std::vector<FingerprintPage> pages;
  for (unsigned i = 0; i < kBatch; ++i) pages.push_back({all + i * kLargePage, kLargePage});
  const auto batch = [&](uint64_t span_bytes) {
    return rate(51, kBatch * kLargePage, [&] {
      start(pages, device_results_, static_cast<unsigned>(kLargePage / span_bytes));
    });
  };
  const double batch_rate = batch(kFingerprintSpanBytes);
  // Sixteen different pages one by one: a page just read would be in the cache for a part.
  const double page_rate = rate(51, kBatch * kLargePage, [&] {
    for (const FingerprintPage& one : pages)
      start({one}, device_results_, fingerprint_blocks(one.bytes));
  });
  CUfunction reading = function(flexlom_reading_fatbin, "flex_read");
  double read_rate = 0;
  for (const unsigned blocks : {528u, 1056u, 2112u, 8448u})
    read_rate = std::max(read_rate, rate(51, kBatch * kLargePage, [&] {
                           cuda_.launch(reading, blocks, 256, nullptr, all, kBatch * kLargePage,
                                        device_results_);
                         }));
  std::vector<double> waits_us;
  for (int i = 0; i < 51; ++i) {
    const auto from = std::chrono::steady_clock::now();
    on_device(pages[static_cast<size_t>(i) % kBatch]);
    waits_us.push_back(
        std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - from).count());
  }
  std::nth_element(waits_us.begin(), waits_us.begin() + 25, waits_us.end());
  std::printf(
      "{\"device\": \"%s\", \"batch_gbps\": %.0f, \"page_gbps\": %.0f, \"read_gbps\": %.0f, "
      "\"batch_of_read\": %.3f, \"page_launch_and_wait_us\": %.1f",
      name_, batch_rate, page_rate, read_rate, batch_rate / read_rate, waits_us[25]);
  for (uint64_t span = 16 << 10; sweep && span <= 4 * kMiB; span *= 2)
    std::printf(", \"span_%" PRIu64 "k_gbps\": %.0f", span >> 10, batch(span));
  std::printf("}\n");
  expect(batch_rate >= kLeastShare * read_rate, "at least 70 % of the rate of reading");
  cuda_.check(cuda_.cuMemFree_(all), "cuMemFree");
}

}  // namespace

int main(int argc, char** argv) {
  const bool sweep = argc == 2 && std::strcmp(argv[1], "--sweep") == 0;
  if (argc != 1 && !sweep) {
    std::fprintf(stderr, "usage: fingerprint_check [--sweep]\n");
    return 2;
  }
  Check check;
  check.sizes();
  check.lists();
  check.changes();
  if (check.simulated())
    std::printf("skipped: a simulated GPU has no rates\n");
  else
    check.rates(sweep);
  std::printf("%d passed, %d failed, %d skipped\n", passed, failed, check.simulated() ? 1 : 0);
  return failed == 0 ? 0 : 1;
}
