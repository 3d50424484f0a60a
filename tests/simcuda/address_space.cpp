#include "tests/simcuda/address_space.hpp"

#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>

namespace flexlom::sim {
namespace {

constexpr uint64_t kLow = 0x302000000;      // where the real driver starts
constexpr uint64_t kLowEnd = 0x8000000000;  // 512 GiB: the end of what TSan leaves there
constexpr uint64_t kHigh = 0x400000000000;  // AddressSanitizer shadows all of the low range
constexpr uint64_t kHighEnd = 0x480000000000;
constexpr int kReserve = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;

// The next address to try, in each region. Callers hold memory_lock.
uint64_t next_low = kLow;
uint64_t next_high = kHigh;

uint64_t map_raw(uint64_t address, size_t bytes, int protection, int flags, int fd,
                 uint64_t offset) {
  const long got = syscall(SYS_mmap, address, bytes, protection, flags, fd, offset);
  return got == -1 ? 0 : static_cast<uint64_t>(got);
}
void unmap_raw(uint64_t address, size_t bytes) { syscall(SYS_munmap, address, bytes); }

#if defined(__has_feature)
#define SIM_HAS_FEATURE(x) __has_feature(x)
#else
#define SIM_HAS_FEATURE(x) 0
#endif

// ThreadSanitizer fills what it neither shadows nor lets programs use with inaccessible pages. The
// gap that it does not need itself is where device addresses are asked for.
void open_sanitizer_gap() {
#if defined(__SANITIZE_THREAD__) || SIM_HAS_FEATURE(thread_sanitizer)
  static const bool once = [] {
    constexpr uint64_t kGap = 0x340000000000, kGapEnd = 0x550000000000;
    unmap_raw(kGap, kGapEnd - kGap);
    return true;
  }();
  (void)once;
#endif
}

uint64_t reserve_exactly(uint64_t address, size_t bytes) {
  const uint64_t got = map_raw(address, bytes, PROT_NONE, kReserve | MAP_FIXED_NOREPLACE, -1, 0);
  if (got == address) return got;
  if (got) unmap_raw(got, bytes);  // a kernel older than MAP_FIXED_NOREPLACE
  return 0;
}

uint64_t reserve_upwards(uint64_t& next, uint64_t first, uint64_t end, size_t bytes,
                         size_t alignment) {
  bool wrapped = false;
  for (int tries = 0; tries < 256; ++tries) {
    uint64_t address = (next + alignment - 1) / alignment * alignment;
    if (address >= end || bytes > end - address) {
      if (wrapped) return 0;
      wrapped = true;
      next = first;
      continue;
    }
    if (uint64_t got = reserve_exactly(address, bytes)) {
      next = got + bytes;
      return got;
    }
    next = address + std::max<uint64_t>(bytes, uint64_t{1} << 30);
  }
  return 0;
}

int protection_of(Access access) {
  switch (access) {
    case Access::none:
      return PROT_NONE;
    case Access::read:
      return PROT_READ;
    case Access::write:
      return PROT_READ | PROT_WRITE;
  }
  return PROT_NONE;
}

}  // namespace

uint64_t reserve_range(size_t bytes, size_t alignment, uint64_t hint) {
  open_sanitizer_gap();
  alignment = std::max<size_t>(alignment, size_t{2} << 20);
  if (hint && hint % alignment == 0)
    if (uint64_t got = reserve_exactly(hint, bytes)) return got;
  if (uint64_t got = reserve_upwards(next_low, kLow, kLowEnd, bytes, alignment)) return got;
  if (uint64_t got = reserve_upwards(next_high, kHigh, kHighEnd, bytes, alignment)) return got;
  const uint64_t wide = map_raw(0, bytes + alignment, PROT_NONE, kReserve, -1, 0);
  if (!wide) return 0;
  const uint64_t address = (wide + alignment - 1) / alignment * alignment;
  if (address > wide) unmap_raw(wide, address - wide);
  if (wide + alignment > address) unmap_raw(address + bytes, wide + alignment - address);
  return address;
}

void release_range(uint64_t address, size_t bytes) {
  unmap_raw(address, bytes);
  // Last in, first out programs get the same address again, as they do from the real driver.
  if (address + bytes == next_low) next_low = address;
  if (address + bytes == next_high) next_high = address;
}

bool map_pages(uint64_t address, size_t bytes, int fd, uint64_t offset, Access access) {
  if (!map_raw(address, bytes, protection_of(access), MAP_SHARED | MAP_FIXED, fd, offset))
    return false;
  // The child of a fork has no GPU memory.
  madvise(reinterpret_cast<void*>(address), bytes, MADV_DONTFORK);
  return true;
}

bool protect_pages(uint64_t address, size_t bytes, Access access) {
  return syscall(SYS_mprotect, address, bytes, protection_of(access)) == 0;
}

bool unmap_pages(uint64_t address, size_t bytes) {
  return map_raw(address, bytes, PROT_NONE, kReserve | MAP_FIXED, -1, 0) == address;
}

}  // namespace flexlom::sim
