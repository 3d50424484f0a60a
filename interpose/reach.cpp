#include "interpose/reach.h"

#include "interpose/hooks/common.h"

namespace flexlom::reach {

namespace {

// The pool an address belongs to when a copy of the program should reach it from anywhere.
pool::DevicePool* plain_owner(Runtime& rt, CUdeviceptr p) noexcept {
  pool::DevicePool* owner = rt.pool.owner(p);
  pool::AllocationInfo info;
  if (owner == nullptr || !owner->find(p, &info)) return nullptr;
  // Who reaches these is what the program says.
  return info.kind == pool::Kind::async || info.kind == pool::Kind::mapped ? nullptr : owner;
}

}  // namespace

bool give_access(const heat::Named& named) noexcept {
  Runtime* rt = InsidePool::already() ? nullptr : runtime();
  CUcontext context = nullptr;
  int here = 0;
  if (rt == nullptr || named.overflow || rt->current(&context, &here) != CUDA_SUCCESS) return false;
  const InsidePool inside;
  bool given = false;
  for (size_t i = 0; i < named.count; ++i) {
    pool::DevicePool* owner = plain_owner(*rt, named.words[i]);
    if (owner == nullptr) continue;
    const auto give = [&](int device) {
      if (device == owner->device() || owner->accessible_by(device)) return true;
      if (!rt->driver.can_reach(device, owner->device())) return false;
      given = true;
      return owner->allow_access(device) == CUDA_SUCCESS;
    };
    if (!give(here)) return false;
    for (size_t j = 0; j < named.count; ++j) {
      const pool::DevicePool* other = rt->pool.owner(named.words[j]);
      if (other != nullptr && !give(other->device())) return false;
    }
  }
  return given;
}

CUresult copy_between(CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream stream, bool async,
                      bool per_thread) noexcept {
  Runtime* rt = InsidePool::already() ? nullptr : runtime();
  if (rt == nullptr) return CUDA_ERROR_NOT_SUPPORTED;
  const InsidePool inside;
  const pool::DevicePool* target = plain_owner(*rt, to);
  const pool::DevicePool* source = plain_owner(*rt, from);
  if (target == nullptr || source == nullptr || target == source ||
      (target->accessible_by(source->device()) && source->accessible_by(target->device())))
    return CUDA_ERROR_NOT_SUPPORTED;
  CUcontext current = nullptr;
  int device = 0;
  if (rt->current(&current, &device) != CUDA_SUCCESS) return CUDA_ERROR_NOT_SUPPORTED;
  const CUcontext there = rt->pool.fence().context_on(target->device(), current);
  const CUcontext here = rt->pool.fence().context_on(source->device(), current);
  if (there == nullptr || here == nullptr) return CUDA_ERROR_NOT_SUPPORTED;
  if (async) {
    return FORWARD_TWIN(per_thread ? Entry::cuMemcpyPeerAsync_ptsz : Entry::cuMemcpyPeerAsync,
                        cuMemcpyPeerAsync, to, there, from, here, bytes, stream);
  }
  return FORWARD_TWIN(per_thread ? Entry::cuMemcpyPeer_ptds : Entry::cuMemcpyPeer, cuMemcpyPeer, to,
                      there, from, here, bytes);
}

AtOwner::AtOwner(CUdeviceptr p) noexcept {
  Runtime* rt = InsidePool::already() ? nullptr : runtime();
  CUcontext current = nullptr;
  int device = 0;
  if (rt == nullptr || rt->current(&current, &device) != CUDA_SUCCESS) return;
  const pool::DevicePool* owner = plain_owner(*rt, p);
  if (owner == nullptr || owner->device() == device) return;
  // Its pages may be on their way, and what waits for them is a stream of the context that was
  // refused.
  if (pool::Residency* residency = rt->pool.residency();
      residency != nullptr && residency->mover().arriving()) {
    const InsidePool inside;
    residency->mover().settle_arrivals();
  }
  const CUcontext context = rt->pool.fence().context_on(owner->device(), nullptr);
  there_ = context != nullptr && FORWARD(cuCtxPushCurrent_v2, context) == CUDA_SUCCESS;
}

AtOwner::~AtOwner() {
  CUcontext popped = nullptr;
  if (there_) FORWARD(cuCtxPopCurrent_v2, &popped);
}

}  // namespace flexlom::reach
