// Streams: one thread each, first in, first out, with real asynchrony. The NULL stream waits for
// the blocking streams of its context and they for it; per-thread default streams are blocking
// streams.
#pragma once
#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "tests/simcuda/context.hpp"
#include "tests/simcuda/task.hpp"

namespace flexlom::sim {

struct Capture;
struct Node;

// The end of one piece of work.
struct Completion {
  std::atomic<uint32_t> done{0};
  std::atomic<uint64_t> time_ns{0};
  bool is_done() const { return done.load(std::memory_order_acquire) != 0; }
  void wait() const { done.wait(0, std::memory_order_acquire); }
  void finish();
};
using Completions = std::vector<std::shared_ptr<Completion>>;

struct Operation {
  Completions after;
  std::function<void()> run;
  std::shared_ptr<Completion> completion;
};

struct Stream : std::enable_shared_from_this<Stream> {
  Context* context = nullptr;
  unsigned flags = 0;
  int priority = 0;
  uint64_t id = 0;
  bool legacy = false;
  bool per_thread = false;

  // Guarded by submit_lock.
  std::shared_ptr<Completion> last;
  bool destroyed = false;
  std::shared_ptr<Capture> capture;
  std::vector<Node*> capture_front;  // what the next captured node depends on
  CUaccessPolicyWindow access_policy{};

  bool blocking() const { return !legacy && !(flags & CU_STREAM_NON_BLOCKING); }

  std::mutex queue_lock;
  std::condition_variable queue_changed;
  std::deque<Operation> queue;  // guarded by queue_lock
  bool started = false;         // guarded by queue_lock: the thread exists
  bool closing = false;         // guarded by queue_lock: the thread ends when the queue is empty
};
using StreamRef = std::shared_ptr<Stream>;

// The stream a call means; the NULL stream depends on the twin that was called. Throws
// INVALID_HANDLE, INVALID_CONTEXT, CONTEXT_IS_DESTROYED.
StreamRef stream_of(const Call& c, CUstream handle);
inline CUstream handle_of(Stream* stream) { return reinterpret_cast<CUstream>(stream); }

StreamRef new_stream(Context& context, unsigned flags, int priority);

// Puts the task on the stream, or into the graph that the stream is capturing.
void submit(Stream& stream, Task task);
// Puts it on the stream and waits for it: the synchronous calls. Refused while the stream captures.
void submit_and_wait(Stream& stream, Task task);
// Calls with submit_lock held: always to the queue, capture or not.
std::shared_ptr<Completion> enqueue(Stream& stream, std::function<void()> run, Completions after);

// What must be done before "everything in this stream so far" is. Call with submit_lock held.
Completions pending(const Stream& stream);
void wait_all(const Completions& completions);
void synchronize(Stream& stream);
// Of the context and of its green ones. Call with submit_lock held.
std::vector<StreamRef> all_streams(const Context& context);

// The life of a context's streams.
void open_streams(Context& context);
void close_streams(Context& context);  // waits for their work; call without locks

}  // namespace flexlom::sim
