// One memory bug at a time, as programs have them. Bare they pass in silence: the bug touches
// memory that happens to be there. Under guard mode each is found (tests/gpu/guard).
//
//   guard_bugs NAME
//
// Prints "ended with NAME_OF_THE_RESULT" of the last synchronisation and exits 0, whatever it was;
// exits 1 when something else fails than what the bug is about, 77 without a driver.
#include <sys/wait.h>

#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "kernels/testing.h"
#include "tests/gpu/driver.h"

namespace {

constexpr std::size_t kBytes = std::size_t{1} << 20;
constexpr std::size_t kSmall = 1000;
constexpr std::size_t kPage = std::size_t{2} << 20;

class Bugs {
 public:
  Bugs() : cuda_(driver::Driver::load()) {
    cuda_.use_first_device();
    CUmodule module = nullptr;
    must(cuda_.cuModuleLoadData_(&module, flexlom_testing_fatbin), "cuModuleLoadData");
    fill_ = cuda_.kernel(module, "flex_fill");
    sum_ = cuda_.kernel(module, "flex_sum");
    total_ = alloc(8);
    must(cuda_.cuMemsetD8_(total_, 0, 8), "cuMemsetD8");
    must(cuda_.cuStreamCreate_(&stream_, CU_STREAM_NON_BLOCKING), "cuStreamCreate");
  }

  // Whether there is such a bug.
  bool run(const std::string& name) {
    for (const auto& [known, bug] : kAll) {
      if (name != known) continue;
      (this->*bug)();
      return true;
    }
    return false;
  }

  void end() {
    const char* text = nullptr;
    cuda_.cuGetErrorName_(cuda_.cuCtxSynchronize_(), &text);
    std::printf("ended with %s\n", text);
  }

 private:
  void must(CUresult r, const char* what) const { cuda_.check(r, what); }
  __attribute__((noinline)) CUdeviceptr alloc(std::size_t bytes) {
    CUdeviceptr p = 0;
    must(cuda_.cuMemAlloc_(&p, bytes), "cuMemAlloc");
    std::printf("%zu bytes at %#llx\n", bytes, p);
    return p;
  }
  __attribute__((noinline)) void free(CUdeviceptr p) { must(cuda_.cuMemFree_(p), "cuMemFree"); }
  void fill(CUdeviceptr p, std::uint64_t words, CUstream stream = nullptr) {
    cuda_.launch(fill_, 64, 256, stream, p, words, std::uint32_t{5});
  }
  void sum(CUdeviceptr p, std::uint64_t words, CUstream stream = nullptr) {
    cuda_.launch(sum_, 64, 256, stream, p, words, total_);
  }

