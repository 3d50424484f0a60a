// Stream capture: the pool must know, process-wide, whether one is open (law 3).
#include <algorithm>
#include <mutex>
#include <vector>

#include "interpose/hooks/common.h"

namespace flexlom {

namespace {

// Told to the fence before the driver opens the capture and after it closed it: in between nothing
// is recorded, because recording an event of the context would break it.
template <class Real>
CUresult begin(Entry entry, Real real) {
  Runtime* rt = enter(entry);
  if (rt != nullptr) {
    rt->pool.fence().capture_opening();
    InsidePool inside;
    if (pool::Residency* residency = rt->pool.residency()) residency->before_capture();
  }
  // A submission: while the gate is shut no capture opens.
  const doors::Submission submission;
  const CUresult r = real();
  if (rt != nullptr && r != CUDA_SUCCESS) rt->pool.fence().capture_closed();
  return r;
}

template <class Real>
CUresult end(Entry entry, CUstream stream, bool per_thread, Real real) {
  Runtime* rt = enter(entry);
  CUstreamCaptureStatus status = CU_STREAM_CAPTURE_STATUS_NONE;
  if (rt != nullptr) {
    if (per_thread) {
      FORWARD_TWIN(Entry::cuStreamIsCapturing_ptsz, cuStreamIsCapturing, stream, &status);
    } else {
      FORWARD(cuStreamIsCapturing, stream, &status);
    }
  }
  const doors::Submission submission;
  const CUresult r = real();
  // Ended, or found broken: either way this stream captures no more. A call from the wrong thread
  // or on a stream that was only drawn in leaves the capture open.
  const bool closed = status != CU_STREAM_CAPTURE_STATUS_NONE &&
                      r != CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD &&
                      r != CUDA_ERROR_STREAM_CAPTURE_UNMATCHED;
  if (rt != nullptr && closed) rt->pool.fence().capture_closed();
  return r;
}

}  // namespace

namespace own {

CUresult cuStreamBeginCapture(CUstream stream) {
  return begin(Entry::cuStreamBeginCapture, [&] { return FORWARD(cuStreamBeginCapture, stream); });
}
CUresult cuStreamBeginCapture_ptsz(CUstream stream) {
  return begin(Entry::cuStreamBeginCapture_ptsz, [&] {
    return FORWARD_TWIN(Entry::cuStreamBeginCapture_ptsz, cuStreamBeginCapture, stream);
  });
}
CUresult cuStreamBeginCapture_v2(CUstream stream, CUstreamCaptureMode mode) {
  return begin(Entry::cuStreamBeginCapture_v2,
               [&] { return FORWARD(cuStreamBeginCapture_v2, stream, mode); });
}
CUresult cuStreamBeginCapture_v2_ptsz(CUstream stream, CUstreamCaptureMode mode) {
  return begin(Entry::cuStreamBeginCapture_v2_ptsz, [&] {
    return FORWARD_TWIN(Entry::cuStreamBeginCapture_v2_ptsz, cuStreamBeginCapture_v2, stream, mode);
  });
}
CUresult cuStreamBeginCaptureToGraph(CUstream stream, CUgraph graph, const CUgraphNode* nodes,
                                     const CUgraphEdgeData* edges, size_t count,
                                     CUstreamCaptureMode mode) {
  return begin(Entry::cuStreamBeginCaptureToGraph, [&] {
    return FORWARD(cuStreamBeginCaptureToGraph, stream, graph, nodes, edges, count, mode);
  });
}
CUresult cuStreamBeginCaptureToGraph_ptsz(CUstream stream, CUgraph graph, const CUgraphNode* nodes,
                                          const CUgraphEdgeData* edges, size_t count,
                                          CUstreamCaptureMode mode) {
  return begin(Entry::cuStreamBeginCaptureToGraph_ptsz, [&] {
    return FORWARD_TWIN(Entry::cuStreamBeginCaptureToGraph_ptsz, cuStreamBeginCaptureToGraph,
                        stream, graph, nodes, edges, count, mode);
  });
}

CUresult cuStreamEndCapture(CUstream stream, CUgraph* graph) {
  return end(Entry::cuStreamEndCapture, stream, false,
             [&] { return FORWARD(cuStreamEndCapture, stream, graph); });
}
CUresult cuStreamEndCapture_ptsz(CUstream stream, CUgraph* graph) {
  return end(Entry::cuStreamEndCapture_ptsz, stream, true, [&] {
    return FORWARD_TWIN(Entry::cuStreamEndCapture_ptsz, cuStreamEndCapture, stream, graph);
  });
}

}  // namespace own
}  // namespace flexlom
