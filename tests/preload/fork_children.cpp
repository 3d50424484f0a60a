// fork, vfork and a bare clone() around the driver. CUDA does not work in a child that was forked
// after cuInit; the child gets the driver's own error, and the parent goes on.
//
//   fork_children before|after|busy|clone|vfork
#include <cuda.h>
#include <sched.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <string>
#include <thread>
#include <vector>

#include "tests/preload/session.hpp"

using namespace preload;

namespace {

// Ends with the exit status of the child; a child that hangs is ended by its alarm.
int status_of(pid_t child) {
  int status = 0;
  while (waitpid(child, &status, 0) < 0) {
  }
  if (WIFSIGNALED(status)) return 1000 + WTERMSIG(status);
  return WEXITSTATUS(status);
}

// What a child that inherited a driver in use gets from it: all of these, and nothing worse.
int child_after(const Cuda& cuda, CUdeviceptr inherited) {
  alarm(20);
  CUdeviceptr p = 0;
  size_t available = 0, total = 0;
  const bool good = cuda.cuInit_(0) == CUDA_ERROR_NOT_INITIALIZED &&
                    cuda.cuMemAlloc_v2_(&p, 4096) == CUDA_ERROR_NOT_INITIALIZED &&
                    cuda.cuMemAlloc_v2_(&p, 64 << 20) == CUDA_ERROR_NOT_INITIALIZED &&
                    cuda.cuMemFree_v2_(inherited) == CUDA_ERROR_NOT_INITIALIZED &&
                    cuda.cuMemGetInfo_v2_(&available, &total) == CUDA_ERROR_NOT_INITIALIZED &&
                    cuda.cuCtxSynchronize_() == CUDA_ERROR_NOT_INITIALIZED;
  return good ? 42 : 1;
}

void before(const Cuda& cuda) {
  for (int i = 0; i < 3; ++i) {
    const pid_t child = fork();
    if (child == 0) {
      alarm(30);
      cuda.start();
      CHECK(cuda.round_trip(3 << 20));
      std::exit(verdict() == 0 ? 42 : 1);  // with all exit handlers
    }
    CHECK(status_of(child) == 42);
  }
  cuda.start();
  CHECK(cuda.round_trip(3 << 20));
}

void after(const Cuda& cuda, bool use_exit) {
  cuda.start();
  CUdeviceptr kept = 0;
  CHECK_OK(cuda.cuMemAlloc_v2_(&kept, 4096));
  const pid_t child = fork();
  if (child == 0) {
    const int code = child_after(cuda, kept);
    if (use_exit) std::exit(code);
    _exit(code);
  }
  CHECK(cuda.round_trip(8 << 20));
  CHECK(status_of(child) == 42);
  CHECK_OK(cuda.cuMemFree_v2_(kept));
  CHECK(cuda.round_trip(8 << 20));
}

// Forks while other threads are inside the pool, so that its locks are held in the child.
void busy(const Cuda& cuda) {
  cuda.start();
  CUdeviceptr kept = 0;
  CHECK_OK(cuda.cuMemAlloc_v2_(&kept, 4096));
  std::atomic<bool> stop{false};
  std::atomic<int> wrong{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 3; ++t)
    threads.emplace_back([&, t] {
      cuda.use_primary();
      while (!stop) {
        CUdeviceptr p = 0;
        if (cuda.cuMemAlloc_v2_(&p, size_t{4096} << t * 4) != CUDA_SUCCESS ||
            cuda.cuMemFree_v2_(p) != CUDA_SUCCESS)
          ++wrong;
      }
    });
  for (int i = 0; i < 40; ++i) {
    const pid_t child = fork();
    if (child == 0) _exit(child_after(cuda, kept));
    CHECK(status_of(child) == 42);
  }
  stop = true;
  for (std::thread& thread : threads) thread.join();
  CHECK(wrong == 0);
  CHECK_OK(cuda.cuMemFree_v2_(kept));
}

// A child made without the C library's knowledge: fork handlers do not run in it. The simulated
// driver does not notice such a child either, so only its survival is looked at.
void bare_clone(const Cuda& cuda) {
  cuda.start();
  CHECK(cuda.round_trip(8 << 20));
  const pid_t child = static_cast<pid_t>(syscall(SYS_clone, SIGCHLD, nullptr, nullptr, nullptr, 0));
  if (child == 0) {
    alarm(20);
    size_t available = 0, total = 0;
    cuda.cuMemGetInfo_v2_(&available, &total);
    _exit(42);
  }
  CHECK(status_of(child) == 42);
  CHECK(cuda.round_trip(8 << 20));
}

void vfork_exec(const Cuda& cuda) {
  cuda.start();
  CHECK(cuda.round_trip(8 << 20));
  for (int i = 0; i < 3; ++i) {
    const pid_t child = vfork();
    if (child == 0) {
      execl("/bin/true", "true", nullptr);
      _exit(1);
    }
    CHECK(status_of(child) == 0);
    CHECK(cuda.round_trip(8 << 20));
  }
}

}  // namespace

int main(int argc, char** argv) {
  const std::string how = argc > 1 ? argv[1] : "";
  const Cuda cuda(open_driver());
  if (how == "before")
    before(cuda);
  else if (how == "after")
    after(cuda, false), after(cuda, true);
  else if (how == "busy")
    busy(cuda);
  else if (how == "clone")
    bare_clone(cuda);
  else if (how == "vfork")
    vfork_exec(cuda);
  else
    return 2;
  return verdict();
}
