// Programs that turn themselves into daemons close every descriptor they did not open, and then
// reuse the numbers. What we write must never land in a file of the program's.
#include <cuda.h>
#include <fcntl.h>
#include <unistd.h>

#include "tests/preload/session.hpp"

using namespace preload;

int main() {
  const Cuda cuda(open_driver());
  cuda.start();
  CHECK(cuda.round_trip(4096));
  usleep(250000);
  // Everything but the driver's own: the simulated one keeps memory files open, as the real one
  // does.
  for (int fd = 3; fd < 4096; ++fd) {
    char link[64], target[4096];
    std::snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    const ssize_t n = readlink(link, target, sizeof target - 1);
    if (n <= 0) continue;
    target[n] = '\0';
    if (std::strstr(target, "memfd:") == nullptr) close(fd);
  }
  int files[600];
  char path[] = "/tmp/preload_descriptors_XXXXXX";
  files[0] = mkstemp(path);
  CHECK(files[0] >= 0);
  for (int i = 1; i < 600; ++i) files[i] = dup(files[0]);
  for (int i = 0; i < 50; ++i) CHECK(cuda.round_trip(70000));
  usleep(300000);
  const off_t size = lseek(files[0], 0, SEEK_END);
  CHECK(size == 0);
  unlink(path);
  for (int i = 0; i < 600; ++i) close(files[i]);
  return verdict();
}
