#include "pool/residency/fence.h"

#include <sched.h>
#include <time.h>

#include <algorithm>

namespace flexlom::pool {

namespace {

uint64_t now_ns() noexcept {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return static_cast<uint64_t>(t.tv_sec) * 1'000'000'000u + static_cast<uint64_t>(t.tv_nsec);
}

// Results after which a context runs nothing any more. Any other error may be the query's own and
// proves nothing about the work.
bool context_is_dead(CUresult r) noexcept {
  switch (r) {
    case CUDA_ERROR_DEINITIALIZED:
    case CUDA_ERROR_INVALID_CONTEXT:
    case CUDA_ERROR_CONTEXT_IS_DESTROYED:
    case CUDA_ERROR_ECC_UNCORRECTABLE:
    case CUDA_ERROR_NVLINK_UNCORRECTABLE:
    case CUDA_ERROR_ILLEGAL_ADDRESS:
    case CUDA_ERROR_LAUNCH_TIMEOUT:
    case CUDA_ERROR_ASSERT:
    case CUDA_ERROR_HARDWARE_STACK_ERROR:
    case CUDA_ERROR_ILLEGAL_INSTRUCTION:
    case CUDA_ERROR_MISALIGNED_ADDRESS:
    case CUDA_ERROR_INVALID_ADDRESS_SPACE:
    case CUDA_ERROR_INVALID_PC:
    case CUDA_ERROR_LAUNCH_FAILED:
      return true;
    default:
      return false;
  }
}

constexpr uint64_t kSpin_ns = 10'000'000;
// Beyond this many unfinished epochs a new one would only add queries.
constexpr size_t kMaxCuts = 64;

}  // namespace

uint64_t Fence::stamp() noexcept {
  // The word first, then the epochs: a cut bumps the open epoch before it clears the word, so
  // whoever sees the word cleared by a cut also sees that cut's epoch as not yet done.
  const bool idle = work_submitted_.load(std::memory_order_acquire) == 0;
  const uint64_t open = open_.load(std::memory_order_acquire);
  if (idle && done_.load(std::memory_order_acquire) == open - 1) return 0;
  if (!wanted_.load(std::memory_order_relaxed)) wanted_.store(true, std::memory_order_release);
  return open;
}

void Fence::advance() noexcept {
  std::lock_guard lock(mutex_);
  if (capture_open() || !dying_.empty()) return;
  poll();
  if (wanted_.load(std::memory_order_acquire) && cuts_.size() < kMaxCuts) {
    cut();
    poll();
  }
}

void Fence::mark() noexcept {
  static_cast<void>(stamp());
  advance();
}

bool Fence::wait(uint64_t epoch, uint64_t timeout_ns) noexcept {
  if (passed(epoch)) return true;
  const uint64_t start = now_ns();
  for (uint64_t round = 0;; ++round) {
    advance();
    if (passed(epoch)) return true;
    if (now_ns() - start >= timeout_ns) return false;
    if (capture_open() && round > 0) return false;
    // Short waits spin, because most kernels end within microseconds, and a sleep would be several
    // times longer than asked for; long ones give the core back.
    if (now_ns() - start > kSpin_ns) {
      const timespec pause{0, 20'000};
      nanosleep(&pause, nullptr);
    } else if (round > 64) {
      sched_yield();
    }
  }
}

uint64_t Fence::close_epoch() {
  const uint64_t epoch = open_.load(std::memory_order_relaxed);
  // Before the bump: a stamp of the next epoch that comes in between must find the word cleared,
  // and set it again. One of this epoch that sets it once more costs a cut too many.
  wanted_.store(false, std::memory_order_seq_cst);
  open_.store(epoch + 1, std::memory_order_seq_cst);
  work_submitted_.exchange(0, std::memory_order_seq_cst);
  if (heavy_fence_ != nullptr) heavy_fence_();
  return epoch;
}

void Fence::reopen() {
  work_submitted_.store(1, std::memory_order_release);
  wanted_.store(true, std::memory_order_release);
}

uint64_t Fence::before_synchronize() noexcept {
  std::lock_guard lock(mutex_);
  return close_epoch();
}

void Fence::after_synchronize(CUcontext context, uint64_t token, bool succeeded) noexcept {
  std::lock_guard lock(mutex_);
  if (!succeeded || !dying_.empty() || contexts_.size() > 1 ||
      (contexts_.size() == 1 && contexts_.front().context != context)) {
    // Other contexts may still be busy with work of that time: their events must prove it.
    reopen();
    return;
  }
  while (!cuts_.empty() && cuts_.front().epoch <= token) {
    recycle(cuts_.front());
    cuts_.pop_front();
  }
  if (done_.load(std::memory_order_relaxed) < token) done_.store(token, std::memory_order_release);
}

int Fence::add_context(CUcontext context) noexcept {
  std::lock_guard lock(mutex_);
  std::erase(dying_, context);
  for (const Known& known : contexts_) {
    if (known.context == context) return known.device;
  }
  contexts_.push_back({context, driver_.device_of(context)});
  context_count_.store(contexts_.size(), std::memory_order_relaxed);
  return contexts_.back().device;
}

CUcontext Fence::context_on(int device, CUcontext preferred) noexcept {
  std::lock_guard lock(mutex_);
  CUcontext found = nullptr;
  for (const Known& known : contexts_) {
    if (known.device != device) continue;
    if (known.context == preferred) return preferred;
    if (found == nullptr) found = known.context;
  }
  return found;
}

void Fence::remove_context(CUcontext context) noexcept {
  std::lock_guard lock(mutex_);
  std::erase_if(contexts_, [&](const Known& known) { return known.context == context; });
  context_count_.store(contexts_.size(), std::memory_order_relaxed);
  std::erase(dying_, context);
  broken_.store(false, std::memory_order_relaxed);
  std::erase_if(spare_, [&](const Mark& m) { return m.context == context; });
  for (Cut& cut : cuts_) {
    std::erase_if(cut.marks, [&](const Mark& m) { return m.context == context; });
  }
}

bool Fence::destroy_events(CUcontext context) noexcept {
  std::lock_guard lock(mutex_);
  if (std::erase_if(contexts_, [&](const Known& k) { return k.context == context; }) == 0)
    return false;
  context_count_.store(contexts_.size(), std::memory_order_relaxed);
  dying_.push_back(context);
  const auto destroy = [&](const Mark& m) {
    if (m.context != context) return false;
    driver_.event_destroy(context, m.event);
    return true;
  };
  std::erase_if(spare_, destroy);
  // A cut without this context's event would prove too much: it is dropped, and a later one must
  // do.
  bool dropped = false;
  std::erase_if(cuts_, [&](Cut& cut) {
    if (std::erase_if(cut.marks, destroy) == 0) return false;
    recycle(cut);
    dropped = true;
    return true;
  });
  if (dropped) reopen();
  return true;
}

void Fence::capture_opening() noexcept {
  captures_.fetch_add(1, std::memory_order_acq_rel);
  // A cut that was already recording must be over before the driver opens the capture.
  std::lock_guard lock(mutex_);
}

void Fence::capture_closed() noexcept { captures_.fetch_sub(1, std::memory_order_acq_rel); }

void Fence::cut() {
  Cut cut{close_epoch(), {}};
  bool proven = true;
  for (const auto& [context, device] : contexts_) {
    if (!driver_.has_context_events()) {
      if (driver_.synchronize(context) != CUDA_SUCCESS) proven = false;
      continue;
    }
    const CUevent event = take_event(context);
    if (event == nullptr) {
      proven = false;
      continue;
    }
    cut.marks.push_back({context, event});
    if (driver_.record(context, event) != CUDA_SUCCESS) proven = false;
  }
  if (proven) {
    cuts_.push_back(std::move(cut));
  } else {
    recycle(cut);
    reopen();
  }
}

void Fence::poll() {
  // Events of one context finish in order, so a finished cut proves all older ones too.
  size_t finished = 0;
  for (; finished < cuts_.size(); ++finished) {
    Cut& cut = cuts_[finished];
    std::erase_if(cut.marks, [&](const Mark& m) {
      const CUresult r = driver_.query(m.event);
      if (r != CUDA_SUCCESS && !context_is_dead(r)) return false;
      if (r != CUDA_SUCCESS) broken_.store(true, std::memory_order_relaxed);
      spare_.push_back(m);
      return true;
    });
    if (!cut.marks.empty()) break;
    done_.store(cut.epoch, std::memory_order_release);
  }
  cuts_.erase(cuts_.begin(), cuts_.begin() + static_cast<ptrdiff_t>(finished));
}

CUevent Fence::take_event(CUcontext context) {
  for (auto it = spare_.rbegin(); it != spare_.rend(); ++it) {
    if (it->context != context) continue;
    const CUevent event = it->event;
    spare_.erase(std::next(it).base());
    return event;
  }
  CUevent event = nullptr;
  return driver_.event_create(context, &event) == CUDA_SUCCESS ? event : nullptr;
}

void Fence::recycle(Cut& cut) {
  for (const Mark& m : cut.marks) spare_.push_back(m);
  cut.marks.clear();
}

}  // namespace flexlom::pool
