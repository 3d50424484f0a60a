// The doors: for every submission a typed gate door made from its declaration, and for every call
// with behaviour of its own the function in hooks/. Nothing is written by hand here.
#include "interpose/doors/gate.h"
#include "interpose/doors/originals.h"
#include "interpose/doors/ranges.h"
#include "interpose/heat/data.h"
#include "interpose/heat/names.h"
#include "interpose/hooks/own.h"
#include "interpose/watch.h"

namespace flexlom::doors {

namespace {

template <Entry E, class F>
struct GateDoor;

template <Entry E, class... A>
struct GateDoor<E, CUresult (*)(A...)> {
  static CUresult call(A... a) {
    const auto real = original_as<CUresult (*)(A...)>(E);
    if (real == nullptr) [[unlikely]]
      return CUDA_ERROR_NOT_SUPPORTED;
    // Counted first: "passed the gate" includes what the driver or we refuse.
    count(E);
    if (!arguments_valid(a...)) [[unlikely]]
      return CUDA_ERROR_INVALID_VALUE;
    if (watching.load(std::memory_order_relaxed)) [[unlikely]]
      return watched(real, a...);
    const Submission submission;
    return real(a...);
  }

  // Memory is short: what the submission names may have to move first.
  [[gnu::noinline]] static CUresult watched(CUresult (*real)(A...), A... a) {
    heat::Named named;
    heat::names(E, named, a...);
    Watch watch(named, stream_of(a...), per_thread_default_stream(E));
    if (tracking.load(std::memory_order_relaxed)) {
      heat::host_data(
          E, [&](const void* data, size_t bytes) { watch.copies(data, bytes); }, a...);
    }
    const Submission submission;
    watch.start();
    const CUresult r = real(a...);
    watch.stop(r == CUDA_SUCCESS);
    return r;
  }
};

}  // namespace

#define FLEXLOM_DOOR_pass(symbol, prototype) nullptr
#define FLEXLOM_DOOR_gate(symbol, prototype) \
  reinterpret_cast<void*>(&GateDoor<Entry::symbol, decltype(&::prototype)>::call)
#define FLEXLOM_DOOR_own(symbol, prototype) reinterpret_cast<void*>(&own::symbol)

void* const door_of[kEntryCount] = {
#define FLEXLOM_ENTRY(symbol, prototype, door) FLEXLOM_DOOR_##door(symbol, prototype),
#include "entries.inc"
#undef FLEXLOM_ENTRY
};

}  // namespace flexlom::doors

// What the exported names jump through (exports_x86_64.S).
#define FLEXLOM_EXPORT_pass(symbol, prototype)
#define FLEXLOM_EXPORT_gate(symbol, prototype)                                           \
  extern "C" __attribute__((visibility("hidden"))) void* const flexlom_export_##symbol = \
      FLEXLOM_DOOR_gate_ptr(symbol, prototype);
#define FLEXLOM_EXPORT_own(symbol, prototype)                                            \
  extern "C" __attribute__((visibility("hidden"))) void* const flexlom_export_##symbol = \
      reinterpret_cast<void*>(&flexlom::own::symbol);
#define FLEXLOM_DOOR_gate_ptr(symbol, prototype) \
  reinterpret_cast<void*>(                       \
      &flexlom::doors::GateDoor<flexlom::doors::Entry::symbol, decltype(&::prototype)>::call)
#define FLEXLOM_ENTRY(symbol, prototype, door) FLEXLOM_EXPORT_##door(symbol, prototype)
#include "entries.inc"
#undef FLEXLOM_ENTRY
