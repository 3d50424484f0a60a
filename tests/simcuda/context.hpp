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
  Context* parent = nullptr;  // of a green context: the primary one, which owns all but streams
  uint64_t id = 0;
  std::atomic<bool> alive{false};
  std::atomic<unsigned> flags{0};
  unsigned attachments = 0;                      // guarded by context_lock: cuCtxAttach
  std::set<Context*> green;                      // guarded by submit_lock: living ones
  std::set<Context*> peers;                      // guarded by context_lock
  std::map<CUlimit, size_t> limits;              // guarded by context_lock
  std::shared_ptr<Stream> legacy;                // guarded by submit_lock: the NULL stream
  std::vector<std::shared_ptr<Stream>> streams;  // guarded by submit_lock: all, legacy included
};

Context* new_primary_context(int device);
Context* new_green_context(Device& device);
void end_green_context(Context& context);  // no longer alive
inline Context& owner_of(Context& context) { return context.parent ? *context.parent : context; }

// The calling thread's context, of a green one the primary: what memory, events and modules belong
// to. Throws INVALID_CONTEXT or CONTEXT_IS_DESTROYED.
Context& current_context();
// The one that is current itself, which has the default streams.
Context& current_stream_context();
Context* current_context_or_null();
// A handle that the program gave; throws INVALID_CONTEXT.
Context& context_of(CUcontext handle);
inline CUcontext handle_of(Context* context) { return reinterpret_cast<CUcontext>(context); }

// Waits for all work of the context, and of its green ones, that was submitted before the call.
void drain(Context& context);

}  // namespace flexlom::sim
