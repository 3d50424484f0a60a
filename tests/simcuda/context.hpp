// Contexts and the calling thread's stack of them.
#pragma once
#include <atomic>
#include <map>
#include <memory>
#include <set>
#include <vector>

#include "tests/simcuda/state.hpp"

namespace flexlom::sim {

struct Stream;

// Never deleted, so that a stale handle is answered with CONTEXT_IS_DESTROYED instead of a crash.
// A primary context comes back to life under the same handle.
struct Context {
  int device = 0;
  bool primary = false;
  uint64_t id = 0;
  std::atomic<bool> alive{false};
  std::atomic<unsigned> flags{0};
  unsigned attachments = 0;                      // guarded by context_lock: cuCtxAttach
  std::set<Context*> peers;                      // guarded by context_lock
  std::map<CUlimit, size_t> limits;              // guarded by context_lock
  std::shared_ptr<Stream> legacy;                // guarded by submit_lock: the NULL stream
  std::vector<std::shared_ptr<Stream>> streams;  // guarded by submit_lock: all, legacy included
};

Context* new_primary_context(int device);

// The calling thread's context; throws INVALID_CONTEXT or CONTEXT_IS_DESTROYED.
Context& current_context();
Context* current_context_or_null();
// A handle that the program gave; throws INVALID_CONTEXT.
Context& context_of(CUcontext handle);
inline CUcontext handle_of(Context* context) { return reinterpret_cast<CUcontext>(context); }

// Waits for all work of the context that was submitted before the call.
void drain(Context& context);

}  // namespace flexlom::sim
