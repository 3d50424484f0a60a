// The doors: for every submission a typed gate door made from its declaration, and for every call
// with behaviour of its own the function in hooks/. Nothing is written by hand here.
#include "interpose/doors/gate.h"
#include "interpose/doors/originals.h"
#include "interpose/doors/ranges.h"
#include "interpose/hooks/own.h"

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
    const CUresult r = real(a...);
    note_submission();
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
