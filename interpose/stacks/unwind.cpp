#include "interpose/stacks/unwind.h"

#include <dlfcn.h>
#include <pthread.h>
#include <signal.h>
#include <time.h>
#include <unwind.h>

#include <atomic>

namespace flexlom::stacks {
namespace {

struct StackBounds {
  uintptr_t low, high;  // both 0: not asked yet; both 1: not known
};
thread_local StackBounds bounds __attribute__((tls_model("initial-exec"))) = {0, 0};

void find_bounds() noexcept {
  bounds = {1, 1};
  pthread_attr_t attributes;
  if (pthread_getattr_np(pthread_self(), &attributes) != 0) return;
  void* low = nullptr;
  size_t size = 0;
  if (pthread_attr_getstack(&attributes, &low, &size) == 0 && size > 0) {
    const auto begin = reinterpret_cast<uintptr_t>(low);
    bounds = {begin, begin + size};
  }
  pthread_attr_destroy(&attributes);
}

// Where this library lies, from the linker.
extern "C" __attribute__((visibility("hidden"))) const char __ehdr_start[];
extern "C" __attribute__((visibility("hidden"))) const char _end[];

using Backtrace = int (*)(void**, int);
std::atomic<Backtrace> backtrace_of_libunwind{nullptr};

enum class Opening { not_begun, begun, failed, done };
std::atomic<Opening> opening{Opening::not_begun};

void* open_on_its_thread(void*) noexcept {
  // libunwind.so.8 is the part that looks at its own process. The name with the architecture is
  // for looking at others, and has what is needed only where a distribution made them one.
  for (const char* name : {"libunwind.so.8", "libunwind-x86_64.so.8"}) {
    void* library = dlopen(name, RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr) continue;
    // LLVM has a library of the same name without these.
    void* const local = dlsym(library, "_ULx86_64_step");
    void* const walk = dlsym(library, "unw_backtrace");
    if (local == nullptr || walk == nullptr) continue;
    backtrace_of_libunwind.store(reinterpret_cast<Backtrace>(walk), std::memory_order_release);
    opening.store(Opening::done, std::memory_order_release);
    return nullptr;
  }
  opening.store(Opening::failed, std::memory_order_release);
  return nullptr;
}

}  // namespace

bool is_own_code(uintptr_t address) noexcept {
  return address >= reinterpret_cast<uintptr_t>(__ehdr_start) &&
         address < reinterpret_cast<uintptr_t>(_end);
}

// Its own frame is the beginning of the chain, so it must have one. The words it reads are not
// objects that a sanitizer knows.
__attribute__((noinline, no_sanitize("address", "thread"))) size_t walk_frame_pointers(
    uintptr_t* out, size_t most) noexcept {
  if (bounds.high == 0) find_bounds();
  auto frame = reinterpret_cast<uintptr_t>(__builtin_frame_address(0));
  const bool known = frame >= bounds.low && frame < bounds.high;
  const uintptr_t high = known ? bounds.high : UINTPTR_MAX;
  size_t count = 0;
  while (count < most) {
    const auto* words = reinterpret_cast<const uintptr_t*>(frame);
    const uintptr_t next = words[0], address = words[1];
    constexpr uintptr_t kFirstPage = 4096, kUserEnd = uintptr_t{1} << 47;
    if (address < kFirstPage || address >= kUserEnd) break;
    out[count++] = address;
    // On a stack that is not the thread's (a coroutine's, a signal handler's) nothing is known of
    // what lies above; the frames of this library are there in any case, and its caller's address.
    if (!known && !is_own_code(address)) break;
    if (next <= frame || next > high - 2 * sizeof(uintptr_t) || next % sizeof(uintptr_t) != 0)
      break;
    frame = next;
  }
  return count;
}

__attribute__((noinline)) size_t walk_tables(uintptr_t* out, size_t most) noexcept {
  const Backtrace walk = backtrace_of_libunwind.load(std::memory_order_acquire);
  if (walk == nullptr) return 0;
  static_assert(sizeof(void*) == sizeof(uintptr_t));
  const int count = walk(reinterpret_cast<void**>(out), static_cast<int>(most));
  return count > 0 ? static_cast<size_t>(count) : 0;
}

__attribute__((noinline)) size_t walk_slowly(uintptr_t* out, size_t most) noexcept {
  struct Walk {
    uintptr_t* out;
    size_t most, count;
    bool own;  // the frame of this function, which comes first
  } walk{out, most, 0, true};
  const auto step = [](_Unwind_Context* frame, void* of) {
    auto* const w = static_cast<Walk*>(of);
    const auto address = static_cast<uintptr_t>(_Unwind_GetIP(frame));
    if (w->count == w->most || address == 0) return _URC_END_OF_STACK;
    if (!w->own) w->out[w->count++] = address;
    w->own = false;
    return _URC_NO_REASON;
  };
  _Unwind_Backtrace(step, &walk);
  return walk.count;
}

const char* open_libunwind() noexcept {
  Opening before = Opening::not_begun;
  if (opening.compare_exchange_strong(before, Opening::begun)) {
    pthread_attr_t attributes;
    pthread_t thread;
    sigset_t all, mask;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &mask);
    const bool started = pthread_attr_init(&attributes) == 0 &&
                         pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED) == 0 &&
                         pthread_create(&thread, &attributes, &open_on_its_thread, nullptr) == 0;
    pthread_sigmask(SIG_SETMASK, &mask, nullptr);
    if (!started) opening.store(Opening::failed, std::memory_order_release);
  }
  constexpr int kPatienceMs = 500;
  for (int i = 0; i < kPatienceMs * 10; ++i) {
    const Opening now = opening.load(std::memory_order_acquire);
    if (now == Opening::done) return nullptr;
    if (now == Opening::failed)
      return "libunwind.so.8 is not there or not usable (Debian, Ubuntu: apt install libunwind8; "
             "Fedora: dnf install libunwind)";
    const timespec pause{0, 100'000};
    nanosleep(&pause, nullptr);
  }
  return "libunwind is still being opened, because a library is being loaded";
}

}  // namespace flexlom::stacks
