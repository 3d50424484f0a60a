// Leaves a GPU with only so much free memory, so that another program meets a full device.
//
//   hold_memory --info     prints "device NAME", "driver V", "total N", "free N", "devices N"
//                          and ends
//   hold_memory --watch    prints "watching N" (bytes free now), samples until stdin ends, then
//                          "least N": the least that was ever free. Exact to 1 ms.
//   hold_memory BYTES      takes all but BYTES with plain cuMemAlloc, prints "holding N free N",
//                          waits until stdin ends
#include "tests/gpu/driver.h"

#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

namespace {

const driver::Driver* cuda = nullptr;

std::size_t free_bytes() {
  std::size_t available = 0, total = 0;
  cuda->check(cuda->cuMemGetInfo_(&available, &total), "cuMemGetInfo");
  return available;
}

// True when stdin ended within `milliseconds` (-1: however long it takes).
bool input_ended(int milliseconds) {
  pollfd in{STDIN_FILENO, POLLIN, 0};
  while (poll(&in, 1, milliseconds) > 0) {
    char scratch[256];
    if (read(STDIN_FILENO, scratch, sizeof scratch) <= 0) return true;
  }
  return false;
}

int info(CUdevice device) {
  char name[128];
  int version = 0, devices = 0;
  std::size_t total = 0;
  cuda->check(cuda->cuDeviceGetName_(name, sizeof name, device), "cuDeviceGetName");
  cuda->check(cuda->cuDriverGetVersion_(&version), "cuDriverGetVersion");
  cuda->check(cuda->cuDeviceGetCount_(&devices), "cuDeviceGetCount");
  cuda->check(cuda->cuDeviceTotalMem_(&total, device), "cuDeviceTotalMem");
  std::printf("device %s\ndriver %d\ntotal %zu\nfree %zu\ndevices %d\n", name, version, total,
              free_bytes(), devices);
  return 0;
}

int watch() {
  std::size_t least = free_bytes();
  std::printf("watching %zu\n", least);
  std::fflush(stdout);
  while (!input_ended(1)) least = std::min(least, free_bytes());
  std::printf("least %zu\n", least);
  return 0;
}

int hold(std::size_t leave) {
  std::size_t held = 0;
  // Halving the step finds the remainder in a few dozen calls; 2 MiB is the driver's granule.
  for (std::size_t step = std::size_t{16} << 30; step >= std::size_t{2} << 20;) {
    CUdeviceptr block = 0;
    if (free_bytes() >= leave + step && cuda->cuMemAlloc_(&block, step) == CUDA_SUCCESS)
      held += step;
    else
      step /= 2;
  }
  std::printf("holding %zu free %zu\n", held, free_bytes());
  std::fflush(stdout);
  while (!input_ended(-1)) {
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: hold_memory --info | --watch | BYTES_TO_LEAVE\n");
    return 2;
  }
  driver::Driver loaded = driver::Driver::load();
  cuda = &loaded;
  CUdevice device = loaded.use_first_device();
  if (std::strcmp(argv[1], "--info") == 0) return info(device);
  if (std::strcmp(argv[1], "--watch") == 0) return watch();
  char* end = nullptr;
  std::size_t leave = std::strtoull(argv[1], &end, 10);
  if (end == argv[1] || *end != '\0') {
    std::fprintf(stderr, "hold_memory: '%s' is not a number of bytes\n", argv[1]);
    return 2;
  }
  return hold(leave);
}