  void none() {
    for (const std::size_t bytes : {std::size_t{4}, kSmall, kBytes, kPage, 3 * kPage + 4}) {
      const CUdeviceptr p = alloc(bytes);
      fill(p, bytes / 4);
      sum(p, bytes / 4);
      std::vector<char> host(bytes);
      must(cuda_.cuMemcpyDtoH_(host.data(), p, bytes), "cuMemcpyDtoH");
      must(cuda_.cuMemcpyHtoD_(p, host.data(), bytes), "cuMemcpyHtoD");
      for (const unsigned char value : {0x00, 0xff}) {
        must(cuda_.cuMemsetD8_(p, value, bytes), "cuMemsetD8");
        must(cuda_.cuMemcpyDtoH_(host.data(), p, bytes), "cuMemcpyDtoH");
      }
      free(p);
      CUdeviceptr q = 0;
      must(cuda_.cuMemAllocAsync_(&q, bytes, stream_), "cuMemAllocAsync");
      fill(q, bytes / 4, stream_);
      sum(q, bytes / 4, stream_);
      must(cuda_.cuMemFreeAsync_(q, stream_), "cuMemFreeAsync");
      must(cuda_.cuStreamSynchronize_(stream_), "cuStreamSynchronize");
    }
  }
  void overflow_write() { fill(alloc(kBytes), kBytes / 4 + 1); }
  void overflow_read() {
    const CUdeviceptr p = alloc(kBytes);
    fill(p, kBytes / 4);
    sum(p, kBytes / 4 + 1);
  }
  void overflow_async() {
    CUdeviceptr p = 0;
    must(cuda_.cuMemAllocAsync_(&p, kBytes, stream_), "cuMemAllocAsync");
    fill(p, kBytes / 4 + 1, stream_);
  }
  // Behind the end, but before the next 256 bytes begin.
  void overflow_small() {
    const CUdeviceptr p = alloc(kSmall);
    fill(p, kSmall / 4 + 1);
    free(p);
  }
  void overflow_small_kept() { fill(alloc(kSmall), kSmall / 4 + 1); }
  void underflow() {
    const CUdeviceptr p = alloc(kBytes);
    fill(p - 8, kBytes / 4);
    free(p);
  }
  void underflow_page() {
    const CUdeviceptr before = alloc(kPage);
    fill(alloc(kPage) - 4, 8);
    (void)before;
  }
  void use_after_free() {
    // Small, and with a neighbour that stays: the driver keeps the page that both share.
    constexpr std::size_t kShared = 64 << 10;
    const CUdeviceptr p = alloc(kShared);
    alloc(kShared);
    fill(p, kShared / 4);
    free(p);
    sum(p, kShared / 4);
  }
  void use_after_free_async() {
    // The driver's own pool keeps what is freed, as programs that allocate often tell it to.
    CUmemoryPool pool = nullptr;
    cuuint64_t keep = ~cuuint64_t{0};
    must(cuda_.cuDeviceGetDefaultMemPool_(&pool, 0), "cuDeviceGetDefaultMemPool");
    must(cuda_.cuMemPoolSetAttribute_(pool, CU_MEMPOOL_ATTR_RELEASE_THRESHOLD, &keep),
         "cuMemPoolSetAttribute");
    CUdeviceptr p = 0;
    must(cuda_.cuMemAllocAsync_(&p, kBytes, stream_), "cuMemAllocAsync");
    fill(p, kBytes / 4, stream_);
    must(cuda_.cuMemFreeAsync_(p, stream_), "cuMemFreeAsync");
    must(cuda_.cuStreamSynchronize_(stream_), "cuStreamSynchronize");
    // It is unmapped at the first synchronisation that finds all work over; on a busy machine the
    // guard hears of that a moment later than this program.
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    must(cuda_.cuStreamSynchronize_(stream_), "cuStreamSynchronize");
    sum(p, kBytes / 4, stream_);
  }
  // The bug, and the bug in the error check: the answers of these are looked at by nobody.
  void double_free() {
    const CUdeviceptr p = alloc(kSmall);
    free(p);
    (void)cuda_.cuMemFree_(p);
  }
  void inner_free() { (void)cuda_.cuMemFree_(alloc(kSmall) + 256); }
  void copy_past_end() {
    std::vector<char> host(kSmall + 4);
    (void)cuda_.cuMemcpyHtoD_(alloc(kSmall), host.data(), host.size());
  }
  void never_written() {
    std::vector<char> host(kSmall);
    must(cuda_.cuMemcpyDtoH_(host.data(), alloc(kSmall), kSmall), "cuMemcpyDtoH");
  }
  void never_written_async() {
    std::vector<char> host(kSmall);
    must(cuda_.cuMemcpyDtoHAsync_(host.data(), alloc(kSmall), kSmall, stream_),
         "cuMemcpyDtoHAsync");
    must(cuda_.cuStreamSynchronize_(stream_), "cuStreamSynchronize");
  }

  struct Named {
    const char* name;
    void (Bugs::*bug)();
  };
  static constexpr Named kAll[] = {{"none", &Bugs::none},
                                   {"overflow_write", &Bugs::overflow_write},
                                   {"overflow_read", &Bugs::overflow_read},
                                   {"overflow_async", &Bugs::overflow_async},
                                   {"overflow_small", &Bugs::overflow_small},
                                   {"overflow_small_kept", &Bugs::overflow_small_kept},
                                   {"underflow", &Bugs::underflow},
                                   {"underflow_page", &Bugs::underflow_page},
                                   {"use_after_free", &Bugs::use_after_free},
                                   {"use_after_free_async", &Bugs::use_after_free_async},
                                   {"double_free", &Bugs::double_free},
                                   {"inner_free", &Bugs::inner_free},
                                   {"copy_past_end", &Bugs::copy_past_end},
                                   {"never_written", &Bugs::never_written},
                                   {"never_written_async", &Bugs::never_written_async}};

  const driver::Driver cuda_;
  CUfunction fill_ = nullptr, sum_ = nullptr;
  CUdeviceptr total_ = 0;
  CUstream stream_ = nullptr;
};

// Reports are written with the help of another process, which must be nobody's child.
volatile std::sig_atomic_t children = 0;

bool met_no_child() {
  errno = 0;
  return waitpid(-1, nullptr, WNOHANG) == -1 && errno == ECHILD && children == 0;
}

}  // namespace

int main(int argc, char** argv) {
  std::setvbuf(stdout, nullptr, _IOLBF, 0);
  std::signal(SIGCHLD, [](int) { children = children + 1; });
  Bugs bugs;
  if (argc != 2 || !bugs.run(argv[1])) {
    std::fprintf(stderr, "usage: guard_bugs NAME (see tests/gpu/guard)\n");
    return 2;
  }
  bugs.end();
  if (met_no_child()) return 0;
  std::fprintf(stderr, "a child that this program never made has ended\n");
  return 1;
}
