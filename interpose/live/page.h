// The page in which a process under flexlom shows its numbers to others: one page of a memory file
// (memfd_create(2)) that the process holds open, and that readers find as /proc/PID/fd/N.
//
// The kernel takes it away with the process, however that ends, and lets in only who may inspect
// the process (ptrace(2), PTRACE_MODE_READ): the same user. It lies nowhere in the file system.
//
// The head is the same in every format, so that a reader of another version can say which one it
// would take. The rest is a Sample of this format, kept consistent by a sequence lock: odd while
// the one writer is at work. A fork child holds its parent's file; the head's pid tells.
//
// Times are CLOCK_MONOTONIC in nanoseconds, which all processes of a machine share; amounts are
// bytes.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

namespace flexlom::live {

inline constexpr char kFileName[] = "flexlom-live";
inline constexpr char kMagic[8] = {'f', 'l', 'e', 'x', 'l', 'i', 'v', 'e'};
inline constexpr uint32_t kFormat = 1;  // raised by every change of what follows the head
inline constexpr size_t kPageBytes = 4096;
inline constexpr size_t kDevices = 16;

struct Head {
  char magic[8];
  uint32_t format;
  uint32_t page_bytes;
  uint64_t pid;          // as the process itself knows it, in its own pid namespace
  uint64_t start_ticks;  // field 22 of /proc/PID/stat; 0: not known
  char version[32];      // of flexlom; ends with a zero
};
static_assert(sizeof(Head) == 64);

// Since flexlom became active in the process; of all devices.
struct Totals {
  uint64_t at_ns;
  uint64_t promoted_bytes;
  uint64_t demoted_bytes;
  uint64_t demoted_copied_bytes;  // of demoted_bytes, what crossed the link
  uint64_t in_place_bytes;        // at most: what was spilled of the allocations work named
};

struct Device {
  uint64_t ordinal;  // as the program counts them
  uint8_t uuid[16];
  char name[64];  // ends with a zero
  uint64_t budget_bytes, held_bytes, peak_bytes;
  uint64_t asked_bytes;  // live, as the program asked for them
  uint64_t live, allocs, frees, failures;
};

struct Largest {
  uint64_t device;
  uint64_t address;
  uint64_t bytes;  // as asked for; 0: there is no allocation of 1 MiB or more
  uint64_t host_bytes;
  char call[32];  // ends with a zero
};

struct Sample {
  uint64_t active_since_ns;
  Totals now;
  Totals before;  // of about two seconds ago, for rates; at_ns 0: too early for any
  uint64_t host_budget_bytes, host_held_bytes, host_peak_bytes;
  uint64_t device_count;  // may be more than there is room for
  Device devices[kDevices];
  Largest largest;
};
static_assert(std::is_trivially_copyable_v<Sample> && sizeof(Sample) % sizeof(uint64_t) == 0);

struct Page {
  static constexpr size_t kWords = sizeof(Sample) / sizeof(uint64_t);

  Head head;
  std::atomic<uint64_t> sequence;
  std::atomic<uint64_t> words[kWords];

  // One writer at a time. Wait-free, and nothing that a reader does can hold it up.
  void write(const Sample& sample) noexcept {
    const uint64_t odd = sequence.load(std::memory_order_relaxed) | 1;
    sequence.store(odd, std::memory_order_relaxed);
    std::atomic_thread_fence(std::memory_order_release);
    const char* from = reinterpret_cast<const char*>(&sample);
    for (size_t i = 0; i < kWords; ++i) {
      uint64_t word = 0;
      std::memcpy(&word, from + i * sizeof word, sizeof word);
      words[i].store(word, std::memory_order_relaxed);
    }
    sequence.store(odd + 1, std::memory_order_release);
  }
};
static_assert(sizeof(Page) <= kPageBytes && std::atomic<uint64_t>::is_always_lock_free);
static_assert(sizeof(std::atomic<uint64_t>) == sizeof(uint64_t));

}  // namespace flexlom::live
