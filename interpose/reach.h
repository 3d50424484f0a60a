// Copies between devices that the driver refuses because of us.
//
// A copy reaches memory of cuMemAlloc from every context, wherever it lies: unified addresses, no
// peer access needed (CUDA Driver API 6.13; on two H200s, driver 580). Mapped pages it reaches only
// from devices that were given access, and answers INVALID_VALUE before anything is done. So a copy
// that was refused, and names pages of ours that some device in it does not reach, is asked for
// again in another way:
// - between two devices, one dimension: as the copy that names both contexts, without access;
// - from or to the host, waiting for its end: in a context of the owner;
// - others: after giving that access, where the hardware can.
//
// What stays refused is stream-ordered memory without access, which the driver refuses, too, and
// other copies between devices that cannot reach each other.
#pragma once

#include <string_view>

#include "interpose/doors/entries.h"
#include "interpose/heat/names.h"
#include "interpose/watch.h"

namespace flexlom::reach {

constexpr bool is_copy(doors::Entry e) noexcept {
  return doors::kEntryNames[doors::index_of(e)].starts_with("cuMemcpy");
}

// Whether all memory of the pools that is named can be reached now and could not before.
bool give_access(const heat::Named& named) noexcept;
// The copy between two devices; NOT_SUPPORTED: it is none.
CUresult copy_between(CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream stream, bool async,
                      bool per_thread) noexcept;

// Makes a context of the device that `p` is memory of the current one, if another device is.
class AtOwner {
 public:
  explicit AtOwner(CUdeviceptr p) noexcept;
  ~AtOwner();
  AtOwner(const AtOwner&) = delete;
  AtOwner& operator=(const AtOwner&) = delete;
  bool there() const noexcept { return there_; }

 private:
  bool there_ = false;
};

template <doors::Entry E, class Real, class... A>
CUresult ask_with_access(Real real, A... a) noexcept {
  heat::Named named;
  heat::names(E, named, a...);
  return give_access(named) ? real(a...) : CUDA_ERROR_INVALID_VALUE;
}

// The refused call once more; the answer is the program's. Inside the gate.
template <doors::Entry E, class Real, class... A>
[[gnu::noinline, gnu::cold]] CUresult again(Real real, A... a) noexcept {
  return ask_with_access<E>(real, a...);
}
template <doors::Entry E, class Real>
[[gnu::noinline, gnu::cold]] CUresult again(Real real, CUdeviceptr to, CUdeviceptr from,
                                            size_t bytes) noexcept {
  const CUresult r = copy_between(to, from, bytes, nullptr, false, per_thread_default_stream(E));
  return r != CUDA_ERROR_NOT_SUPPORTED ? r : ask_with_access<E>(real, to, from, bytes);
}
template <doors::Entry E, class Real>
[[gnu::noinline, gnu::cold]] CUresult again(Real real, CUdeviceptr to, CUdeviceptr from,
                                            size_t bytes, CUstream stream) noexcept {
  const CUresult r = copy_between(to, from, bytes, stream, true, per_thread_default_stream(E));
  return r != CUDA_ERROR_NOT_SUPPORTED ? r : ask_with_access<E>(real, to, from, bytes, stream);
}
template <doors::Entry E, class Real>
[[gnu::noinline, gnu::cold]] CUresult again(Real real, CUdeviceptr to, const void* from,
                                            size_t bytes) noexcept {
  const AtOwner owner(to);
  return owner.there() ? real(to, from, bytes) : CUDA_ERROR_INVALID_VALUE;
}
template <doors::Entry E, class Real>
[[gnu::noinline, gnu::cold]] CUresult again(Real real, void* to, CUdeviceptr from,
                                            size_t bytes) noexcept {
  const AtOwner owner(from);
  return owner.there() ? real(to, from, bytes) : CUDA_ERROR_INVALID_VALUE;
}

}  // namespace flexlom::reach
