// What the doors tell the guard: the shape of a launch, the bytes that a copy has brought back.
#pragma once

#include "interpose/doors/gate.h"
#include "interpose/guard/guard.h"

namespace flexlom::guard {

// The guard when there is one and this call is not our own; null in a forked child.
Guard* guard() noexcept;

// One submission: made before the driver gets it.
class Watching {
 public:
  Watching(doors::Entry entry, const heat::Named& named, const Shape& shape, CUstream stream,
           bool per_thread) noexcept
      : entry_(entry) {
    if (doors::gate.beside.guarding.load(std::memory_order_relaxed)) [[unlikely]]
      begin(named, shape, stream, per_thread);
  }
  void done(CUresult r) noexcept {
    if (guard_ != nullptr) [[unlikely]]
      end(r);
  }
  // A copy to the host that the driver took; `later`: it may still be under way.
  void read_back(void* to, CUdeviceptr from, size_t bytes, bool later) const noexcept {
    if (guard_ != nullptr) [[unlikely]]
      note_read_back(to, from, bytes, later);
  }

 private:
  void begin(const heat::Named& named, const Shape& shape, CUstream stream,
             bool per_thread) noexcept;
  void end(CUresult r) noexcept;
  void note_read_back(void* to, CUdeviceptr from, size_t bytes, bool later) const noexcept;

  Guard* guard_ = nullptr;
  const doors::Entry entry_;
  CUcontext context_ = nullptr;
  uint64_t stream_ = 0, number_ = 0;
};

// A call that waits for work or asks after it: of a context, of a stream, or of an event, whose
// success says nothing about a stream.
class Waiting {
 public:
  Waiting(doors::Entry entry, CUcontext context) noexcept;
  Waiting(doors::Entry entry, CUstream stream, bool per_thread) noexcept;
  Waiting(doors::Entry entry, CUevent event, bool per_thread) noexcept;
  void done(CUresult r) noexcept;

 private:
  enum class What : uint8_t { context, stream, event };

  Guard* const guard_;
  const doors::Entry entry_;
  const What what_;
  CUcontext context_ = nullptr;
  uint64_t stream_ = 0, number_ = 0;
};

// After range_valid() said no on this thread.
void refused_range(doors::Entry entry) noexcept;
void note_refused_range(CUdeviceptr p, size_t bytes) noexcept;

template <class... A>
inline Shape shape_of(const A&...) noexcept {
  return {};
}
inline Shape shape_of(CUfunction, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by,
                      unsigned bz, unsigned, CUstream, void**, void**) noexcept {
  return {{gx, gy, gz}, {bx, by, bz}};
}
inline Shape shape_of(CUfunction, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by,
                      unsigned bz, unsigned, CUstream, void**) noexcept {
  return {{gx, gy, gz}, {bx, by, bz}};
}
inline Shape shape_of(const CUlaunchConfig* c, CUfunction, void**, void**) noexcept {
  if (c == nullptr) return {};
  return {{c->gridDimX, c->gridDimY, c->gridDimZ}, {c->blockDimX, c->blockDimY, c->blockDimZ}};
}

// cuMemcpyDtoH: the bytes are there when it returns; of the Async form when its stream has been
// waited for.
template <class... A>
inline void read_back(const Watching&, const A&...) noexcept {}
inline void read_back(const Watching& by, void* to, CUdeviceptr from, size_t bytes) noexcept {
  by.read_back(to, from, bytes, false);
}
inline void read_back(const Watching& by, void* to, CUdeviceptr from, size_t bytes,
                      CUstream) noexcept {
  by.read_back(to, from, bytes, true);
}

}  // namespace flexlom::guard
