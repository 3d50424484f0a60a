// What a thread has of its own. Lives until the thread ends, except on the main thread, where exit
// handlers may still call the driver: there it is never destroyed.
#pragma once
#include <map>
#include <vector>

#include "tests/simcuda/stream.hpp"

namespace flexlom::sim {

struct ThreadState {
  std::vector<Context*> contexts;         // the stack; the last is current
  std::map<Context*, StreamRef> streams;  // default streams, one for each context used
  CUstreamCaptureMode capture_mode = CU_STREAM_CAPTURE_MODE_GLOBAL;
  std::vector<CUgraphNode> capture_front;  // what the last cuStreamGetCaptureInfo returned
  ~ThreadState();                          // ends the default streams
};
ThreadState& this_thread();

}  // namespace flexlom::sim
