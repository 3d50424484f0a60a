// Stream-ordered allocation (CUDA Driver API 6.15). Plain device pools are served from our pages;
// pools with handle types or other locations, and allocations inside a capture (which are graph
// nodes), stay the driver's.
#include <atomic>

#include "interpose/hooks/common.h"

namespace flexlom {

pool::StreamKey stream_key(CUstream stream, bool per_thread) noexcept {
  const auto raw = reinterpret_cast<uint64_t>(stream);
  constexpr uint64_t kThreadStream = uint64_t{1} << 63;
  if (raw == reinterpret_cast<uint64_t>(CU_STREAM_PER_THREAD) || (raw == 0 && per_thread)) {
    return kThreadStream | doors::slot();
  }
  return raw == 0 ? reinterpret_cast<uint64_t>(CU_STREAM_LEGACY) : raw;
}

namespace {

// Legacy-stream work is ordered with all blocking streams, never with per-thread keys reused by a
// later thread: slots are unique per thread for the life of the process.

bool capturing(Runtime& rt, CUstream stream, bool per_thread) {
  if (!rt.pool.fence().capture_open()) return false;
  CUstreamCaptureStatus status = CU_STREAM_CAPTURE_STATUS_NONE;
  const CUresult r = per_thread ? FORWARD_TWIN(Entry::cuStreamIsCapturing_ptsz, cuStreamIsCapturing,
                                               stream, &status)
                                : FORWARD(cuStreamIsCapturing, stream, &status);
  return r != CUDA_SUCCESS || status != CU_STREAM_CAPTURE_STATUS_NONE;
}

// A bogus stream is the driver's to refuse.
bool stream_exists(CUstream stream, bool per_thread) {
  if (stream == nullptr) return true;
  unsigned int flags = 0;
  const CUresult r =
      per_thread ? FORWARD_TWIN(Entry::cuStreamGetFlags_ptsz, cuStreamGetFlags, stream, &flags)
                 : FORWARD(cuStreamGetFlags, stream, &flags);
  return r == CUDA_SUCCESS;
}

bool is_handle(CUstream stream) {
  return stream != nullptr && stream != CU_STREAM_LEGACY && stream != CU_STREAM_PER_THREAD;
}

// The default streams of two contexts are two streams, of the same name. The first context's keep
// theirs.
pool::StreamKey order_key(CUcontext context, CUstream stream, bool per_thread) {
  const pool::StreamKey key = stream_key(stream, per_thread);
  if (is_handle(stream)) return key;
  static std::atomic<CUcontext> first{nullptr};
  CUcontext known = first.load(std::memory_order_relaxed);
  if (known == nullptr && first.compare_exchange_strong(known, context)) known = context;
  if (known == context) return key;
  // No handle is odd, nor as large as a mix with a slot in it.
  const auto raw = reinterpret_cast<uint64_t>(context);
  return key == reinterpret_cast<uint64_t>(CU_STREAM_LEGACY)
             ? raw | 1
             : key ^ (raw * 0x9e3779b97f4a7c15u & ~(uint64_t{1} << 63));
}

// The memory is the stream's device's, whatever context is current.
void go_by_stream(Runtime& rt, CUstream stream, pool::Request* request) {
  CUcontext context = nullptr;
  if (!is_handle(stream) || rt.pool.fence().contexts() < 2 ||
      FORWARD(cuStreamGetCtx, stream, &context) != CUDA_SUCCESS || context == request->context)
    return;
  context = rt.green_contexts.owner_of(stream, context);
  request->context = context;
  request->device = rt.pool.fence().add_context(context);
}

CUresult allocate(Runtime* rt, const char* call, CUdeviceptr* out, size_t bytes, CUmemoryPool from,
                  CUstream stream, bool per_thread) {
  if (rt == nullptr || out == nullptr || bytes == 0) return CUDA_ERROR_NOT_SUPPORTED;
  pool::Request request;
  CUcontext own = nullptr;  // a green context has default streams of its own
  if (rt->current(&request.context, &request.device, &own) != CUDA_SUCCESS)
    return CUDA_ERROR_NOT_SUPPORTED;
  if (capturing(*rt, stream, per_thread)) return CUDA_ERROR_NOT_SUPPORTED;
  if (!stream_exists(stream, per_thread)) return CUDA_ERROR_NOT_SUPPORTED;
  go_by_stream(*rt, stream, &request);
  const CUmemoryPool current = rt->memory_pools.current(request.device);
  request.mem_pool = from != nullptr ? from : current;
  // A pool of another device, or one that the driver keeps.
  if (rt->memory_pools.device_of(request.mem_pool) != request.device)
    return CUDA_ERROR_NOT_SUPPORTED;
  if (rt->pool.fence().context_broken()) return CUDA_ERROR_NOT_SUPPORTED;
  const CUresult refused = refused_by_capture(*rt);
  if (refused != CUDA_SUCCESS) return refused;
  request.call = call;
  request.bytes = bytes;
  request.kind = pool::Kind::async;
  // PyTorch's allocator of stream-ordered memory does not ask again.
  if (rt->options.soft_oom == SoftOom::on) request.caller_trims = rt->trimming_caller();
  request.stream = order_key(own, stream, per_thread);
  InsidePool inside;
  const stacks::Caller caller(rt->listener.stacks());
  if (rt->pool.device(request.device) == nullptr) return CUDA_ERROR_NOT_SUPPORTED;
  if (rt->listener.tracing()) rt->listener.request(request);
  const CUresult r = rt->pool.allocate(request, doors::slot(), out);
  if (r == CUDA_SUCCESS && rt->guard != nullptr)
    rt->guard->contents().fill_in_order(*out, bytes, stream, per_thread);
  if (r != CUDA_SUCCESS) {
    *out = 0;
    rt->listener.explain_last_oom();
  }
  return r;
}

// NOT_SUPPORTED: not ours, the driver's to do.
CUresult release(Runtime* rt, const char* call, CUdeviceptr p, CUstream stream, bool per_thread) {
  if (rt == nullptr || rt->pool.owner(p) == nullptr) return CUDA_ERROR_NOT_SUPPORTED;
  CUcontext context = nullptr, own = nullptr;
  int device = 0;
  const CUresult r = rt->current(&context, &device, &own);
  if (r == CUDA_ERROR_DEINITIALIZED) rt->listener.freed_too_late(p);
  // Only the default streams need a context.
  if (r != CUDA_SUCCESS && (r != CUDA_ERROR_INVALID_CONTEXT || !is_handle(stream))) return r;
  if (capturing(*rt, stream, per_thread)) return CUDA_ERROR_INVALID_VALUE;
  if (!stream_exists(stream, per_thread)) return CUDA_ERROR_INVALID_HANDLE;
  const CUresult refused = refused_by_capture(*rt);
  if (refused != CUDA_SUCCESS) return refused;
  InsidePool inside;
  const stacks::Caller caller(rt->listener.stacks());
  const CUresult freed = rt->pool.free(call, p, order_key(own, stream, per_thread));
  if (freed != CUDA_SUCCESS && rt->guard != nullptr) rt->guard->refused_free(call, p);
  return freed;
}

}  // namespace

namespace own {

CUresult cuMemAllocAsync(CUdeviceptr* out, size_t bytes, CUstream stream) {
  Runtime* rt = enter(Entry::cuMemAllocAsync);
  const CUresult r = allocate(rt, "cuMemAllocAsync", out, bytes, nullptr, stream, false);
  return r != CUDA_ERROR_NOT_SUPPORTED ? r : FORWARD(cuMemAllocAsync, out, bytes, stream);
}

CUresult cuMemAllocAsync_ptsz(CUdeviceptr* out, size_t bytes, CUstream stream) {
  Runtime* rt = enter(Entry::cuMemAllocAsync_ptsz);
  const CUresult r = allocate(rt, "cuMemAllocAsync_ptsz", out, bytes, nullptr, stream, true);
  if (r != CUDA_ERROR_NOT_SUPPORTED) return r;
  return FORWARD_TWIN(Entry::cuMemAllocAsync_ptsz, cuMemAllocAsync, out, bytes, stream);
}

CUresult cuMemAllocFromPoolAsync(CUdeviceptr* out, size_t bytes, CUmemoryPool pool,
                                 CUstream stream) {
  Runtime* rt = enter(Entry::cuMemAllocFromPoolAsync);
  CUresult r = CUDA_ERROR_NOT_SUPPORTED;
  if (pool != nullptr) r = allocate(rt, "cuMemAllocFromPoolAsync", out, bytes, pool, stream, false);
  return r != CUDA_ERROR_NOT_SUPPORTED ? r
                                       : FORWARD(cuMemAllocFromPoolAsync, out, bytes, pool, stream);
}

CUresult cuMemAllocFromPoolAsync_ptsz(CUdeviceptr* out, size_t bytes, CUmemoryPool pool,
                                      CUstream stream) {
  Runtime* rt = enter(Entry::cuMemAllocFromPoolAsync_ptsz);
  CUresult r = CUDA_ERROR_NOT_SUPPORTED;
  if (pool != nullptr)
    r = allocate(rt, "cuMemAllocFromPoolAsync_ptsz", out, bytes, pool, stream, true);
  if (r != CUDA_ERROR_NOT_SUPPORTED) return r;
  return FORWARD_TWIN(Entry::cuMemAllocFromPoolAsync_ptsz, cuMemAllocFromPoolAsync, out, bytes,
                      pool, stream);
}

CUresult cuMemFreeAsync(CUdeviceptr p, CUstream stream) {
  const CUresult r = release(enter(Entry::cuMemFreeAsync), "cuMemFreeAsync", p, stream, false);
  return r != CUDA_ERROR_NOT_SUPPORTED ? r : FORWARD(cuMemFreeAsync, p, stream);
}

CUresult cuMemFreeAsync_ptsz(CUdeviceptr p, CUstream stream) {
  const CUresult r =
      release(enter(Entry::cuMemFreeAsync_ptsz), "cuMemFreeAsync_ptsz", p, stream, true);
  if (r != CUDA_ERROR_NOT_SUPPORTED) return r;
  return FORWARD_TWIN(Entry::cuMemFreeAsync_ptsz, cuMemFreeAsync, p, stream);
}

}  // namespace own
}  // namespace flexlom
