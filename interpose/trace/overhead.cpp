#include "interpose/trace/overhead.h"

#include <time.h>

namespace flexlom::trace {

constinit thread_local uint32_t Overhead::turn_ = Overhead::kEvery / 2;
constinit std::atomic<uint64_t> Overhead::timed_ns_{0};

uint64_t Overhead::now_ns() noexcept {
  timespec time{};
  clock_gettime(CLOCK_MONOTONIC, &time);
  return static_cast<uint64_t>(time.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(time.tv_nsec);
}

}  // namespace flexlom::trace
