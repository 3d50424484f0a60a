#include "tests/simcuda/event.hpp"

#include <algorithm>
#include <unordered_map>

#include "tests/simcuda/capture.hpp"

namespace flexlom::sim {

namespace {
std::unordered_map<CUevent, std::shared_ptr<Event>>& live_events() {  // guarded by submit_lock
  static auto* const all = new std::unordered_map<CUevent, std::shared_ptr<Event>>;
  return *all;
}
}  // namespace

std::shared_ptr<Event> event_of(CUevent handle) {
  std::lock_guard guard(state().submit_lock);
  const auto found = live_events().find(handle);
  require(found != live_events().end(), CUDA_ERROR_INVALID_HANDLE);
  return found->second;
}

void record_now(Event& event) {
  auto completion = std::make_shared<Completion>();
  completion->finish();
  std::lock_guard guard(state().submit_lock);
  event.recorded = true;
  event.completions = {completion};
}

void wait_for(Event& event) {
  Completions list;
  {
    std::lock_guard guard(state().submit_lock);
    list = event.completions;
  }
  wait_all(list);
}

namespace {

CUresult event_create(Call&, CUevent* out, unsigned flags) {
  constexpr unsigned known =
      CU_EVENT_BLOCKING_SYNC | CU_EVENT_DISABLE_TIMING | CU_EVENT_INTERPROCESS;
  require(out && (flags & ~known) == 0);
  require(!(flags & CU_EVENT_INTERPROCESS) || (flags & CU_EVENT_DISABLE_TIMING));
  auto event = std::make_shared<Event>();
  event->context = &current_context();
  event->flags = flags;
  *out = reinterpret_cast<CUevent>(event.get());
  std::lock_guard guard(state().submit_lock);
  live_events()[*out] = std::move(event);
  return CUDA_SUCCESS;
}

CUresult event_destroy(Call&, CUevent handle) {
  std::lock_guard guard(state().submit_lock);
  require(live_events().erase(handle) == 1, CUDA_ERROR_INVALID_HANDLE);
  return CUDA_SUCCESS;
}

CUresult record(Call& c, CUevent handle, CUstream stream_handle) {
  std::shared_ptr<Event> event = event_of(handle);
  StreamRef stream = stream_of(c, stream_handle);
  require(event->context == &owner_of(*stream->context), CUDA_ERROR_INVALID_HANDLE);
  std::lock_guard guard(state().submit_lock);
  if (record_event_in_capture(*stream, *event)) return CUDA_SUCCESS;
  event->recorded = true;
  event->capture.reset();
  event->capture_nodes.clear();
  event->completions = {enqueue(*stream, {}, {})};
  return CUDA_SUCCESS;
}
CUresult record_with_flags(Call& c, CUevent handle, CUstream stream_handle, unsigned flags) {
  require((flags & ~1u) == 0);
  if (flags == CU_EVENT_RECORD_EXTERNAL) {
    StreamRef stream = stream_of(c, stream_handle);
    std::shared_ptr<Event> event = event_of(handle);
    bool capturing;
    {
      std::lock_guard guard(state().submit_lock);
      capturing = stream->capture != nullptr;
    }
    if (capturing) {
      submit(*stream, EventRecordTask{event});
      return CUDA_SUCCESS;
    }
  }
  return record(c, handle, stream_handle);
}

}  // namespace

// Covers what every stream of the context holds now. Breaks captures: see cuCtxSynchronize.
CUresult ctx_record_event(Call&, CUcontext context_handle, CUevent handle) {
  Context& context = context_handle ? context_of(context_handle) : current_stream_context();
  require(context.alive, CUDA_ERROR_CONTEXT_IS_DESTROYED);
  std::shared_ptr<Event> event = event_of(handle);
  require(event->context == &owner_of(context), CUDA_ERROR_INVALID_HANDLE);
  refuse_during_any_capture(context);
  std::lock_guard guard(state().submit_lock);
  Completions list;
  for (const StreamRef& stream : all_streams(context))
    if (stream->last && !stream->last->is_done()) list.push_back(stream->last);
  if (list.empty()) {
    list.push_back(std::make_shared<Completion>());
    list.back()->finish();
  }
  event->recorded = true;
  event->capture.reset();
  event->completions = std::move(list);
  return CUDA_SUCCESS;
}

CUresult ctx_wait_event(Call&, CUcontext context_handle, CUevent handle) {
  Context& context = context_handle ? context_of(context_handle) : current_stream_context();
  std::shared_ptr<Event> event = event_of(handle);
  refuse_during_any_capture(context);
  std::lock_guard guard(state().submit_lock);
  for (const StreamRef& stream : all_streams(context))
    if (!stream->destroyed) enqueue(*stream, {}, event->completions);
  return CUDA_SUCCESS;
}

namespace {

bool all_done(const Event& event) {
  return std::all_of(event.completions.begin(), event.completions.end(),
                     [](const auto& completion) { return completion->is_done(); });
}

CUresult event_query(Call&, CUevent handle) {
  std::shared_ptr<Event> event = event_of(handle);
  refuse_unsafe_in_capture();
  std::lock_guard guard(state().submit_lock);
  refuse_captured(*event);
  return all_done(*event) ? CUDA_SUCCESS : CUDA_ERROR_NOT_READY;
}

CUresult event_synchronize(Call&, CUevent handle) {
  std::shared_ptr<Event> event = event_of(handle);
  refuse_unsafe_in_capture();
  Completions list;
  {
    std::lock_guard guard(state().submit_lock);
    refuse_captured(*event);
    list = event->completions;
  }
  wait_all(list);
  return CUDA_SUCCESS;
}

CUresult event_elapsed_time(Call&, float* out, CUevent from, CUevent to) {
  require(out);
  std::shared_ptr<Event> first = event_of(from);
  std::shared_ptr<Event> second = event_of(to);
  require(!((first->flags | second->flags) & CU_EVENT_DISABLE_TIMING), CUDA_ERROR_INVALID_HANDLE);
  std::lock_guard guard(state().submit_lock);
  refuse_captured(*first);
  refuse_captured(*second);
  require(first->recorded && second->recorded, CUDA_ERROR_INVALID_HANDLE);
  require(all_done(*first) && all_done(*second), CUDA_ERROR_NOT_READY);
  const auto time_of = [](const Event& event) {
    uint64_t latest = 0;
    for (const auto& completion : event.completions)
      latest = std::max(latest, completion->time_ns.load(std::memory_order_relaxed));
    return latest;
  };
  *out = static_cast<float>(static_cast<double>(static_cast<int64_t>(time_of(*second)) -
                                                static_cast<int64_t>(time_of(*first))) /
                            1e6);
  return CUDA_SUCCESS;
}

}  // namespace
}  // namespace flexlom::sim

using namespace flexlom::sim;
SIM_EXPORT(cuEventCreate, event_create);
SIM_EXPORT(cuEventDestroy, event_destroy);
SIM_EXPORT(cuEventDestroy_v2, event_destroy);
SIM_EXPORT_PTSZ(cuEventRecord, record);
SIM_EXPORT_PTSZ(cuEventRecordWithFlags, record_with_flags);
SIM_EXPORT(cuEventQuery, event_query);
SIM_EXPORT(cuEventSynchronize, event_synchronize);
SIM_EXPORT(cuEventElapsedTime, event_elapsed_time);
SIM_EXPORT(cuEventElapsedTime_v2, event_elapsed_time);
SIM_EXPORT(cuCtxRecordEvent, ctx_record_event);
SIM_EXPORT(cuCtxWaitEvent, ctx_wait_event);
