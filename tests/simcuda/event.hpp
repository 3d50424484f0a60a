// Events: a set of completions. cuEventRecord makes it one, cuCtxRecordEvent one for each stream.
#pragma once
#include <memory>

#include "tests/simcuda/stream.hpp"

namespace flexlom::sim {

struct Event {
  Context* context = nullptr;
  unsigned flags = 0;
  // Guarded by submit_lock.
  bool recorded = false;
  Completions completions;
  std::shared_ptr<Capture> capture;  // last recorded in a capturing stream
  std::vector<Node*> capture_nodes;
};

std::shared_ptr<Event> event_of(CUevent handle);  // throws INVALID_HANDLE
// An event node of a running graph: completes now, on the stream thread.
void record_now(Event& event);
// Waits for what the event covers at this moment.
void wait_for(Event& event);
CUresult ctx_record_event(Call&, CUcontext context_handle, CUevent handle);
CUresult ctx_wait_event(Call&, CUcontext context_handle, CUevent handle);

}  // namespace flexlom::sim
