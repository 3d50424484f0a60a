#include "interpose/captures.h"

namespace flexlom {

void Captures::opened(pool::StreamKey stream, CUcontext context, bool succeeded) noexcept {
  if (!succeeded) return fence_.capture_closed();
  try {
    const std::lock_guard lock(mutex_);
    open_.push_back({stream, context});
  } catch (...) {
    // Out of host memory: it counts as open for good, and nothing moves any more.
  }
}

void Captures::closed(pool::StreamKey stream) noexcept {
  const std::lock_guard lock(mutex_);
  const auto ended =
      std::erase_if(open_, [stream](const Open& open) { return open.stream == stream; });
  for (size_t i = 0; i < ended; ++i) fence_.capture_closed();
}

void Captures::context_ended(CUcontext context) noexcept {
  const std::lock_guard lock(mutex_);
  const auto ended =
      std::erase_if(open_, [context](const Open& open) { return open.context == context; });
  for (size_t i = 0; i < ended; ++i) fence_.capture_closed();
}

}  // namespace flexlom
