// One submission while memory is short: what it names is told to the pool, which may move pages
// before it, and its time on the device may be taken.
#pragma once

#include <cuda.h>

#include <string_view>

#include "interpose/doors/entries.h"
#include "interpose/heat/named.h"
#include "pool/pool.h"

namespace flexlom {

class Runtime;
namespace pool {
class Residency;
struct Submission;
}  // namespace pool

class Watch {
 public:
  // Outside the gate: pages may move in here, which takes milliseconds. `per_thread`: stream 0
  // means the thread's own default stream.
  Watch(const heat::Named& named, CUstream stream, bool per_thread) noexcept;
  ~Watch() {
    if (use_count_ > 0) [[unlikely]]
      submitted();
  }
  Watch(const Watch&) = delete;
  Watch& operator=(const Watch&) = delete;
  // Tracked mode: data on the host that the submission copies to a device. Memory whose address is
  // in it may be used without being named from now on. Before start().
  void copies(const void* data, size_t bytes) noexcept;
  // Tracked mode: memory at these addresses may be used without being named from now on. Outside
  // the gate.
  static void reached_unnamed(Runtime& rt, const CUdeviceptr* words, size_t count) noexcept;
  void start() noexcept;  // right before the driver gets the work
  void stop(bool submitted) noexcept;

 private:
  // Tracked mode: in flight in that pool, from the constructor to the destructor.
  struct Use {
    pool::DevicePool* pool;
    pool::policy::Tick tick;
  };
  // `here`: the caller itself waits for what is on its way, not its stream.
  void track(pool::Residency& residency, pool::DevicePool& pool, const pool::Advice& advice,
             bool here) noexcept;
  void submitted() noexcept;
  bool find_context() noexcept;
  void let_wait(pool::Residency& residency, uint64_t arrival, bool on_stream) noexcept;
  void trace(pool::Residency& residency, pool::Submission& submission,
             const heat::Named& named) noexcept;

  Runtime* rt_ = nullptr;
  const CUstream stream_;
  const bool per_thread_;
  CUcontext context_ = nullptr;
  uint64_t function_ = 0;
  uint64_t measured_bytes_ = 0;  // in host frames of what it names
  bool measure_ = false;         // it is to be timed
  uint64_t started_ns_ = 0;      // 0: how long the call takes is not asked
  int sample_ = -1;
  uint32_t launch_ = 0;  // in the log
  unsigned use_count_ = 0;
  Use uses_[pool::kMaxDevices];  // the first `use_count_`
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

constexpr bool per_thread_default_stream(Entry e) noexcept {
  const std::string_view name = kEntryNames[index_of(e)];
  return name.ends_with("_ptsz") || name.ends_with("_ptds");
}

}  // namespace doors
}  // namespace flexlom
