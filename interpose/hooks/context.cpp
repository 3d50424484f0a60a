// Contexts and streams: whose memory ends with them, and what a fence must cover.
#include "interpose/guard/doors.h"
#include "interpose/heat/layout.h"
#include "interpose/hooks/common.h"

namespace flexlom {

namespace {

bool primary_active(int device) {
  unsigned int flags = 0;
  int active = 0;
  return FORWARD(cuDevicePrimaryCtxGetState, device, &flags, &active) == CUDA_SUCCESS &&
         active != 0;
}

void born(Runtime* rt, CUresult r, CUcontext* context) {
  if (rt != nullptr && r == CUDA_SUCCESS && context != nullptr && *context != nullptr) {
    if (rt->guard != nullptr) rt->guard->contents().context_born(*context);
    rt->context_born(*context);
  }
}

// What we give back to the driver breaks nobody's capture. It may be that the context does not end.
class Relaxed {
 public:
  explicit Relaxed(bool captures) noexcept
      : on_(captures && FORWARD(cuThreadExchangeStreamCaptureMode, &mode_) == CUDA_SUCCESS) {}
  ~Relaxed() {
    if (on_) FORWARD(cuThreadExchangeStreamCaptureMode, &mode_);
  }
  Relaxed(const Relaxed&) = delete;
  Relaxed& operator=(const Relaxed&) = delete;

