// What every door of our own starts with.
#pragma once

#include "interpose/doors/gate.h"
#include "interpose/doors/originals.h"
#include "interpose/hooks/own.h"
#include "interpose/room.h"
#include "interpose/runtime.h"

namespace flexlom {

// The driver's own answer, with the room it needs. A call this driver does not have is
// NOT_SUPPORTED.
template <class F, class... A>
inline CUresult forward(doors::Entry entry, A... args) noexcept {
  const F real = doors::original_as<F>(entry);
  if (real == nullptr) return CUDA_ERROR_NOT_SUPPORTED;
  const CUresult r = real(args...);
  if (room::taken_by(entry) && room::made_after(r)) [[unlikely]]
    return real(args...);
  return r;
}

#define FORWARD(symbol, ...) \
  ::flexlom::forward<decltype(&::symbol)>(::flexlom::doors::Entry::symbol, __VA_ARGS__)
// For the per-thread-default-stream twins, which have no declaration of their own.
#define FORWARD_TWIN(entry, prototype, ...) \
  ::flexlom::forward<decltype(&::prototype)>(entry, __VA_ARGS__)

using doors::Entry;

// The runtime when the pool should act: counted, armed, and not called from inside the pool.
inline Runtime* enter(Entry entry) noexcept {
  doors::count(entry);
  if (InsidePool::already()) [[unlikely]]
    return nullptr;
  return runtime();
}

// During an open capture the driver refuses allocation calls from some threads and breaks the
// capture. Whether this is one of them is known to the driver alone: it is asked by freeing
// nothing, which is subject to the same rule, unless the thread has switched to the relaxed mode,
// where nothing is refused.
CUresult refused_by_capture(Runtime& runtime) noexcept;

// Memory at that address is to be shared, which it cannot be while it lies on the host: it comes to
// the device. False: it did not, and is not worth asking for again.
bool bring_to_device(Runtime& runtime, CUdeviceptr p) noexcept;

// What `share` answers. When that is `refused`, as for memory at `p` that lies on the host, it
// comes to the device and is asked for again.
template <class F>
CUresult share_from_device(Runtime& runtime, CUdeviceptr p, CUresult refused, F share) noexcept {
  constexpr int kTries = 3;  // it may leave again before it is taken
  CUresult r = share();
  for (int i = 0; i < kTries && r == refused && bring_to_device(runtime, p); ++i) r = share();
  return r;
}

// Identity of a stream handle for reuse in stream order (pool::StreamKey). `per_thread`: the
// handle 0 means this thread's default stream.
pool::StreamKey stream_key(CUstream stream, bool per_thread) noexcept;

}  // namespace flexlom
