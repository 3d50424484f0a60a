// Device memory that the driver takes for itself: arrays, modules, graphs, pools that it keeps.
//
// To the program, memory that it freed is free. Part of it we keep for its next request, so the
// driver may refuse what it would have served without us. Then what lies idle goes back to it, and
// it is asked once more.
//
// Launches are not asked for again: a refused one may have begun.
#pragma once

#include "interpose/doors/entries.h"

namespace flexlom::room {

// Calls with a door of their own, or that submit work, in which the driver takes such memory. The
// others have the door `room`.
constexpr bool taken_by(doors::Entry e) noexcept {
  using enum doors::Entry;
  switch (e) {
    case cuMemAllocAsync:
    case cuMemAllocAsync_ptsz:
    case cuMemAllocFromPoolAsync:
    case cuMemAllocFromPoolAsync_ptsz:
    case cuMemCreate:
    case cuGraphAddNode:
    case cuGraphAddNode_v2:
    case cuGraphInstantiate:
    case cuGraphInstantiate_v2:
    case cuGraphInstantiateWithFlags:
    case cuGraphInstantiateWithParams:
    case cuGraphInstantiateWithParams_ptsz:
    case cuGraphUpload:
    case cuGraphUpload_ptsz:
      return true;
    default:
      return false;
  }
}

// Gives idle memory of ours back to the driver. False: there was none, or this is no moment for it:
// inside the pool, inside a submission, with a capture open.
[[gnu::cold]] bool made() noexcept;

// Whether it is worth asking again after this answer.
[[gnu::always_inline]] inline bool made_after(CUresult r) noexcept {
  return r == CUDA_ERROR_OUT_OF_MEMORY && made();
}

}  // namespace flexlom::room
