#include "tests/simcuda/stream.hpp"

#include <signal.h>

#include <algorithm>
#include <system_error>
#include <thread>
#include <unordered_set>

#include "tests/simcuda/capture.hpp"
#include "tests/simcuda/event.hpp"
#include "tests/simcuda/thread_state.hpp"

namespace flexlom::sim {
namespace {

std::unordered_set<Stream*>& live_streams() {  // guarded by submit_lock
  static auto* const all = new std::unordered_set<Stream*>;
  return *all;
}

// The program's signals are for its own threads; a fault of a kernel is the exception.
void block_signals() {
  sigset_t all;
  sigfillset(&all);
  for (int fault : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP, SIGSYS})
    sigdelset(&all, fault);
  pthread_sigmask(SIG_BLOCK, &all, nullptr);
}

void work(StreamRef stream) {
  block_signals();
  for (;;) {
    Operation operation;
    {
      std::unique_lock lock(stream->queue_lock);
      stream->queue_changed.wait(lock, [&] { return !stream->queue.empty() || stream->closing; });
      if (stream->queue.empty()) return;
      operation = std::move(stream->queue.front());
      stream->queue.pop_front();
    }
    wait_all(operation.after);
    if (operation.run) operation.run();
    operation.run = nullptr;  // what it held is given back before anyone sees it as done
    operation.completion->finish();
  }
}

void end_thread(Stream& stream) {
  std::lock_guard guard(stream.queue_lock);
  stream.closing = true;
  stream.queue_changed.notify_all();
}

// Its work still runs to the end, and the NULL stream still waits for it.
void destroy(Stream& stream) {
  stream.destroyed = true;
  live_streams().erase(&stream);
  end_thread(stream);
}

void forget_finished(Context& context) {
  std::erase_if(context.streams, [](const StreamRef& s) {
    return s->destroyed && (!s->last || s->last->is_done());
  });
}

StreamRef thread_stream(Context& context) {
  StreamRef& stream = this_thread().streams[&context];
  bool usable = false;
  if (stream) {
    std::lock_guard guard(state().submit_lock);
    usable = !stream->destroyed;
  }
  if (!usable) {
    stream = new_stream(context, 0, 0);
    stream->per_thread = true;
  }
  return stream;
}

}  // namespace

ThreadState::~ThreadState() {
  if (phase() != Phase::running) return;
  std::lock_guard guard(state().submit_lock);
  for (auto& [context, stream] : streams)
    if (!stream->destroyed) destroy(*stream);
}

void Completion::finish() {
  time_ns.store(now_ns(), std::memory_order_relaxed);
  done.store(1, std::memory_order_release);
  done.notify_all();
}

StreamRef new_stream(Context& context, unsigned flags, int priority) {
  auto stream = std::make_shared<Stream>();
  stream->context = &context;
  stream->flags = flags;
  stream->priority = priority;
  stream->id = state().next_id++;
  std::lock_guard guard(state().submit_lock);
  forget_finished(context);
  context.streams.push_back(stream);
  live_streams().insert(stream.get());
  return stream;
}

StreamRef stream_of(const Call& c, CUstream handle) {
  if (handle == CU_STREAM_PER_THREAD || (!handle && c.per_thread))
    return thread_stream(current_stream_context());
  if (!handle || handle == CU_STREAM_LEGACY) {
    Context& context = current_stream_context();
    std::lock_guard guard(state().submit_lock);
    require(context.legacy != nullptr, CUDA_ERROR_CONTEXT_IS_DESTROYED);
    return context.legacy;
  }
  auto* stream = reinterpret_cast<Stream*>(handle);
  std::lock_guard guard(state().submit_lock);
  require(live_streams().contains(stream), CUDA_ERROR_INVALID_HANDLE);
  return stream->shared_from_this();
}

Completions pending(const Stream& stream) {
  Completions list;
  if (stream.last && !stream.last->is_done()) list.push_back(stream.last);
  if (!stream.legacy) return list;
  for (const StreamRef& other : stream.context->streams)
    if (other->blocking() && other->last && !other->last->is_done()) list.push_back(other->last);
  return list;
}

void wait_all(const Completions& completions) {
  for (const auto& completion : completions) completion->wait();
}

std::shared_ptr<Completion> enqueue(Stream& stream, std::function<void()> run, Completions after) {
  // Its thread may have ended already: the context went away between the look-up and here.
  require(!stream.destroyed, CUDA_ERROR_CONTEXT_IS_DESTROYED);
  if (stream.legacy) {
    for (auto& completion : pending(stream)) after.push_back(completion);
  } else if (stream.blocking() && stream.context->legacy) {
    const auto& legacy = stream.context->legacy->last;
    if (legacy && !legacy->is_done()) after.push_back(legacy);
  }
  std::lock_guard guard(stream.queue_lock);
  if (!stream.started) {
    try {
      std::thread(work, stream.shared_from_this()).detach();
    } catch (const std::system_error&) {
      fail(CUDA_ERROR_OUT_OF_MEMORY);
    }
    stream.started = true;
  }
  stream.last = std::make_shared<Completion>();
  stream.queue.push_back({std::move(after), std::move(run), stream.last});
  stream.queue_changed.notify_one();
  return stream.last;
}

