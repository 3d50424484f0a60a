// Green contexts: streams of their own, and all else the primary context's. How handles compare,
// what an event covers and what is left after the end was measured on the real driver (580, H200).
#include <algorithm>

#include "tests/simcuda/capture.hpp"
#include "tests/simcuda/context.hpp"
#include "tests/simcuda/event.hpp"
#include "tests/simcuda/stream.hpp"

namespace flexlom::sim {
namespace {

constexpr unsigned kProcessors = 132, kSmallestShare = 8;

// What a descriptor describes; never deleted, as it may be used for any number of contexts.
struct Described {
  unsigned processors;
};

// The handle of a green context is that of the context it is converted into.
Context& green_of(CUgreenCtx handle) {
  Context& context = context_of(reinterpret_cast<CUcontext>(handle));
  require(context.parent != nullptr, CUDA_ERROR_INVALID_CONTEXT);
  require(context.alive, CUDA_ERROR_CONTEXT_IS_DESTROYED);
  return context;
}

CUdevResource share(unsigned processors) {
  CUdevResource resource{};
  resource.type = CU_DEV_RESOURCE_TYPE_SM;
  resource.sm = {processors, kSmallestShare, kSmallestShare};
  return resource;
}

CUresult device_get_resource(Call&, CUdevice device, CUdevResource* out, CUdevResourceType type) {
  require(out);
  device_at(device);
  require(type == CU_DEV_RESOURCE_TYPE_SM, CUDA_ERROR_INVALID_RESOURCE_TYPE);
  *out = share(kProcessors);
  return CUDA_SUCCESS;
}

CUresult split(Call&, CUdevResource* out, unsigned* count, const CUdevResource* from,
               CUdevResource* rest, unsigned, unsigned least) {
  require(count && from && from->type == CU_DEV_RESOURCE_TYPE_SM);
  const unsigned each =
      (std::max(least, 1u) + kSmallestShare - 1) / kSmallestShare * kSmallestShare;
  const unsigned possible = from->sm.smCount / each;
  require(possible > 0, CUDA_ERROR_INVALID_RESOURCE_CONFIGURATION);
  const unsigned given = out ? std::min(*count, possible) : possible;
  for (unsigned i = 0; out && i < given; ++i) out[i] = share(each);
  if (rest && out) *rest = share(from->sm.smCount - given * each);
  *count = given;
  return CUDA_SUCCESS;
}

CUresult describe(Call&, CUdevResourceDesc* out, CUdevResource* resources, unsigned count) {
  require(out && resources && count > 0);
  unsigned processors = 0;
  for (unsigned i = 0; i < count; ++i) processors += resources[i].sm.smCount;
  *out = reinterpret_cast<CUdevResourceDesc>(new Described{processors});
  return CUDA_SUCCESS;
}

CUresult create(Call&, CUgreenCtx* out, CUdevResourceDesc description, CUdevice device,
                unsigned flags) {
  require(out && description && flags == CU_GREEN_CTX_DEFAULT_STREAM);
  *out = reinterpret_cast<CUgreenCtx>(new_green_context(device_at(device)));
  return CUDA_SUCCESS;
}

CUresult destroy(Call&, CUgreenCtx handle) {
  Context& context = green_of(handle);
  require(context.alive.exchange(false), CUDA_ERROR_CONTEXT_IS_DESTROYED);
  end_green_context(context);
  return CUDA_SUCCESS;
}

CUresult convert(Call&, CUcontext* out, CUgreenCtx handle) {
  require(out);
  *out = handle_of(&green_of(handle));
  return CUDA_SUCCESS;
}

CUresult stream_create(Call&, CUstream* out, CUgreenCtx handle, unsigned flags, int priority) {
  require(out && flags == CU_STREAM_NON_BLOCKING);
  *out = handle_of(new_stream(green_of(handle), flags, std::clamp(priority, -5, 0)).get());
  return CUDA_SUCCESS;
}

CUresult record_event(Call& c, CUgreenCtx handle, CUevent event) {
  return ctx_record_event(c, handle_of(&green_of(handle)), event);
}
CUresult wait_event(Call& c, CUgreenCtx handle, CUevent event) {
  return ctx_wait_event(c, handle_of(&green_of(handle)), event);
}

}  // namespace
}  // namespace flexlom::sim

using namespace flexlom::sim;
SIM_EXPORT(cuDeviceGetDevResource, device_get_resource);
SIM_EXPORT(cuDevSmResourceSplitByCount, split);
SIM_EXPORT(cuDevResourceGenerateDesc, describe);
SIM_EXPORT(cuGreenCtxCreate, create);
SIM_EXPORT(cuGreenCtxDestroy, destroy);
SIM_EXPORT(cuCtxFromGreenCtx, convert);
SIM_EXPORT(cuGreenCtxStreamCreate, stream_create);
SIM_EXPORT(cuGreenCtxRecordEvent, record_event);
SIM_EXPORT(cuGreenCtxWaitEvent, wait_event);
