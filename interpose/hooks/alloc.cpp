// cuMemAlloc, cuMemAllocPitch, cuMemFree (CUDA Driver API 6.13).
#include <array>

#include "interpose/hooks/common.h"

namespace flexlom {

CUresult refused_by_capture(Runtime& runtime) noexcept {
  if (!runtime.pool.fence().capture_open()) [[likely]]
    return CUDA_SUCCESS;
  const auto exchange = FLEXLOM_ORIGINAL(cuThreadExchangeStreamCaptureMode);
  CUstreamCaptureMode mode = CU_STREAM_CAPTURE_MODE_RELAXED;
  if (exchange == nullptr || exchange(&mode) != CUDA_SUCCESS) return CUDA_SUCCESS;
  const bool relaxed = mode == CU_STREAM_CAPTURE_MODE_RELAXED;
  exchange(&mode);
  if (relaxed) return CUDA_SUCCESS;
  return FORWARD(cuMemFree_v2, CUdeviceptr{0});
}

namespace {

// Frees that arrived from inside the pool (an allocation hook of the program that frees device
// memory from within our own heap call): done by the next call that comes from outside.
std::array<std::atomic<CUdeviceptr>, 64> late_frees{};
std::atomic<unsigned> late_count{0};

bool free_later(CUdeviceptr p) {
  for (auto& slot : late_frees) {
    CUdeviceptr empty = 0;
    if (slot.compare_exchange_strong(empty, p)) {
      late_count.fetch_add(1);
      return true;
    }
  }
  return false;
}

void do_late_frees(Runtime& rt) {
  for (auto& slot : late_frees) {
    const CUdeviceptr p = slot.exchange(0);
    if (p == 0) continue;
    late_count.fetch_sub(1);
    rt.pool.free("cuMemFree_v2", p, 0);
  }
}

// The driver's pitch depends on the device alone for a given width: a multiple of the texture pitch
// unit that its own call uses. 512 on every device with VMM (confirmed by the conformance rows).
constexpr size_t kPitchUnit = 512;

// Guard mode. A fill that is not over in time may come later, over what the program writes: then
// the memory is left to it, and other memory is used as it is.
CUresult fill_new(Runtime& rt, const pool::Request& request, CUdeviceptr* out) {
  const CUresult r = rt.guard->contents().fill(request.context, *out, request.bytes);
  if (r != CUDA_ERROR_NOT_READY && !guard::is_fault(r)) return CUDA_SUCCESS;
  // With a stream, so that nothing is waited for.
  rt.pool.free(request.call, *out, reinterpret_cast<uint64_t>(CU_STREAM_LEGACY));
  rt.guard->answered(request.call, r);
  if (guard::is_fault(r)) return r;
  rt.listener.warned("guard: the device is too busy to fill new memory; it is used unfilled");
  const CUresult again = rt.pool.allocate(request, doors::slot(), out);
  if (again == CUDA_SUCCESS) rt.guard->contents().leave(*out);
  return again;
}

CUresult allocate(Runtime& rt, const char* call, pool::Kind kind, size_t bytes, CUdeviceptr* out) {
  pool::Request request;
  CUresult r = rt.current(&request.context, &request.device);
  if (r != CUDA_SUCCESS) return CUDA_ERROR_NOT_SUPPORTED;  // the driver says it better
  r = refused_by_capture(rt);
  if (r != CUDA_SUCCESS) return r;
  request.call = call;
  request.bytes = bytes;
  request.kind = kind;
  request.caller_trims = rt.trimming_caller();
  // A context that a kernel broke answers everything with the error that broke it.
  if (rt.pool.fence().context_broken()) [[unlikely]]
    return CUDA_ERROR_NOT_SUPPORTED;
  InsidePool inside;
  if (late_count.load(std::memory_order_relaxed) != 0) do_late_frees(rt);
  const stacks::Caller caller(rt.listener.stacks());
  if (rt.pool.device(request.device) == nullptr) return CUDA_ERROR_NOT_SUPPORTED;
  if (rt.listener.tracing()) rt.listener.request(request);
  r = rt.pool.allocate(request, doors::slot(), out);
  if (r == CUDA_SUCCESS && rt.guard != nullptr) [[unlikely]]
    r = fill_new(rt, request, out);
  if (r != CUDA_SUCCESS) {
    *out = 0;
    rt.listener.explain_last_oom();
  }
  return r;
}

}  // namespace

namespace own {

CUresult cuMemAlloc_v2(CUdeviceptr* out, size_t bytes) {
  Runtime* rt = enter(Entry::cuMemAlloc_v2);
  if (rt != nullptr && out != nullptr && bytes > 0) [[likely]] {
    const CUresult r = allocate(*rt, "cuMemAlloc_v2", pool::Kind::malloc_, bytes, out);
    if (r != CUDA_ERROR_NOT_SUPPORTED) return r;
  }
  return FORWARD(cuMemAlloc_v2, out, bytes);
}

CUresult cuMemAllocPitch_v2(CUdeviceptr* out, size_t* pitch, size_t width, size_t height,
                            unsigned int element_bytes) {
  Runtime* rt = enter(Entry::cuMemAllocPitch_v2);
  const bool plain = out != nullptr && pitch != nullptr && width > 0 && height > 0 &&
                     (element_bytes == 4 || element_bytes == 8 || element_bytes == 16);
  if (rt != nullptr && plain) {
    const size_t row = (width + kPitchUnit - 1) / kPitchUnit * kPitchUnit;
    size_t bytes = 0;
    // A product that overflows is an invalid value to the driver, which is left to say so.
    if (row >= width && !__builtin_mul_overflow(row, height, &bytes)) {
      const CUresult r = allocate(*rt, "cuMemAllocPitch_v2", pool::Kind::pitch, bytes, out);
      if (r == CUDA_SUCCESS) *pitch = row;
      if (r != CUDA_ERROR_NOT_SUPPORTED) return r;
    }
  }
  return FORWARD(cuMemAllocPitch_v2, out, pitch, width, height, element_bytes);
}

CUresult cuMemFree_v2(CUdeviceptr p) {
  Runtime* rt = enter(Entry::cuMemFree_v2);
  if (rt == nullptr) {
    Runtime* armed = InsidePool::already() ? runtime() : nullptr;
    if (armed != nullptr && armed->pool.owner(p) != nullptr && free_later(p)) return CUDA_SUCCESS;
    return FORWARD(cuMemFree_v2, p);
  }
  if (rt->pool.owner(p) == nullptr) return FORWARD(cuMemFree_v2, p);
  CUresult r = rt->driver_gone();
  if (r != CUDA_SUCCESS) {
    rt->listener.freed_too_late(p);
    return r;
  }
  // The driver frees without a current context, but not with one that was destroyed.
  r = rt->destroyed_context_is_current() ? FORWARD(cuMemFree_v2, p) : refused_by_capture(*rt);
  if (r != CUDA_SUCCESS) return r;
  InsidePool inside;
  const stacks::Caller caller(rt->listener.stacks());
  r = rt->pool.free("cuMemFree_v2", p, 0);
  if (r != CUDA_SUCCESS && rt->guard != nullptr) rt->guard->refused_free("cuMemFree_v2", p);
  return r;
}

}  // namespace own
}  // namespace flexlom
