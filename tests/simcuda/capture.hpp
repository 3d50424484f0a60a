// Stream capture: what a capturing stream records, and which calls break it.
#pragma once
#include <memory>
#include <thread>

#include "tests/simcuda/event.hpp"
#include "tests/simcuda/stream.hpp"

namespace flexlom::sim {

struct Graph;

struct Capture {
  std::shared_ptr<Graph> graph;
  bool into_given_graph = false;  // cuStreamBeginCaptureToGraph
  CUstreamCaptureMode mode = CU_STREAM_CAPTURE_MODE_GLOBAL;
  std::thread::id owner;
  Stream* origin = nullptr;
  uint64_t id = 0;
  bool invalid = false;  // guarded by submit_lock, as all of this
};

// A call that may not happen while a capture is open ("potentially unsafe"): cuMemAlloc, cuMemFree,
// synchronisation, legacy-stream copies. By the mode of the calling thread and of the open captures
// it is allowed, or throws STREAM_CAPTURE_UNSUPPORTED and invalidates those captures.
void refuse_unsafe_in_capture();
// The same for calls that break every capture of a context whatever the modes.
void refuse_during_any_capture(Context& context);

// All of the following are called with submit_lock held.

// True when the stream captures and the task became a node; throws when the capture is broken or
// when the NULL stream would have to wait for a capturing stream.
bool record_in_capture(Stream& stream, const Task& task);
bool record_event_in_capture(Stream& stream, Event& event);
// True when the wait became a dependency; a stream outside joins the capture of the event.
bool wait_in_capture(Stream& stream, Event& event);
void refuse_if_capturing(Stream& stream);  // breaks its capture
void refuse_captured(const Event& event);  // throws CAPTURED_EVENT
void abandon_capture(Stream& stream);      // the stream is destroyed

}  // namespace flexlom::sim
