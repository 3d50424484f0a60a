// Stream capture: the pool must know, process-wide, whether one is open (law 3).
#include "interpose/hooks/common.h"

namespace flexlom {

namespace {

// Told to the fence before the driver opens the capture and after it closed it: in between nothing
// is recorded, because recording an event of the context would break it.
template <class Real>
CUresult begin(Entry entry, CUstream stream, bool per_thread, Real real) {
  Runtime* rt = enter(entry);
  CUcontext context = nullptr;
  if (rt != nullptr) {
    FORWARD(cuStreamGetCtx, stream, &context);
    rt->captures.opening();
    InsidePool inside;
    if (pool::Residency* residency = rt->pool.residency()) residency->before_capture();
  }
  // A submission: while the gate is shut no capture opens.
  const doors::Submission submission;
  const CUresult r = real();
  if (rt != nullptr)
    rt->captures.opened(stream_key(stream, per_thread), context, r == CUDA_SUCCESS);
  return r;
}

template <class Real>
CUresult end(Entry entry, CUstream stream, bool per_thread, Real real) {
  Runtime* rt = enter(entry);
  const doors::Submission submission;
  const CUresult r = real();
  // Ended, or found broken: either way this stream captures no more. A call from the wrong thread
  // leaves the capture open, and so does one on a stream that was only drawn in.
  const bool closed =
      r != CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD && r != CUDA_ERROR_STREAM_CAPTURE_UNMATCHED;
  if (rt != nullptr && closed) rt->captures.closed(stream_key(stream, per_thread));
  return r;
}

}  // namespace

namespace own {

CUresult cuStreamBeginCapture(CUstream stream) {
  return begin(Entry::cuStreamBeginCapture, stream, false,
               [&] { return FORWARD(cuStreamBeginCapture, stream); });
}
CUresult cuStreamBeginCapture_ptsz(CUstream stream) {
  return begin(Entry::cuStreamBeginCapture_ptsz, stream, true, [&] {
    return FORWARD_TWIN(Entry::cuStreamBeginCapture_ptsz, cuStreamBeginCapture, stream);
  });
}
CUresult cuStreamBeginCapture_v2(CUstream stream, CUstreamCaptureMode mode) {
  return begin(Entry::cuStreamBeginCapture_v2, stream, false,
               [&] { return FORWARD(cuStreamBeginCapture_v2, stream, mode); });
}
CUresult cuStreamBeginCapture_v2_ptsz(CUstream stream, CUstreamCaptureMode mode) {
  return begin(Entry::cuStreamBeginCapture_v2_ptsz, stream, true, [&] {
    return FORWARD_TWIN(Entry::cuStreamBeginCapture_v2_ptsz, cuStreamBeginCapture_v2, stream, mode);
  });
}
CUresult cuStreamBeginCaptureToGraph(CUstream stream, CUgraph graph, const CUgraphNode* nodes,
                                     const CUgraphEdgeData* edges, size_t count,
                                     CUstreamCaptureMode mode) {
  return begin(Entry::cuStreamBeginCaptureToGraph, stream, false, [&] {
    return FORWARD(cuStreamBeginCaptureToGraph, stream, graph, nodes, edges, count, mode);
  });
}
CUresult cuStreamBeginCaptureToGraph_ptsz(CUstream stream, CUgraph graph, const CUgraphNode* nodes,
                                          const CUgraphEdgeData* edges, size_t count,
                                          CUstreamCaptureMode mode) {
  return begin(Entry::cuStreamBeginCaptureToGraph_ptsz, stream, true, [&] {
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