 private:
  CUstreamCaptureMode mode_ = CU_STREAM_CAPTURE_MODE_RELAXED;
  const bool on_;
};

// Our events and streams go first: a context with events left is kept half alive by the driver.
template <class Real, class Ended>
CUresult end(Runtime& rt, CUcontext context, Real real, Ended ended) {
  // Functions of modules go with the context, and their handles may come back as others'.
  heat::forget_handles();
  pool::Residency* residency = rt.pool.residency();
  std::unique_lock<std::mutex> no_moves;
  if (residency != nullptr && context != nullptr) {
    const InsidePool inside;
    const Relaxed relaxed(rt.pool.fence().capture_open());
    no_moves = std::unique_lock(residency->mover().mutex());
    residency->release_context(context);
    rt.sampler.release_context(context);
  }
  if (rt.guard != nullptr && context != nullptr) {
    const InsidePool inside;
    rt.guard->contents().context_ended(context);
  }
  const bool known = context != nullptr && rt.pool.fence().destroy_events(context);
  const CUresult r = real();
  if (known && r == CUDA_SUCCESS && ended()) {
    rt.captures.context_ended(context);
    rt.context_ended(context);
  } else if (known) {
    rt.pool.add_context(context);
    if (rt.guard != nullptr) rt.guard->contents().context_born(context);
  }
  return r;
}

template <class Real>
CUresult destroy(Entry entry, CUcontext context, Real real) {
  Runtime* rt = enter(entry);
  return rt != nullptr ? end(*rt, context, real, [] { return true; }) : real();
}

template <class Real>
CUresult end_primary(Entry entry, int device, Real real) {
  Runtime* rt = enter(entry);
  if (rt == nullptr) return real();
  return end(*rt, primary_context(device), real, [device] { return !primary_active(device); });
}

template <class Real>
CUresult synchronize(Entry entry, CUcontext given, Real real) {
  Runtime* rt = enter(entry);
  CUcontext context = given, owner = nullptr;
  int device = 0;
  // That a green context is idle proves nothing of the primary one.
  if (rt == nullptr ||
      (context == nullptr && rt->current(&owner, &device, &context) != CUDA_SUCCESS))
    return real();
  guard::Waiting waiting(entry, context);
  const uint64_t token = rt->pool.fence().before_synchronize();
  const uint64_t start_ns = rt->launches.on() ? pool::ThreadSync::now_ns() : 0;
  const CUresult r = real();
  if (start_ns != 0) rt->launches.waited(pool::ThreadSync::now_ns() - start_ns);
  rt->pool.fence().after_synchronize(context, token, r == CUDA_SUCCESS);
  waiting.done(r);
  return r;
}

template <class Real>
CUresult destroy_stream(Entry entry, CUstream stream, Real real) {
  Runtime* rt = enter(entry);
  if (rt == nullptr) return real();
  // Before: once destroyed, the handle may at once be another stream's.
  {
    InsidePool inside;
    rt->pool.forget_stream(stream_key(stream, false));
  }
  const pool::StreamKey key = stream_key(stream, false);
  const bool capturing = rt->pool.fence().capture_open();
  const CUresult r = real();
  // A capture that is destroyed with its stream has no end call.
  if (r == CUDA_SUCCESS && capturing) rt->captures.closed(key);
  return r;
}

}  // namespace

namespace own {

CUresult cuCtxDestroy(CUcontext context) {
  return destroy(Entry::cuCtxDestroy, context, [&] { return FORWARD(cuCtxDestroy, context); });
}
CUresult cuCtxDestroy_v2(CUcontext context) {
  return destroy(Entry::cuCtxDestroy_v2, context,
                 [&] { return FORWARD(cuCtxDestroy_v2, context); });
}
CUresult cuCtxDetach(CUcontext context) {
  return destroy(Entry::cuCtxDetach, context, [&] { return FORWARD(cuCtxDetach, context); });
}

CUresult cuDevicePrimaryCtxRelease(CUdevice device) {
  return end_primary(Entry::cuDevicePrimaryCtxRelease, device,
                     [&] { return FORWARD(cuDevicePrimaryCtxRelease, device); });
}
CUresult cuDevicePrimaryCtxRelease_v2(CUdevice device) {
  return end_primary(Entry::cuDevicePrimaryCtxRelease_v2, device,
                     [&] { return FORWARD(cuDevicePrimaryCtxRelease_v2, device); });
}
CUresult cuDevicePrimaryCtxReset(CUdevice device) {
  return end_primary(Entry::cuDevicePrimaryCtxReset, device,
                     [&] { return FORWARD(cuDevicePrimaryCtxReset, device); });
}
CUresult cuDevicePrimaryCtxReset_v2(CUdevice device) {
  return end_primary(Entry::cuDevicePrimaryCtxReset_v2, device,
                     [&] { return FORWARD(cuDevicePrimaryCtxReset_v2, device); });
}

CUresult cuDevicePrimaryCtxRetain(CUcontext* context, CUdevice device) {
  Runtime* rt = enter(Entry::cuDevicePrimaryCtxRetain);
  const CUresult r = FORWARD(cuDevicePrimaryCtxRetain, context, device);
  born(rt, r, context);
  return r;
}
CUresult cuCtxCreate_v2(CUcontext* context, unsigned int flags, CUdevice device) {
  Runtime* rt = enter(Entry::cuCtxCreate_v2);
  const CUresult r = FORWARD(cuCtxCreate_v2, context, flags, device);
  born(rt, r, context);
  return r;
}
CUresult cuCtxCreate_v3(CUcontext* context, CUexecAffinityParam* params, int count,
                        unsigned int flags, CUdevice device) {
  Runtime* rt = enter(Entry::cuCtxCreate_v3);
  const CUresult r = FORWARD(cuCtxCreate_v3, context, params, count, flags, device);
  born(rt, r, context);
  return r;
}
CUresult cuCtxCreate_v4(CUcontext* context, CUctxCreateParams* params, unsigned int flags,
                        CUdevice device) {
  Runtime* rt = enter(Entry::cuCtxCreate_v4);
  const CUresult r = FORWARD(cuCtxCreate_v4, context, params, flags, device);
  born(rt, r, context);
  return r;
}
CUresult cuGreenCtxCreate(CUgreenCtx* green, CUdevResourceDesc desc, CUdevice device,
                          unsigned int flags) {
  Runtime* rt = enter(Entry::cuGreenCtxCreate);
  const CUresult r = FORWARD(cuGreenCtxCreate, green, desc, device, flags);
  if (rt == nullptr || r != CUDA_SUCCESS) return r;
  rt->green_contexts.made();
  CUcontext primary = primary_context(device);
  born(rt, r, &primary);
  return r;
}
// It holds the primary context, which ends with it when nobody else does.
CUresult cuGreenCtxDestroy(CUgreenCtx green) {
  Runtime* rt = enter(Entry::cuGreenCtxDestroy);
  const auto real = [&] { return FORWARD(cuGreenCtxDestroy, green); };
  CUcontext context = nullptr;
  if (rt == nullptr || green == nullptr ||
      FORWARD(cuCtxFromGreenCtx, &context, green) != CUDA_SUCCESS)
    return real();
  const int device = rt->driver.device_of(context);
  const CUresult r =
      end(*rt, primary_context(device), real, [device] { return !primary_active(device); });
  if (r == CUDA_SUCCESS) {
    rt->captures.context_ended(context);
    Runtime::forget_current();
  }
  return r;
}

CUresult cuCtxSynchronize() {
  return synchronize(Entry::cuCtxSynchronize, nullptr, [] {
    const auto real = FLEXLOM_ORIGINAL(cuCtxSynchronize);
    return real != nullptr ? real() : CUDA_ERROR_NOT_SUPPORTED;
  });
}
CUresult cuCtxSynchronize_v2(CUcontext context) {
  return synchronize(Entry::cuCtxSynchronize_v2, context,
                     [&] { return FORWARD(cuCtxSynchronize_v2, context); });
}

// From now on kernels of the current context may reach the peer's memory: its pool pages too.
CUresult cuCtxEnablePeerAccess(CUcontext peer, unsigned int flags) {
  Runtime* rt = enter(Entry::cuCtxEnablePeerAccess);
  const CUresult r = FORWARD(cuCtxEnablePeerAccess, peer, flags);
  if (rt == nullptr || (r != CUDA_SUCCESS && r != CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED)) return r;
  CUcontext self = nullptr;
  int here = 0;
  if (rt->current(&self, &here) != CUDA_SUCCESS) return r;
  CUdevice there = 0;
  if (FORWARD(cuCtxPushCurrent_v2, peer) != CUDA_SUCCESS) return r;
  const CUresult found = FORWARD(cuCtxGetDevice, &there);
  pool::DevicePool* pool = nullptr;
  {
    InsidePool inside;
    if (found == CUDA_SUCCESS) pool = rt->pool.device(there);
  }
  CUcontext popped = nullptr;
  FORWARD(cuCtxPopCurrent_v2, &popped);
  InsidePool inside;
  if (pool != nullptr && there != here && pool->allow_access(here) != CUDA_SUCCESS) {
    rt->listener.warned("a peer could not be given access to pool pages");
  }
  return r;
}

CUresult cuStreamDestroy(CUstream stream) {
  return destroy_stream(Entry::cuStreamDestroy, stream,
                        [&] { return FORWARD(cuStreamDestroy, stream); });
}
CUresult cuStreamDestroy_v2(CUstream stream) {
  return destroy_stream(Entry::cuStreamDestroy_v2, stream,
                        [&] { return FORWARD(cuStreamDestroy_v2, stream); });
}

}  // namespace own
}  // namespace flexlom