void submit(Stream& stream, Task task) {
  std::lock_guard guard(state().submit_lock);
  if (record_in_capture(stream, task)) return;
  enqueue(stream, [task = std::move(task)] { run(task); }, {});
}

void submit_and_wait(Stream& stream, Task task) {
  std::shared_ptr<Completion> completion;
  {
    std::lock_guard guard(state().submit_lock);
    refuse_if_capturing(stream);
    record_in_capture(stream, task);  // throws when the NULL stream would wait for a capture
    completion = enqueue(stream, [task = std::move(task)] { run(task); }, {});
  }
  completion->wait();
}

void synchronize(Stream& stream) {
  Completions list;
  {
    std::lock_guard guard(state().submit_lock);
    refuse_if_capturing(stream);
    list = pending(stream);
  }
  wait_all(list);
}

std::vector<StreamRef> all_streams(const Context& context) {
  std::vector<StreamRef> list = context.streams;
  for (const Context* green : context.green)
    list.insert(list.end(), green->streams.begin(), green->streams.end());
  return list;
}

void drain(Context& context) {
  Completions list;
  {
    std::lock_guard guard(state().submit_lock);
    for (const StreamRef& stream : all_streams(context))
      if (stream->last) list.push_back(stream->last);
    forget_finished(context);
  }
  wait_all(list);
}

void open_streams(Context& context) {
  StreamRef legacy = new_stream(context, 0, 0);
  std::lock_guard guard(state().submit_lock);
  legacy->legacy = true;
  context.legacy = legacy;
}

void close_streams(Context& context) {
  drain(context);
  std::lock_guard guard(state().submit_lock);
  for (const StreamRef& stream : context.streams)
    if (!stream->destroyed) destroy(*stream);
  context.streams.clear();
  context.legacy.reset();
}

