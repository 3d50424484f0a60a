// Programs that must compute the same wherever their memory lies, and while it changes places.
//
//   moving NAME [BYTES]      (BYTES of device memory in all: 2 GiB)
//
// Each rereads much of its memory with kernels, which is slow for what lies on the host: with half
// the memory pages have to move all the time. What it computes must not show that, and it must come
// to its end when it keeps pages from moving. Nothing in it knows of flexlom. Prints
// "RESULT digest=<64 bits of all it computed> peak_bytes=<device memory it asked for>";
// tests/gpu/moves runs all of them and compares.
#include <cinttypes>
#include <cstring>

#include "tests/gpu/moving/moving.h"

namespace {

constexpr struct {
  const char* name;
  void (*run)(moving::Program& program);
} kPrograms[] = {
    {"pointer_table", moving::pointer_table},
    {"linked_list", moving::linked_list},
    {"graphs", moving::graphs},
    {"persistent", moving::persistent},
    {"wait_value", moving::wait_value},
    {"host_func", moving::host_func},
    {"cooperative", moving::cooperative},
    {"capture_open", moving::capture_open},
    {"many_streams", moving::many_streams},
    {"blocking_copies", moving::blocking_copies},
    {"contexts", moving::contexts},
    {"peers", moving::peers},
};

int usage() {
  std::fprintf(stderr, "usage: moving NAME [BYTES]\nnames:");
  for (const auto& program : kPrograms) std::fprintf(stderr, " %s", program.name);
  std::fprintf(stderr, "\n");
  return 2;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2 && argc != 3) return usage();
  uint64_t bytes = uint64_t{2} << 30;
  if (argc == 3) {
    char* end = nullptr;
    bytes = std::strtoull(argv[2], &end, 10);
    if (end == argv[2] || *end != '\0' || bytes < (uint64_t{64} << 20)) {
      std::fprintf(stderr, "moving: '%s' is not a number of bytes from 64 MiB up\n", argv[2]);
      return 2;
    }
  }
  // Work on one stream may wait for work on another, so no two may share a queue of the device.
  setenv("CUDA_DEVICE_MAX_CONNECTIONS", "32", 1);
  for (const auto& known : kPrograms) {
    if (std::strcmp(known.name, argv[1]) != 0) continue;
    moving::Program program(bytes);
    known.run(program);
    std::printf("RESULT digest=%016" PRIx64 " peak_bytes=%" PRIu64 "\n", program.digest(), bytes);
    return 0;
  }
  return usage();
}
