#include "tests/simcuda/capture.hpp"

#include <algorithm>

#include "tests/simcuda/copy.hpp"
#include "tests/simcuda/graph.hpp"
#include "tests/simcuda/thread_state.hpp"

namespace flexlom::sim {
namespace {

std::vector<std::shared_ptr<Capture>>& open_captures() {  // guarded by submit_lock
  static auto* const all = new std::vector<std::shared_ptr<Capture>>;
  return *all;
}
std::atomic<int> open_count{0};  // how many there are: lets most calls skip the lock

void forget(const std::shared_ptr<Capture>& capture) {
  std::erase(open_captures(), capture);
  open_count.store(static_cast<int>(open_captures().size()), std::memory_order_relaxed);
}

// Is this capture a reason to refuse an unsafe call of this thread?
bool forbids(const Capture& capture) {
  const CUstreamCaptureMode thread_mode = this_thread().capture_mode;
  if (capture.invalid || thread_mode == CU_STREAM_CAPTURE_MODE_RELAXED) return false;
  if (capture.owner == std::this_thread::get_id())
    return capture.mode != CU_STREAM_CAPTURE_MODE_RELAXED;
  return thread_mode == CU_STREAM_CAPTURE_MODE_GLOBAL &&
         capture.mode == CU_STREAM_CAPTURE_MODE_GLOBAL;
}

void check_valid(const Capture& capture) {
  require(!capture.invalid, CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
}

// A captured event belongs to an open capture; one from a capture that ended is dead.
bool still_open(const std::shared_ptr<Capture>& capture) {
  const auto& open = open_captures();
  return std::find(open.begin(), open.end(), capture) != open.end();
}

void add_front(Stream& stream, const std::vector<Node*>& nodes) {
  for (Node* node : nodes)
    if (std::find(stream.capture_front.begin(), stream.capture_front.end(), node) ==
        stream.capture_front.end())
      stream.capture_front.push_back(node);
}

}  // namespace

void refuse_unsafe_in_capture() {
  if (!open_count.load(std::memory_order_relaxed)) return;
  std::lock_guard guard(state().submit_lock);
  bool refused = false;
  for (const auto& capture : open_captures()) {
    if (!forbids(*capture)) continue;
    capture->invalid = true;
    refused = true;
  }
  require(!refused, CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
}

void refuse_during_any_capture(Context& context) {
  if (!open_count.load(std::memory_order_relaxed)) return;
  std::lock_guard guard(state().submit_lock);
  bool refused = false;
  for (const auto& capture : open_captures()) {
    if (capture->invalid || capture->origin->context != &context) continue;
    capture->invalid = true;
    refused = true;
  }
  require(!refused, CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
}

bool record_in_capture(Stream& stream, const Task& task) {
  if (!stream.capture) {
    if (!stream.legacy || !open_count.load(std::memory_order_relaxed)) return false;
    // Work on the NULL stream would have to wait for what the blocking streams only record.
    bool conflict = false;
    for (const StreamRef& other : stream.context->streams) {
      if (!other->blocking() || !other->capture || other->capture->invalid) continue;
      other->capture->invalid = true;
      conflict = true;
    }
    require(!conflict, CUDA_ERROR_STREAM_CAPTURE_IMPLICIT);
    return false;
  }
  check_valid(*stream.capture);
  Node* node = stream.capture->graph->add(task, stream.capture_front);
  note_places(node->task);
  stream.capture_front = {node};
  return true;
}

bool record_event_in_capture(Stream& stream, Event& event) {
  if (!stream.capture) return false;
  check_valid(*stream.capture);
  event.recorded = true;
  event.completions.clear();
  event.capture = stream.capture;
  event.capture_nodes = stream.capture_front;
  return true;
}

bool wait_in_capture(Stream& stream, Event& event) {
  if (stream.capture) check_valid(*stream.capture);
  if (event.capture && !still_open(event.capture)) {
    if (stream.capture) stream.capture->invalid = true;
    fail(CUDA_ERROR_CAPTURED_EVENT);
  }
  if (!event.capture) {
    if (!stream.capture) return false;
    if (!event.recorded) return true;
    stream.capture->invalid = true;
    fail(CUDA_ERROR_STREAM_CAPTURE_ISOLATION);
  }
  require(!stream.legacy, CUDA_ERROR_STREAM_CAPTURE_IMPLICIT);
  if (!stream.capture) {
    stream.capture = event.capture;
    stream.capture_front.clear();
  }
  require(stream.capture == event.capture, CUDA_ERROR_STREAM_CAPTURE_MERGE);
  add_front(stream, event.capture_nodes);
  return true;
}

void refuse_if_capturing(Stream& stream) {
  if (!stream.capture) return;
  check_valid(*stream.capture);
  stream.capture->invalid = true;
  fail(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
}

void refuse_captured(const Event& event) {
  if (!event.capture) return;
  event.capture->invalid = true;
  fail(CUDA_ERROR_CAPTURED_EVENT);
}

void abandon_capture(Stream& stream) {
  if (!stream.capture) return;
  stream.capture->invalid = true;
  if (stream.capture->origin == &stream) forget(stream.capture);
  stream.capture.reset();
}

namespace {

CUresult begin(Stream& stream, CUstreamCaptureMode mode, std::shared_ptr<Graph> graph,
               std::vector<Node*> front) {
  require(mode >= CU_STREAM_CAPTURE_MODE_GLOBAL && mode <= CU_STREAM_CAPTURE_MODE_RELAXED);
  require(!stream.legacy, CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
  require(!stream.capture, CUDA_ERROR_ILLEGAL_STATE);
  auto capture = std::make_shared<Capture>();
  capture->into_given_graph = graph != nullptr;
  capture->graph = graph ? std::move(graph) : std::make_shared<Graph>();
  capture->mode = mode;
  capture->owner = std::this_thread::get_id();
  capture->origin = &stream;
  capture->id = state().next_id++;
  stream.capture = capture;
  stream.capture_front = std::move(front);
  open_captures().push_back(capture);
  open_count.store(static_cast<int>(open_captures().size()), std::memory_order_relaxed);
  return CUDA_SUCCESS;
}

CUresult begin_capture_v2(Call& c, CUstream handle, CUstreamCaptureMode mode) {
  StreamRef stream = stream_of(c, handle);
  std::lock_guard guard(state().submit_lock);
  return begin(*stream, mode, nullptr, {});
}
CUresult begin_capture(Call& c, CUstream handle) {
  return begin_capture_v2(c, handle, CU_STREAM_CAPTURE_MODE_GLOBAL);
}
CUresult begin_capture_to_graph(Call& c, CUstream handle, CUgraph graph_handle,
                                const CUgraphNode* dependencies, const CUgraphEdgeData*,
                                size_t count, CUstreamCaptureMode mode) {
  StreamRef stream = stream_of(c, handle);
  std::lock_guard guard(state().submit_lock);
  std::shared_ptr<Graph> graph = graph_of(graph_handle);
  std::vector<Node*> front = nodes_of(*graph, dependencies, count);
  return begin(*stream, mode, std::move(graph), std::move(front));
}

// A forked stream is joined when each of its last nodes has a successor.
bool all_joined(const Capture& capture, const Stream& origin) {
  for (const StreamRef& other : origin.context->streams) {
    if (other.get() == &origin || other->capture.get() != &capture) continue;
    for (const Node* node : other->capture_front) {
      const bool in_origin = std::find(origin.capture_front.begin(), origin.capture_front.end(),
                                       node) != origin.capture_front.end();
      const auto& nodes = capture.graph->nodes;
      const bool has_successor = std::any_of(nodes.begin(), nodes.end(), [&](const auto& later) {
        return std::find(later->after.begin(), later->after.end(), node) != later->after.end();
      });
      if (!in_origin && !has_successor) return false;
    }
  }
  return true;
}

CUresult end_capture(Call& c, CUstream handle, CUgraph* out) {
  require(out);
  StreamRef stream = stream_of(c, handle);
  std::lock_guard guard(state().submit_lock);
  std::shared_ptr<Capture> capture = stream->capture;
  require(capture != nullptr, CUDA_ERROR_ILLEGAL_STATE);
  require(capture->origin == stream.get(), CUDA_ERROR_STREAM_CAPTURE_UNMATCHED);
  require(capture->mode == CU_STREAM_CAPTURE_MODE_RELAXED ||
              capture->owner == std::this_thread::get_id(),
          CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD);
  const bool joined = capture->invalid || all_joined(*capture, *stream);
  for (const StreamRef& other : stream->context->streams) {
    if (other->capture != capture) continue;
    other->capture.reset();
    other->capture_front.clear();
  }
  forget(capture);
  *out = nullptr;
  require(joined, CUDA_ERROR_STREAM_CAPTURE_UNJOINED);
  require(!capture->invalid, CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
  *out = capture->into_given_graph ? reinterpret_cast<CUgraph>(capture->graph.get())
                                   : publish(capture->graph);
  return CUDA_SUCCESS;
}

CUstreamCaptureStatus status_of(const Stream& stream) {
  if (!stream.capture) return CU_STREAM_CAPTURE_STATUS_NONE;
  return stream.capture->invalid ? CU_STREAM_CAPTURE_STATUS_INVALIDATED
                                 : CU_STREAM_CAPTURE_STATUS_ACTIVE;
}

CUresult is_capturing(Call& c, CUstream handle, CUstreamCaptureStatus* out) {
  require(out);
  StreamRef stream = stream_of(c, handle);
  std::lock_guard guard(state().submit_lock);
  *out = status_of(*stream);
  return CUDA_SUCCESS;
}

// The dependency array stays valid until the thread's next question, as the real one does until the
// stream's next use.
CUresult capture_info(Call& c, CUstream handle, CUstreamCaptureStatus* status, cuuint64_t* id,
                      CUgraph* graph, const CUgraphNode** dependencies,
                      const CUgraphEdgeData** edges, size_t* count) {
  require(status);
  std::vector<CUgraphNode>& handles = this_thread().capture_front;
  StreamRef stream = stream_of(c, handle);
  std::lock_guard guard(state().submit_lock);
  *status = status_of(*stream);
  if (edges) *edges = nullptr;
  if (*status != CU_STREAM_CAPTURE_STATUS_ACTIVE) return CUDA_SUCCESS;
  handles.clear();
  for (const Node* node : stream->capture_front) handles.push_back(handle_of(node));
  if (id) *id = stream->capture->id;
  if (graph) *graph = reinterpret_cast<CUgraph>(stream->capture->graph.get());
  if (dependencies) *dependencies = handles.data();
  if (count) *count = handles.size();
  return CUDA_SUCCESS;
}
CUresult get_capture_info(Call& c, CUstream handle, CUstreamCaptureStatus* status, cuuint64_t* id) {
  return capture_info(c, handle, status, id, nullptr, nullptr, nullptr, nullptr);
}
CUresult get_capture_info_v2(Call& c, CUstream handle, CUstreamCaptureStatus* status,
                             cuuint64_t* id, CUgraph* graph, const CUgraphNode** dependencies,
                             size_t* count) {
  return capture_info(c, handle, status, id, graph, dependencies, nullptr, count);
}

CUresult update_dependencies_v2(Call& c, CUstream handle, CUgraphNode* dependencies,
                                const CUgraphEdgeData*, size_t count, unsigned flags) {
  StreamRef stream = stream_of(c, handle);
  std::lock_guard guard(state().submit_lock);
  require(stream->capture != nullptr, CUDA_ERROR_ILLEGAL_STATE);
  check_valid(*stream->capture);
  std::vector<Node*> nodes = nodes_of(*stream->capture->graph, dependencies, count);
  if (flags == CU_STREAM_SET_CAPTURE_DEPENDENCIES) stream->capture_front.clear();
  add_front(*stream, nodes);
  return CUDA_SUCCESS;
}
CUresult update_dependencies(Call& c, CUstream handle, CUgraphNode* dependencies, size_t count,
                             unsigned flags) {
  return update_dependencies_v2(c, handle, dependencies, nullptr, count, flags);
}

CUresult exchange_mode(Call&, CUstreamCaptureMode* mode) {
  require(mode && *mode >= CU_STREAM_CAPTURE_MODE_GLOBAL &&
          *mode <= CU_STREAM_CAPTURE_MODE_RELAXED);
  std::swap(this_thread().capture_mode, *mode);
  return CUDA_SUCCESS;
}

}  // namespace
}  // namespace flexlom::sim

using namespace flexlom::sim;
SIM_EXPORT_PTSZ(cuStreamBeginCapture, begin_capture);
SIM_EXPORT_PTSZ(cuStreamBeginCapture_v2, begin_capture_v2);
SIM_EXPORT_PTSZ(cuStreamBeginCaptureToGraph, begin_capture_to_graph);
SIM_EXPORT_PTSZ(cuStreamEndCapture, end_capture);
SIM_EXPORT_PTSZ(cuStreamIsCapturing, is_capturing);
SIM_EXPORT_PTSZ(cuStreamGetCaptureInfo, get_capture_info);
SIM_EXPORT_PTSZ(cuStreamGetCaptureInfo_v2, get_capture_info_v2);
SIM_EXPORT_PTSZ(cuStreamGetCaptureInfo_v3, capture_info);
SIM_EXPORT_PTSZ(cuStreamUpdateCaptureDependencies, update_dependencies);
SIM_EXPORT_PTSZ(cuStreamUpdateCaptureDependencies_v2, update_dependencies_v2);
SIM_EXPORT(cuThreadExchangeStreamCaptureMode, exchange_mode);