namespace {

CUresult create(CUstream* out, unsigned flags, int priority) {
  require(out && (flags & ~static_cast<unsigned>(CU_STREAM_NON_BLOCKING)) == 0);
  *out = handle_of(new_stream(current_stream_context(), flags, std::clamp(priority, -5, 0)).get());
  return CUDA_SUCCESS;
}
CUresult stream_create(Call&, CUstream* out, unsigned flags) { return create(out, flags, 0); }
CUresult stream_create_with_priority(Call&, CUstream* out, unsigned flags, int priority) {
  return create(out, flags, priority);
}

CUresult stream_destroy(Call& c, CUstream handle) {
  require(handle && handle != CU_STREAM_LEGACY && handle != CU_STREAM_PER_THREAD,
          CUDA_ERROR_INVALID_HANDLE);
  StreamRef stream = stream_of(c, handle);
  std::lock_guard guard(state().submit_lock);
  require(!stream->destroyed && !stream->per_thread, CUDA_ERROR_INVALID_HANDLE);
  abandon_capture(*stream);
  destroy(*stream);
  forget_finished(*stream->context);
  return CUDA_SUCCESS;
}

CUresult stream_synchronize(Call& c, CUstream handle) {
  StreamRef stream = stream_of(c, handle);
  refuse_unsafe_in_capture();
  synchronize(*stream);
  return CUDA_SUCCESS;
}

CUresult stream_query(Call& c, CUstream handle) {
  StreamRef stream = stream_of(c, handle);
  refuse_unsafe_in_capture();
  std::lock_guard guard(state().submit_lock);
  refuse_if_capturing(*stream);
  return pending(*stream).empty() ? CUDA_SUCCESS : CUDA_ERROR_NOT_READY;
}

CUresult stream_wait_event(Call& c, CUstream handle, CUevent event, unsigned) {
  StreamRef stream = stream_of(c, handle);
  std::shared_ptr<Event> awaited = event_of(event);
  std::lock_guard guard(state().submit_lock);
  if (wait_in_capture(*stream, *awaited)) return CUDA_SUCCESS;
  Completions after;
  for (const auto& completion : awaited->completions)
    if (!completion->is_done()) after.push_back(completion);
  if (!after.empty()) enqueue(*stream, {}, std::move(after));
  return CUDA_SUCCESS;
}

CUresult stream_get_priority(Call& c, CUstream handle, int* out) {
  require(out);
  *out = stream_of(c, handle)->priority;
  return CUDA_SUCCESS;
}
CUresult stream_get_flags(Call& c, CUstream handle, unsigned* out) {
  require(out);
  *out = stream_of(c, handle)->flags;
  return CUDA_SUCCESS;
}
CUresult stream_get_id(Call& c, CUstream handle, unsigned long long* out) {
  require(out);
  *out = stream_of(c, handle)->id;
  return CUDA_SUCCESS;
}
CUresult stream_get_ctx(Call& c, CUstream handle, CUcontext* out) {
  require(out);
  *out = handle_of(stream_of(c, handle)->context);
  return CUDA_SUCCESS;
}
CUresult stream_get_ctx_v2(Call& c, CUstream handle, CUcontext* out, CUgreenCtx* green) {
  require(out);
  Context* context = stream_of(c, handle)->context;
  if (green) *green = context->parent ? reinterpret_cast<CUgreenCtx>(context) : nullptr;
  *out = context->parent && green ? nullptr : handle_of(context);
  return CUDA_SUCCESS;
}
CUresult stream_get_device(Call& c, CUstream handle, CUdevice* out) {
  require(out);
  *out = stream_of(c, handle)->context->device;
  return CUDA_SUCCESS;
}
CUresult stream_get_green_ctx(Call& c, CUstream handle, CUgreenCtx* out) {
  require(out);
  Context* context = stream_of(c, handle)->context;
  *out = context->parent ? reinterpret_cast<CUgreenCtx>(context) : nullptr;
  return CUDA_SUCCESS;
}

CUresult stream_copy_attributes(Call& c, CUstream to, CUstream from) {
  StreamRef source = stream_of(c, from);
  StreamRef target = stream_of(c, to);
  std::lock_guard guard(state().submit_lock);
  target->access_policy = source->access_policy;
  return CUDA_SUCCESS;
}
CUresult stream_get_attribute(Call& c, CUstream handle, CUstreamAttrID id, CUstreamAttrValue* out) {
  require(out);
  StreamRef stream = stream_of(c, handle);
  std::lock_guard guard(state().submit_lock);
  *out = {};
  if (id == CU_LAUNCH_ATTRIBUTE_ACCESS_POLICY_WINDOW)
    out->accessPolicyWindow = stream->access_policy;
  if (id == CU_LAUNCH_ATTRIBUTE_SYNCHRONIZATION_POLICY) out->syncPolicy = CU_SYNC_POLICY_AUTO;
  if (id == CU_LAUNCH_ATTRIBUTE_PRIORITY) out->priority = stream->priority;
  return CUDA_SUCCESS;
}
CUresult stream_set_attribute(Call& c, CUstream handle, CUstreamAttrID id,
                              const CUstreamAttrValue* value) {
  require(value);
  StreamRef stream = stream_of(c, handle);
  std::lock_guard guard(state().submit_lock);
  if (id == CU_LAUNCH_ATTRIBUTE_ACCESS_POLICY_WINDOW)
    stream->access_policy = value->accessPolicyWindow;
  return CUDA_SUCCESS;
}
CUresult stream_attach_mem(Call& c, CUstream handle, CUdeviceptr, size_t, unsigned) {
  stream_of(c, handle);
  return CUDA_SUCCESS;
}

CUresult ctx_get_stream_priority_range(Call&, int* least, int* greatest) {
  current_context();
  if (least) *least = 0;
  if (greatest) *greatest = -5;
  return CUDA_SUCCESS;
}

}  // namespace
}  // namespace flexlom::sim

using namespace flexlom::sim;
SIM_EXPORT(cuStreamCreate, stream_create);
SIM_EXPORT(cuStreamCreateWithPriority, stream_create_with_priority);
SIM_EXPORT(cuStreamDestroy, stream_destroy);
SIM_EXPORT(cuStreamDestroy_v2, stream_destroy);
SIM_EXPORT_PTSZ(cuStreamSynchronize, stream_synchronize);
SIM_EXPORT_PTSZ(cuStreamQuery, stream_query);
SIM_EXPORT_PTSZ(cuStreamWaitEvent, stream_wait_event);
SIM_EXPORT_PTSZ(cuStreamGetPriority, stream_get_priority);
SIM_EXPORT_PTSZ(cuStreamGetFlags, stream_get_flags);
SIM_EXPORT_PTSZ(cuStreamGetId, stream_get_id);
SIM_EXPORT_PTSZ(cuStreamGetCtx, stream_get_ctx);
SIM_EXPORT_PTSZ(cuStreamGetCtx_v2, stream_get_ctx_v2);
SIM_EXPORT_PTSZ(cuStreamGetDevice, stream_get_device);
SIM_EXPORT(cuStreamGetGreenCtx, stream_get_green_ctx);
SIM_EXPORT_PTSZ(cuStreamCopyAttributes, stream_copy_attributes);
SIM_EXPORT_PTSZ(cuStreamGetAttribute, stream_get_attribute);
SIM_EXPORT_PTSZ(cuStreamSetAttribute, stream_set_attribute);
SIM_EXPORT_PTSZ(cuStreamAttachMemAsync, stream_attach_mem);
SIM_EXPORT(cuCtxGetStreamPriorityRange, ctx_get_stream_priority_range);
