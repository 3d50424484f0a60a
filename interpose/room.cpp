#include "interpose/room.h"

#include "interpose/doors/gate.h"
#include "interpose/runtime.h"

namespace flexlom::room {

bool made() noexcept {
  Runtime* rt = InsidePool::already() || doors::Submission::open() ? nullptr : runtime();
  // Freed memory is idle behind a fence, and there is none while a capture is open.
  if (rt == nullptr || rt->pool.fence().capture_open()) return false;
  const InsidePool inside;
  uint64_t bytes = 0;
  try {
    // Whose memory a call takes, its handles do not tell.
    rt->pool.each_device([&](pool::DevicePool& device) { bytes += device.release_idle(); });
  } catch (...) {
    // Out of host memory: what went back so far has to do.
  }
  return bytes > 0;
}

}  // namespace flexlom::room
