// The state of flexlom in one process: made at the first CUDA call that needs it, never undone.
//
// `runtime()` is null when there is nothing to do but forward: before the driver is there, when
// FLEXLOM_DISABLE is set, and in a child forked after that state was made (CUDA does not work
// there, and our locks may be held by threads that do not exist in it). The pointer lives on a page
// that the kernel wipes in children, so the check also covers a bare clone() and costs one load.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <vector>

#include "interpose/captures.h"
#include "interpose/green_contexts.h"
#include "interpose/guard/guard.h"
#include "interpose/guard/stacks.h"
#include "interpose/ipc/exporter.h"
#include "interpose/ipc/importer.h"
#include "interpose/launch_trace.h"
#include "interpose/listener.h"
#include "interpose/live/publisher.h"
#include "interpose/memory_pools.h"
#include "interpose/options.h"
#include "interpose/program_frames.h"
#include "interpose/program_maps.h"
#include "interpose/real_driver.h"
#include "interpose/sampler.h"
#include "pool/pool.h"

namespace flexlom {

class Runtime {
 public:
  explicit Runtime(Options options);

  // The current context and its device; an error exactly when cuCtxGetCurrent gives one, and
  // CUDA_ERROR_INVALID_CONTEXT when there is no current context. Of a green context it is the
  // primary one, which memory belongs to; `own`: the current one itself.
  CUresult current(CUcontext* context, int* device, CUcontext* own = nullptr) noexcept;
  // A context ended: cached answers about it are void, and while its handle is current (before it
  // comes to life again) calls are the driver's to answer.
  void context_ended(CUcontext context) noexcept;
  void context_born(CUcontext context) noexcept;
  bool destroyed_context_is_current() noexcept;
  // Cached answers about the current context are void.
  static void forget_current() noexcept;
  // For pool::Request::caller_trims: null unless a caching allocator that trims itself is loaded.
  bool (*trimming_caller() noexcept)();
  // Exit handlers run: from now on the driver may be gone. Its answer when it is, else SUCCESS.
  void exiting() noexcept { exiting_.store(true, std::memory_order_relaxed); }
  CUresult driver_gone() const noexcept;
  // Writes the last records and the summary. Once, at the end of the process.
  void finish() noexcept;

  const Options options;
  RealDriver driver;
  Listener listener;
  live::Publisher publisher;                  // used by the pool's keeper
  const std::unique_ptr<guard::Guard> guard;  // null: not in guard mode
  guard::NamedStacks guard_stacks;
  pool::Pool pool;
  ProgramFrames program_frames{pool};
  ProgramMaps program_maps{pool};
  Captures captures{pool.fence()};
  GreenContexts green_contexts;
  MemoryPools memory_pools;
  Sampler sampler;
  LaunchTrace launches;
  ipc::Exporter exporter{pool};
  ipc::Importer importer{driver};

 private:
  void look_for_caching_allocator() noexcept;

  std::atomic<bool> soft_oom_{false};
  std::mutex mutex_;  // guards ended_
  std::vector<CUcontext> ended_;
  std::atomic<bool> any_ended_{false};
  std::atomic<bool> exiting_{false};
};

namespace detail {
struct WipedPage {
  std::atomic<Runtime*> armed;
};
extern std::atomic<WipedPage*> page;
Runtime* arm() noexcept;
}  // namespace detail

inline Runtime* runtime() noexcept {
  const detail::WipedPage* p = detail::page.load(std::memory_order_acquire);
  if (p != nullptr) [[likely]] {
    if (Runtime* r = p->armed.load(std::memory_order_acquire)) [[likely]]
      return r;
  }
  return detail::arm();
}

// Marks this thread as inside the pool: a driver call made from there (by an allocation hook of the
// program, say) is forwarded, because our locks are held.
class InsidePool {
 public:
  InsidePool() noexcept { ++depth_; }
  ~InsidePool() { --depth_; }
  static bool already() noexcept { return depth_ > 0; }

 private:
  static constinit thread_local int depth_ __attribute__((tls_model("initial-exec")));
};

}  // namespace flexlom
