// One page on its way between the device and the host, and which page that is.
//
// The steps of a move are calls of DevicePool (pool/moves.cpp); the order in which they are made,
// and the proof that nothing touches the page meanwhile, is the mover's (mover.h).
#pragma once

#include "pool/driver.h"
#include "pool/types.h"

namespace flexlom::pool {

struct Span;

// Names a page across the time in which its span may have been dropped and its record used again.
struct PageId {
  Span* span = nullptr;
  uint64_t generation = 0;
  uint32_t index = 0;
  uint32_t granule = 0;  // where in the span it begins
};

struct Move {
  PageId page;
  CUdeviceptr address = 0;
  size_t bytes = 0;
  uint8_t order = 0;
  Where to = Where::host;
  // Down: where the bytes go, with a window. Up: where they are.
  Frame host;
  // Down: `host` holds what the page held when its fingerprint was `mark`.
  bool has_mark = false;
  Fingerprint mark;
  bool overwriting = false;  // down: a copy into `host` was begun, so the mark is void
  bool placed = false;       // up: the public address is backed by a device frame
};

}  // namespace flexlom::pool
