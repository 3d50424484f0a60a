#include "tests/simcuda/context.hpp"

#include <algorithm>

#include "tests/simcuda/capture.hpp"
#include "tests/simcuda/memory.hpp"
#include "tests/simcuda/module.hpp"
#include "tests/simcuda/stream.hpp"
#include "tests/simcuda/thread_state.hpp"

namespace flexlom::sim {
namespace {

std::vector<Context*>& stack() { return this_thread().contexts; }

std::vector<Context*>& all_contexts() {  // guarded by context_lock
  static auto* const all = new std::vector<Context*>;
  return *all;
}

Context* new_context(int device, bool primary) {
  auto* context = new Context;
  context->device = device;
  context->primary = primary;
  context->id = state().next_id++;
  all_contexts().push_back(context);
  return context;
}

void bring_up(Context& context, unsigned flags) {
  context.flags = flags;
  open_streams(context);
  context.alive = true;
}

// Waits for the context's work and frees what it owns. Called without locks.
void tear_down(Context& context) {
  context.alive = false;
  close_streams(context);
  unload_modules(context);
  free_all_of(context);
  std::lock_guard guard(state().context_lock);
  context.peers.clear();
}

bool is_context(Context* context) {
  std::lock_guard guard(state().context_lock);
  const auto& all = all_contexts();
  return std::find(all.begin(), all.end(), context) != all.end();
}

CUresult create(CUcontext* out, unsigned flags, CUdevice dev) {
  require(out);
  const int device = device_at(dev).ordinal;
  require((flags & ~static_cast<unsigned>(CU_CTX_FLAGS_MASK)) == 0);
  Context* context;
  {
    std::lock_guard guard(state().context_lock);
    context = new_context(device, false);
    context->attachments = 1;
  }
  bring_up(*context, flags);
  stack().push_back(context);
  *out = handle_of(context);
  return CUDA_SUCCESS;
}
CUresult ctx_create(Call&, CUcontext* out, unsigned flags, CUdevice dev) {
  return create(out, flags, dev);
}
CUresult ctx_create_v3(Call&, CUcontext* out, CUexecAffinityParam*, int, unsigned flags,
                       CUdevice dev) {
  return create(out, flags, dev);
}
CUresult ctx_create_v4(Call&, CUcontext* out, CUctxCreateParams*, unsigned flags, CUdevice dev) {
  return create(out, flags, dev);
}

CUresult ctx_destroy(Call&, CUcontext handle) {
  require(handle);
  Context& context = context_of(handle);
  require(!context.primary && !context.parent, CUDA_ERROR_INVALID_CONTEXT);
  require(context.alive.exchange(false), CUDA_ERROR_INVALID_CONTEXT);
  tear_down(context);
  if (!stack().empty() && stack().back() == &context) stack().pop_back();
  return CUDA_SUCCESS;
}

CUresult ctx_attach(Call&, CUcontext* out, unsigned flags) {
  require(out && !flags);
  Context& context = current_context();
  std::lock_guard guard(state().context_lock);
  ++context.attachments;
  *out = handle_of(&context);
  return CUDA_SUCCESS;
}
CUresult ctx_detach(Call& c, CUcontext handle) {
  Context& context = context_of(handle);
  {
    std::lock_guard guard(state().context_lock);
    if (context.attachments > 1) {
      --context.attachments;
      return CUDA_SUCCESS;
    }
  }
  return ctx_destroy(c, handle);
}

CUresult ctx_push(Call&, CUcontext handle) {
  stack().push_back(&context_of(handle));
  return CUDA_SUCCESS;
}
CUresult ctx_pop(Call&, CUcontext* out) {
  require(!stack().empty(), CUDA_ERROR_INVALID_CONTEXT);
  if (out) *out = handle_of(stack().back());
  stack().pop_back();
  return CUDA_SUCCESS;
}
CUresult ctx_set(Call&, CUcontext handle) {
  if (!handle) {
    if (!stack().empty()) stack().pop_back();
    return CUDA_SUCCESS;
  }
  Context& context = context_of(handle);
  if (stack().empty()) {
    stack().push_back(&context);
  } else {
    stack().back() = &context;
  }
  return CUDA_SUCCESS;
}
CUresult ctx_get(Call&, CUcontext* out) {
  require(out);
  *out = stack().empty() ? nullptr : handle_of(stack().back());
  return CUDA_SUCCESS;
}

CUresult ctx_get_device(Call&, CUdevice* out) {
  require(out);
  *out = current_context().device;
  return CUDA_SUCCESS;
}
CUresult ctx_get_device_v2(Call&, CUdevice* out, CUcontext handle) {
  require(out);
  *out = handle ? context_of(handle).device : current_context().device;
  return CUDA_SUCCESS;
}

CUresult ctx_get_id(Call&, CUcontext handle, unsigned long long* out) {
  require(out);
  *out = (handle ? context_of(handle) : current_stream_context()).id;
  return CUDA_SUCCESS;
}
CUresult ctx_get_api_version(Call&, CUcontext handle, unsigned* out) {
  require(out);
  if (handle) context_of(handle);
  *out = 3020;
  return CUDA_SUCCESS;
}
CUresult ctx_get_flags(Call&, unsigned* out) {
  require(out);
  *out = current_context().flags;
  return CUDA_SUCCESS;
}
CUresult ctx_set_flags(Call&, unsigned flags) {
  current_context().flags = flags;
  return CUDA_SUCCESS;
}

// Both break every capture of the context, relaxed threads included: measured on the real driver.
CUresult ctx_synchronize(Call&) {
  Context& context = current_stream_context();
  refuse_during_any_capture(context);
  drain(context);
  return CUDA_SUCCESS;
}
CUresult ctx_synchronize_v2(Call&, CUcontext handle) {
  Context& context = handle ? context_of(handle) : current_stream_context();
  refuse_during_any_capture(context);
  drain(context);
  return CUDA_SUCCESS;
}

void retain_primary(Device& device) {
  std::lock_guard guard(state().context_lock);
  if (device.primary_references++ == 0) bring_up(*device.primary, device.primary_flags);
}
void release_primary(Device& device) {
  {
    std::lock_guard guard(state().context_lock);
    require(device.primary_references > 0, CUDA_ERROR_INVALID_CONTEXT);
    if (--device.primary_references) return;
    device.primary->alive = false;
  }
  tear_down(*device.primary);
}

CUresult primary_retain(Call&, CUcontext* out, CUdevice dev) {
  require(out);
  Device& device = device_at(dev);
  retain_primary(device);
  *out = handle_of(device.primary);
  return CUDA_SUCCESS;
}
CUresult primary_release(Call&, CUdevice dev) {
  release_primary(device_at(dev));
  return CUDA_SUCCESS;
}
CUresult primary_reset(Call&, CUdevice dev) {
  Device& device = device_at(dev);
  {
    std::lock_guard guard(state().context_lock);
    if (!device.primary->alive.exchange(false)) return CUDA_SUCCESS;
    device.primary_references = 0;
  }
  tear_down(*device.primary);
  return CUDA_SUCCESS;
}
CUresult primary_set_flags(Call&, CUdevice dev, unsigned flags) {
  Device& device = device_at(dev);
  require((flags & ~static_cast<unsigned>(CU_CTX_FLAGS_MASK)) == 0);
  std::lock_guard guard(state().context_lock);
  device.primary_flags = flags;
  device.primary->flags = flags;
  return CUDA_SUCCESS;
}
CUresult primary_get_state(Call&, CUdevice dev, unsigned* flags, int* active) {
  require(flags && active);
  Device& device = device_at(dev);
  std::lock_guard guard(state().context_lock);
  *flags = device.primary_flags;
  *active = device.primary->alive;
  return CUDA_SUCCESS;
}

}  // namespace

Context* new_primary_context(int device) { return new_context(device, true); }

Context* current_context_or_null() { return stack().empty() ? nullptr : stack().back(); }

Context* new_green_context(Device& device) {
  retain_primary(device);
  Context* context;
  {
    std::lock_guard guard(state().context_lock);
    context = new_context(device.ordinal, false);
    context->parent = device.primary;
  }
  bring_up(*context, 0);
  std::lock_guard guard(state().submit_lock);
  device.primary->green.insert(context);
  return context;
}

void end_green_context(Context& context) {
  close_streams(context);
  {
    std::lock_guard guard(state().submit_lock);
    context.parent->green.erase(&context);
  }
  release_primary(device_at(context.device));
}

Context& current_stream_context() {
  require(!stack().empty(), CUDA_ERROR_INVALID_CONTEXT);
  require(stack().back()->alive, CUDA_ERROR_CONTEXT_IS_DESTROYED);
  return *stack().back();
}

Context& current_context() { return owner_of(current_stream_context()); }

Context& context_of(CUcontext handle) {
  auto* context = reinterpret_cast<Context*>(handle);
  require(context && is_context(context), CUDA_ERROR_INVALID_CONTEXT);
  return *context;
}

}  // namespace flexlom::sim

