// A program that flexlom top is pointed at: allocates 3 blocks of 32 MiB, does what it is told,
// prints a line, and waits until its standard input ends.
//
//   subject hold            just that
//   subject close           closes every descriptor but the simulated driver's, again and again
//   subject close_page      closes the page's descriptor only, as often
//   subject fork            a child that makes no CUDA call waits too; prints its pid
//   subject fork_before     forks before the driver is used; both allocate, the child's pid is
//   printed subject exec            becomes `subject sleep`, which makes no CUDA call subject
//   exec_again      becomes `subject hold` subject leader          the first thread ends, another
//   goes on subject undumpable      may not be inspected by others subject free            frees
//   what it allocated, then allocates one block of 4 MiB subject idle            only looks: no
//   allocation subject move            uses its blocks in turn, so that pages move when memory is
//   short
#include <cuda.h>
#include <pthread.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <string>

#include "tests/preload/session.hpp"

using namespace preload;

namespace {

constexpr size_t kBytes = 32 << 20;

void say(const std::string& text) {
  std::printf("%s\n", text.c_str());
  std::fflush(stdout);
}

void wait_for_end(int fd) {
  char byte = 0;
  while (read(fd, &byte, 1) > 0) {
  }
}

// Closes every descriptor for which `goes` says so of what it leads to.
template <class Goes>
void close_where(Goes goes) {
  for (int fd = 3; fd < 4096; ++fd) {
    char link[64], target[4096];
    std::snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    const ssize_t n = readlink(link, target, sizeof target - 1);
    if (n <= 0) continue;
    target[n] = '\0';
    if (goes(std::string(target))) close(fd);
  }
}

std::vector<CUdeviceptr> allocate(const Cuda& cuda) {
  std::vector<CUdeviceptr> blocks;
  for (int i = 0; i < 3; ++i) {
    CUdeviceptr p = 0;
    CHECK_OK(cuda.cuMemAlloc_v2_(&p, kBytes));
    CHECK_OK(cuda.cuMemsetD8_v2_(p, 1, kBytes));
    blocks.push_back(p);
  }
  return blocks;
}

void become(const char* self, const char* how) {
  execl("/proc/self/exe", self, how, nullptr);
  CHECK(!"exec failed");
}

void* rest_of_leader(void*) {
  usleep(100'000);
  say("ready");
  wait_for_end(0);
  _exit(verdict());
}

}  // namespace

int main(int argc, char** argv) {
  const std::string how = argc > 1 ? argv[1] : "hold";
  alarm(120);
  if (how == "sleep") {
    say("ready");
    wait_for_end(0);
    return 0;
  }
  const Cuda cuda(open_driver());
  pid_t child = -1;
  if (how == "fork_before") child = fork();
  cuda.start();
  if (how == "idle") {
    say("ready");
    wait_for_end(0);
    return verdict();
  }
  const std::vector<CUdeviceptr> blocks = allocate(cuda);
  if (child == 0) {
    wait_for_end(0);
    _exit(verdict());
  }
  if (how == "fork" && (child = fork()) == 0) {
    wait_for_end(0);
    _exit(0);
  }
  if (how == "exec" || how == "exec_again") {
    usleep(800'000);  // long enough to have been published
    become(argv[0], how == "exec" ? "sleep" : "hold");
  }
  if (how == "leader") {
    pthread_t other;
    CHECK(pthread_create(&other, nullptr, &rest_of_leader, nullptr) == 0);
    syscall(SYS_exit, 0);  // of this thread alone
  }
  if (how == "undumpable") CHECK(prctl(PR_SET_DUMPABLE, 0) == 0);
  if (how == "free") {
    for (const CUdeviceptr p : blocks) CHECK_OK(cuda.cuMemFree_v2_(p));
    CUdeviceptr p = 0;
    CHECK_OK(cuda.cuMemAlloc_v2_(&p, 4 << 20));
  }
  if (how == "close" || how == "close_page") {
    // The driver's own are left: the simulated one keeps memory in files, as the real one keeps
    // devices open.
    for (int i = 0; i < 8; ++i) {
      close_where([&](const std::string& target) {
        return how == "close" ? target.find("memfd:simcuda") == std::string::npos
                              : target.find("flexlom-live") != std::string::npos;
      });
      usleep(200'000);
    }
  }
  say(child > 0 ? std::to_string(child) : "ready");
  wait_for_end(0);
  return verdict();
}
