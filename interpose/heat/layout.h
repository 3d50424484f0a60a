// Where the 8-byte words of a kernel's parameters are, by handle (CUDA Driver API 6.9 and 6.12,
// cuFuncGetParamInfo and cuKernelGetParamInfo).
//
// Asked of the driver at the first sight of a handle and kept. Reading takes no lock and writes
// nothing. A handle is good until what it came from is unloaded: forget_handles() comes before
// every such call, because the driver may give the same handle to another function at once.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace flexlom::heat {

// Consecutive words within one parameter. Offsets in bytes.
struct Run {
  uint32_t param;   // index in kernelParams
  uint32_t first;   // of the first word, from the start of the parameter
  uint32_t packed;  // of the first word, in the packed form (`extra`)
  uint32_t words;
  bool operator==(const Run&) const = default;
};

// Never freed: equal layouts are one object, so there are few.
struct Layout {
  bool known = false;  // false: the driver does not tell; names nothing
  uint32_t params = 0;
  uint32_t packed_bytes = 0;
  std::vector<Run> runs;
  bool operator==(const Layout&) const = default;
};

// Of a CUfunction, or a CUkernel cast to one: the driver takes both in a launch, and tells the
// layout of each by another call. Null when it cannot be told now (no memory, called from inside an
// allocator hook that we caused). Any thread.
const Layout* layout_of(const void* handle) noexcept;

// Handles may from now on mean other functions: before cuModuleUnload, cuLibraryUnload, and the end
// of a context. Any thread.
void forget_handles() noexcept;

// Changes whenever handles are forgotten: what others keep by handle is void then. Any thread.
uint64_t handle_generation() noexcept;

// Since the start of the process, for the report.
struct LayoutCounts {
  uint64_t asked;    // handles asked about
  uint64_t unknown;  // of these, not told
  uint64_t flushes;  // forget_handles() with anything to forget
};
LayoutCounts layout_counts() noexcept;

// Set while this room allocates: an allocator hook of the program that launches work comes back
// here, and must find no lock held.
class Busy {
 public:
  Busy() noexcept : outer_(set_) { set_ = true; }
  ~Busy() {
    set_ = outer_;
    if (!outer_) forget_if_asked();
  }
  Busy(const Busy&) = delete;
  Busy& operator=(const Busy&) = delete;
  static bool already() noexcept { return set_; }

 private:
  static void forget_if_asked() noexcept;
  static constinit thread_local bool set_ __attribute__((tls_model("initial-exec")));
  const bool outer_;
};

}  // namespace flexlom::heat
