// The doors: for every submission a typed gate door made from its declaration, and for every call
// with behaviour of its own the function in hooks/. Nothing is written by hand here.
#include "interpose/doors/gate.h"
#include "interpose/doors/originals.h"
#include "interpose/doors/ranges.h"
#include "interpose/guard/doors.h"
#include "interpose/heat/data.h"
#include "interpose/heat/names.h"
#include "interpose/hooks/own.h"
#include "interpose/reach.h"
#include "interpose/room.h"
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
    if (!arguments_valid(a...)) [[unlikely]] {
      guard::refused_range(E);
      return CUDA_ERROR_INVALID_VALUE;
    }
    const CUresult r = submit(real, a...);
    if constexpr (room::taken_by(E)) {
      if (room::made_after(r)) [[unlikely]]
        return submit(real, a...);
    }
    return r;
  }

  [[gnu::always_inline]] static CUresult submit(CUresult (*real)(A...), A... a) {
    if (gate.beside.watching.load(std::memory_order_relaxed)) [[unlikely]]
      return watched(real, a...);
    const Submission submission;
    return answered(real, real(a...), a...);
  }

  [[gnu::always_inline]] static CUresult answered(CUresult (*real)(A...), CUresult r, A... a) {
    if constexpr (reach::is_copy(E)) {
      if (r == CUDA_ERROR_INVALID_VALUE) [[unlikely]]
        return reach::again<E>(real, a...);
    }
    return r;
  }

  // Memory is short, and what the submission names may have to move first; or it is guarded.
  [[gnu::noinline]] static CUresult watched(CUresult (*real)(A...), A... a) {
    heat::Named named;
    heat::names(E, named, a...);
    constexpr bool per_thread = per_thread_default_stream(E);
    Watch watch(named, stream_of(a...), per_thread);
    if (gate.beside.tracking.load(std::memory_order_relaxed)) {
      heat::host_data(
          E, [&](const void* data, size_t bytes) { watch.copies(data, bytes); }, a...);
    }
    guard::Watching guarded(E, named, guard::shape_of(a...), stream_of(a...), per_thread);
    const Submission submission;
    watch.start();
    const CUresult r = answered(real, real(a...), a...);
    watch.stop(r == CUDA_SUCCESS);
    guarded.done(r);
    if (r == CUDA_SUCCESS) guard::read_back(guarded, a...);
    return r;
  }
};

// Calls that wait for work, or ask after it: with a fault of a kernel they are the first to answer.
template <Entry E, class F>
struct LookDoor;

template <Entry E, class... A>
struct LookDoor<E, CUresult (*)(A...)> {
  static CUresult call(A... a) {
    const auto real = original_as<CUresult (*)(A...)>(E);
    if (real == nullptr) [[unlikely]]
      return CUDA_ERROR_NOT_SUPPORTED;
    count(E);
    if (gate.beside.watching.load(std::memory_order_relaxed)) [[unlikely]]
      return looked(real, a...);
    return real(a...);
  }

  [[gnu::noinline]] static CUresult looked(CUresult (*real)(A...), A... a) {
    constexpr bool per_thread = per_thread_default_stream(E);
    guard::Waiting waiting(E, a..., per_thread);
    const CUresult r = real(a...);
    waiting.done(r);
    return r;
  }
};

// Calls in which the driver takes device memory.
template <Entry E, class F>
struct RoomDoor;

template <Entry E, class... A>
struct RoomDoor<E, CUresult (*)(A...)> {
  static CUresult call(A... a) {
    const auto real = original_as<CUresult (*)(A...)>(E);
    if (real == nullptr) [[unlikely]]
      return CUDA_ERROR_NOT_SUPPORTED;
    count(E);
    const CUresult r = real(a...);
    return room::made_after(r) ? real(a...) : r;
  }
};

}  // namespace

#define FLEXLOM_DOOR_pass(symbol, prototype) nullptr
#define FLEXLOM_DOOR_gate(symbol, prototype) \
  reinterpret_cast<void*>(&GateDoor<Entry::symbol, decltype(&::prototype)>::call)
#define FLEXLOM_DOOR_look(symbol, prototype) \
  reinterpret_cast<void*>(&LookDoor<Entry::symbol, decltype(&::prototype)>::call)
#define FLEXLOM_DOOR_room(symbol, prototype) \
  reinterpret_cast<void*>(&RoomDoor<Entry::symbol, decltype(&::prototype)>::call)
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
#define FLEXLOM_EXPORT_look(symbol, prototype)                                           \
  extern "C" __attribute__((visibility("hidden"))) void* const flexlom_export_##symbol = \
      FLEXLOM_DOOR_look_ptr(symbol, prototype);
#define FLEXLOM_DOOR_look_ptr(symbol, prototype) \
  reinterpret_cast<void*>(                       \
      &flexlom::doors::LookDoor<flexlom::doors::Entry::symbol, decltype(&::prototype)>::call)
#define FLEXLOM_EXPORT_room(symbol, prototype)                                           \
  extern "C" __attribute__((visibility("hidden"))) void* const flexlom_export_##symbol = \
      FLEXLOM_DOOR_room_ptr(symbol, prototype);
#define FLEXLOM_DOOR_room_ptr(symbol, prototype) \
  reinterpret_cast<void*>(                       \
      &flexlom::doors::RoomDoor<flexlom::doors::Entry::symbol, decltype(&::prototype)>::call)
#define FLEXLOM_EXPORT_own(symbol, prototype)                                            \
  extern "C" __attribute__((visibility("hidden"))) void* const flexlom_export_##symbol = \
      reinterpret_cast<void*>(&flexlom::own::symbol);
#define FLEXLOM_DOOR_gate_ptr(symbol, prototype) \
  reinterpret_cast<void*>(                       \
      &flexlom::doors::GateDoor<flexlom::doors::Entry::symbol, decltype(&::prototype)>::call)
#define FLEXLOM_ENTRY(symbol, prototype, door) FLEXLOM_EXPORT_##door(symbol, prototype)
#include "entries.inc"
#undef FLEXLOM_ENTRY
