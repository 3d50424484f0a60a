#include "interpose/guard/contents.h"

#include <sched.h>
#include <time.h>

#include <algorithm>
#include <cstring>

#include "interpose/doors/gate.h"
#include "interpose/doors/originals.h"
#include "pool/guard.h"
#include "pool/residency/gate.h"

namespace flexlom::guard {

namespace {

using pool::kGranule;

// Longer than any fill takes, so that only a device that somebody keeps for himself is given up on:
// memory on the host is filled over the link, with some ten bytes in a nanosecond or more.
constexpr uint64_t patience_ns(size_t bytes) { return 2'000'000'000 + bytes / 10; }

// The context is current, and no capture is disturbed, for as long as this lives.
class Quietly {
 public:
  explicit Quietly(CUcontext context) noexcept {
    const auto push = FLEXLOM_ORIGINAL(cuCtxPushCurrent_v2);
    const auto exchange = FLEXLOM_ORIGINAL(cuThreadExchangeStreamCaptureMode);
    if (push == nullptr || exchange == nullptr || push(context) != CUDA_SUCCESS) return;
    pushed_ = true;
    relaxed_ = exchange(&mode_) == CUDA_SUCCESS;
  }
  ~Quietly() {
    CUcontext popped = nullptr;
    if (relaxed_) FLEXLOM_ORIGINAL(cuThreadExchangeStreamCaptureMode)(&mode_);
    if (pushed_) FLEXLOM_ORIGINAL(cuCtxPopCurrent_v2)(&popped);
  }
  Quietly(const Quietly&) = delete;
  Quietly& operator=(const Quietly&) = delete;
  explicit operator bool() const noexcept { return relaxed_; }

 private:
  bool pushed_ = false, relaxed_ = false;
  CUstreamCaptureMode mode_ = CU_STREAM_CAPTURE_MODE_RELAXED;
};

CUresult wait(CUstream stream, size_t bytes) noexcept {
  const auto query = FLEXLOM_ORIGINAL(cuStreamQuery);
  const uint64_t start = pool::ThreadSync::now_ns();
  for (;;) {
    const CUresult r = query(stream);
    if (r != CUDA_ERROR_NOT_READY) return r;
    const uint64_t waited = pool::ThreadSync::now_ns() - start;
    if (waited > patience_ns(bytes)) return r;
    const timespec pause{0, 20'000};
    if (waited > 200'000) {
      nanosleep(&pause, nullptr);
    } else {
      sched_yield();
    }
  }
}

struct Gaps {
  CUdeviceptr before;      // up to base
  CUdeviceptr behind_end;  // from base + bytes on
  Gaps(CUdeviceptr base, size_t bytes)
      : before(std::max(base & ~CUdeviceptr{kGranule - 1},
                        base - std::min<CUdeviceptr>(base, Contents::kBefore_bytes))),
        behind_end((base + bytes + pool::kGuardAlignment - 1) &
                   ~CUdeviceptr{pool::kGuardAlignment - 1}) {}
};

// Fills [from, to), whose ends need not be whole words.
template <class Words, class Bytes>
CUresult fill_range(CUdeviceptr from, CUdeviceptr to, uint32_t pattern, Words words, Bytes single) {
  CUresult r = CUDA_SUCCESS;
  const auto note = [&](CUresult now) { r = r == CUDA_SUCCESS ? now : r; };
  const auto byte = [&](CUdeviceptr at) {
    note(single(at, static_cast<unsigned char>(pattern >> 8 * (at % 4))));
  };
  for (; from < to && from % 4 != 0; ++from) byte(from);
  const size_t count = (to - from) / 4;
  if (count > 0) note(words(from, pattern, count));
  for (from += count * 4; from < to; ++from) byte(from);
  return r;
}

}  // namespace

Contents::Lane* Contents::lane_of(CUcontext context) {
  const auto found = lanes_.find(context);
  if (found != lanes_.end()) {
    Lane& lane = found->second;
    if (lane.stuck && FLEXLOM_ORIGINAL(cuStreamQuery)(lane.stream) != CUDA_ERROR_NOT_READY)
      lane.stuck = false;
    return lane.stuck ? nullptr : &lane;
  }
  Lane lane;
  const auto create = FLEXLOM_ORIGINAL(cuStreamCreate);
  if (create == nullptr || create(&lane.stream, CU_STREAM_NON_BLOCKING) != CUDA_SUCCESS)
    return nullptr;
  return &lanes_.emplace(context, lane).first->second;
}

void Contents::leave(CUdeviceptr base) noexcept {
  try {
    std::lock_guard lock(left_mutex_);
    left_.insert(base);
  } catch (...) {
    // Without host memory a canary that was never there may be missed: a wrong report, no more.
  }
}

bool Contents::must_not_check(CUdeviceptr base) {
  std::lock_guard lock(left_mutex_);
  return left_.erase(base) > 0;
}

template <class Words, class Bytes>
CUresult Contents::fill_both(CUdeviceptr base, size_t bytes, Words words, Bytes single) const {
  const Gaps gaps(base, bytes);
  const doors::Submission submission;
  if (fill_) return fill_range(gaps.before, gaps.behind_end, pattern_, words, single);
  const CUresult r = fill_range(gaps.before, base, pattern_, words, single);
  return r == CUDA_SUCCESS ? fill_range(base + bytes, gaps.behind_end, pattern_, words, single) : r;
}

CUresult Contents::fill(CUcontext context, CUdeviceptr base, size_t bytes) noexcept {
  const auto words = FLEXLOM_ORIGINAL(cuMemsetD32Async);
  const auto single = FLEXLOM_ORIGINAL(cuMemsetD8Async);
  try {
    std::lock_guard lock(mutex_);
    const Quietly quietly(context);
    Lane* lane = quietly && words != nullptr && single != nullptr ? lane_of(context) : nullptr;
    if (lane == nullptr) {
      leave(base);
      return CUDA_SUCCESS;
    }
    CUresult r = fill_both(
        base, bytes,
        [&](CUdeviceptr p, uint32_t v, size_t n) { return words(p, v, n, lane->stream); },
        [&](CUdeviceptr p, unsigned char v) { return single(p, v, 1, lane->stream); });
    if (r != CUDA_SUCCESS) leave(base);
    const CUresult waited = wait(lane->stream, bytes);
    lane->stuck = waited == CUDA_ERROR_NOT_READY;
    return waited != CUDA_SUCCESS ? waited : r;
  } catch (...) {
    leave(base);
    return CUDA_SUCCESS;
  }
}

void Contents::fill_in_order(CUdeviceptr base, size_t bytes, CUstream stream,
                             bool per_thread) noexcept {
  const auto words = per_thread ? FLEXLOM_ORIGINAL_AS(cuMemsetD32Async_ptsz, cuMemsetD32Async)
                                : FLEXLOM_ORIGINAL(cuMemsetD32Async);
  const auto single = per_thread ? FLEXLOM_ORIGINAL_AS(cuMemsetD8Async_ptsz, cuMemsetD8Async)
                                 : FLEXLOM_ORIGINAL(cuMemsetD8Async);
  if (words == nullptr || single == nullptr) return leave(base);
  const CUresult r = fill_both(
      base, bytes, [&](CUdeviceptr p, uint32_t v, size_t n) { return words(p, v, n, stream); },
      [&](CUdeviceptr p, unsigned char v) { return single(p, v, 1, stream); });
  if (r != CUDA_SUCCESS) leave(base);
}

std::optional<Damage> Contents::check(CUcontext context, CUdeviceptr base, size_t bytes,
                                      CUresult* error) noexcept {
  const auto copy = FLEXLOM_ORIGINAL(cuMemcpyDtoHAsync_v2);
  const Gaps gaps(base, bytes);
  const CUdeviceptr end = base + bytes;
  if (must_not_check(base)) return std::nullopt;
  if (copy == nullptr || (gaps.before == base && gaps.behind_end == end)) return std::nullopt;
  try {
    std::lock_guard lock(mutex_);
    if (ended_.contains(context)) return std::nullopt;
    const Quietly quietly(context);
    Lane* lane = quietly ? lane_of(context) : nullptr;
    if (lane == nullptr) return std::nullopt;
    const CUstream stream = lane->stream;
    // Static: when the copy is given up on it may still arrive.
    static unsigned char host[kBefore_bytes + pool::kGuardAlignment];
    const size_t before = base - gaps.before, behind = gaps.behind_end - end;
    *error = before > 0 ? copy(host, gaps.before, before, stream) : CUDA_SUCCESS;
    if (*error == CUDA_SUCCESS && behind > 0) *error = copy(host + before, end, behind, stream);
    if (*error == CUDA_SUCCESS) *error = wait(stream, kBefore_bytes);
    lane->stuck = *error == CUDA_ERROR_NOT_READY;
    if (*error != CUDA_SUCCESS) return std::nullopt;
    Damage damage;
    const auto look = [&](const unsigned char* seen, CUdeviceptr from, size_t count,
                          CUdeviceptr origin) {
      for (size_t i = 0; i < count; ++i) {
        const CUdeviceptr at = from + i;
        if (seen[i] == static_cast<unsigned char>(pattern_ >> 8 * (at % 4))) continue;
        damage.last = static_cast<int64_t>(at) - static_cast<int64_t>(origin);
        if (damage.bytes++ == 0) {
          damage.first = damage.last;
          damage.shown = static_cast<unsigned>(std::min<size_t>(count - i, sizeof damage.found));
          std::memcpy(damage.found, seen + i, damage.shown);
        }
      }
      return damage.bytes > 0;
    };
    damage.behind = look(host + before, end, behind, end);
    if (damage.behind || look(host, gaps.before, before, base)) return damage;
    return std::nullopt;
  } catch (...) {
    return std::nullopt;
  }
}

bool Contents::is_pattern(const void* host, CUdeviceptr from, size_t bytes) const noexcept {
  const auto* seen = static_cast<const unsigned char*>(host);
  for (size_t i = 0; i < bytes; ++i) {
    if (seen[i] != static_cast<unsigned char>(pattern_ >> 8 * ((from + i) % 4))) return false;
  }
  return bytes >= sizeof pattern_;
}

void Contents::context_ended(CUcontext context) noexcept {
  try {
    std::lock_guard lock(mutex_);
    ended_.insert(context);
    const auto found = lanes_.find(context);
    if (found == lanes_.end()) return;
    const CUstream stream = found->second.stream;
    lanes_.erase(found);
    const Quietly quietly(context);
    if (quietly) FLEXLOM_ORIGINAL(cuStreamDestroy_v2)(stream);
  } catch (...) {
  }
}

void Contents::context_born(CUcontext context) noexcept {
  std::lock_guard lock(mutex_);
  ended_.erase(context);
}

}  // namespace flexlom::guard
