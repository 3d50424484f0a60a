#include "pool/residency/gate.h"

#include <linux/futex.h>
#include <linux/membarrier.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <climits>

namespace flexlom::pool {

namespace {
// After this a thread held at the gate looks again by itself: in a forked child, whose closer does
// not exist, nobody else would wake it.
constexpr long kLongestWait_ns = 50'000'000;
}  // namespace

void ThreadSync::wait(const Word& word, uint32_t seen) noexcept {
  const timespec limit{0, kLongestWait_ns};
  syscall(SYS_futex, reinterpret_cast<const uint32_t*>(&word), FUTEX_WAIT_PRIVATE, seen, &limit,
          nullptr, 0);
}

void ThreadSync::wake_all(const Word& word) noexcept {
  syscall(SYS_futex, reinterpret_cast<const uint32_t*>(&word), FUTEX_WAKE_PRIVATE, INT_MAX, nullptr,
          nullptr, 0);
}

bool ThreadSync::can_fence_everywhere() noexcept {
#ifdef __SANITIZE_THREAD__
  return false;  // it would not know what that orders
#else
  static const bool can =
      syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0) == 0;
  return can;
#endif
}

bool ThreadSync::fence_everywhere() noexcept {
  return syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0) == 0;
}

void ThreadSync::let_stores_arrive() noexcept {
  // They take less than a microsecond, and a thread that is taken off its processor takes none
  // along.
  const timespec pause{0, 10'000'000};
  nanosleep(&pause, nullptr);
}

}  // namespace flexlom::pool
