// One submission while memory is short: what it names is told to the pool, which may move pages
// before it, and its time on the device may be taken.
#pragma once

#include <cuda.h>

#include <string_view>

#include "interpose/doors/entries.h"
#include "interpose/heat/named.h"

namespace flexlom {

class Runtime;

class Watch {
 public:
  // Outside the gate: pages may move in here, which takes milliseconds. `per_thread`: stream 0
  // means the thread's own default stream.
  Watch(const heat::Named& named, CUstream stream, bool per_thread) noexcept;
  void start() noexcept;  // right before the driver gets the work
  void stop(bool submitted) noexcept;

 private:
  Runtime* rt_ = nullptr;
  const CUstream stream_;
  const bool per_thread_;
  CUcontext context_ = nullptr;
  uint64_t function_ = 0;
  uint64_t measured_bytes_ = 0;  // 0: not to be timed
  int sample_ = -1;
};

namespace doors {

// The stream a submission goes to: its last argument of that type, 0 when it has none.
inline CUstream stream_of() noexcept { return nullptr; }
inline CUstream stream_or(CUstream stream, CUstream) noexcept { return stream; }
template <class T>
inline CUstream stream_or(const T&, CUstream otherwise) noexcept {
  return otherwise;
}
template <class First, class... Rest>
inline CUstream stream_of(const First& first, const Rest&... rest) noexcept {
  if constexpr ((std::is_same_v<Rest, CUstream> || ...)) return stream_of(rest...);
  return stream_or(first, nullptr);
}
inline CUstream stream_of(const CUlaunchConfig* config, CUfunction, void**, void**) noexcept {
  return config != nullptr ? config->hStream : nullptr;
}

inline bool per_thread_default_stream(Entry e) noexcept {
  const std::string_view name = entry_info[index_of(e)].name;
  return name.ends_with("_ptsz") || name.ends_with("_ptds");
}

}  // namespace doors
}  // namespace flexlom