using namespace flexlom::sim;
SIM_EXPORT(cuCtxCreate, ctx_create);
SIM_EXPORT(cuCtxCreate_v2, ctx_create);
SIM_EXPORT(cuCtxCreate_v3, ctx_create_v3);
SIM_EXPORT(cuCtxCreate_v4, ctx_create_v4);
SIM_EXPORT(cuCtxDestroy, ctx_destroy);
SIM_EXPORT(cuCtxDestroy_v2, ctx_destroy);
SIM_EXPORT(cuCtxAttach, ctx_attach);
SIM_EXPORT(cuCtxDetach, ctx_detach);
SIM_EXPORT(cuCtxPushCurrent, ctx_push);
SIM_EXPORT(cuCtxPushCurrent_v2, ctx_push);
SIM_EXPORT(cuCtxPopCurrent, ctx_pop);
SIM_EXPORT(cuCtxPopCurrent_v2, ctx_pop);
SIM_EXPORT(cuCtxSetCurrent, ctx_set);
SIM_EXPORT(cuCtxGetCurrent, ctx_get);
SIM_EXPORT(cuCtxGetDevice, ctx_get_device);
SIM_EXPORT(cuCtxGetDevice_v2, ctx_get_device_v2);
SIM_EXPORT(cuCtxGetId, ctx_get_id);
SIM_EXPORT(cuCtxGetApiVersion, ctx_get_api_version);
SIM_EXPORT(cuCtxGetFlags, ctx_get_flags);
SIM_EXPORT(cuCtxSetFlags, ctx_set_flags);
SIM_EXPORT(cuCtxSynchronize, ctx_synchronize);
SIM_EXPORT(cuCtxSynchronize_v2, ctx_synchronize_v2);
SIM_EXPORT(cuDevicePrimaryCtxRetain, primary_retain);
SIM_EXPORT(cuDevicePrimaryCtxRelease, primary_release);
SIM_EXPORT(cuDevicePrimaryCtxRelease_v2, primary_release);
SIM_EXPORT(cuDevicePrimaryCtxReset, primary_reset);
SIM_EXPORT(cuDevicePrimaryCtxReset_v2, primary_reset);
SIM_EXPORT(cuDevicePrimaryCtxSetFlags, primary_set_flags);
SIM_EXPORT(cuDevicePrimaryCtxSetFlags_v2, primary_set_flags);
SIM_EXPORT(cuDevicePrimaryCtxGetState, primary_get_state);
