#include "interpose/guard/doors.h"

#include "interpose/hooks/common.h"

namespace flexlom::guard {

namespace {

struct Range {
  CUdeviceptr address;
  size_t bytes;
};
thread_local Range refused __attribute__((tls_model("initial-exec"))) = {0, 0};

// Asked of the driver alone: where its answer is an error there is nothing to remember.
CUcontext current() noexcept {
  CUcontext context = nullptr;
  const auto get = FLEXLOM_ORIGINAL(cuCtxGetCurrent);
  return get != nullptr && get(&context) == CUDA_SUCCESS ? context : nullptr;
}

}  // namespace

Guard* guard() noexcept {
  if (InsidePool::already()) return nullptr;
  Runtime* rt = runtime();
  return rt != nullptr ? rt->guard.get() : nullptr;
}

void Watching::begin(const heat::Named& named, const Shape& shape, CUstream stream,
                     bool per_thread) noexcept {
  guard_ = guard::guard();
  if (guard_ == nullptr) return;
  const InsidePool inside;
  context_ = current();
  stream_ = stream_key(stream, per_thread);
  number_ = guard_->submitting(entry_, named, shape, context_, stream_);
}

void Watching::note_read_back(void* to, CUdeviceptr from, size_t bytes, bool later) const noexcept {
  const InsidePool inside;
  const ReadBack copy{
      doors::entry_info[doors::index_of(entry_)].name, to, from, bytes, context_, stream_};
  later ? guard_->will_read_back(copy) : guard_->read_back(copy);
}

void Watching::end(CUresult r) noexcept {
  const InsidePool inside;
  guard_->submitted(entry_, number_, r);
}

Waiting::Waiting(doors::Entry entry, CUcontext context) noexcept
    : guard_(guard::guard()), entry_(entry), what_(What::context), context_(context) {
  if (guard_ != nullptr) number_ = guard_->last();
}

Waiting::Waiting(doors::Entry entry, CUstream stream, bool per_thread) noexcept
    : guard_(guard::guard()), entry_(entry), what_(What::stream) {
  if (guard_ == nullptr) return;
  context_ = current();
  stream_ = stream_key(stream, per_thread);
  number_ = guard_->last();
}

Waiting::Waiting(doors::Entry entry, CUevent, bool) noexcept
    : guard_(guard::guard()), entry_(entry), what_(What::event) {}

void Waiting::done(CUresult r) noexcept {
  if (guard_ == nullptr) return;
  const InsidePool inside;
  // What was freed in stream order can be unmapped now, before the next launch may use it; unless
  // other streams still work.
  constexpr uint64_t kPatience_ns = 1'000'000;
  if (r == CUDA_SUCCESS && what_ != What::event)
    runtime()->pool.each_device([](pool::DevicePool& device) { device.settle(kPatience_ns); });
  if (what_ == What::event) {
    guard_->answered(doors::entry_info[doors::index_of(entry_)].name, r);
  } else {
    guard_->synchronized(entry_, context_, what_ == What::stream ? &stream_ : nullptr, number_, r);
  }
}

void note_refused_range(CUdeviceptr p, size_t bytes) noexcept { refused = {p, bytes}; }

void refused_range(doors::Entry entry) noexcept {
  Guard* found = guard();
  if (found == nullptr) return;
  const InsidePool inside;
  found->refused_copy(doors::entry_info[doors::index_of(entry)].name, refused.address,
                      refused.bytes);
}

}  // namespace flexlom::guard
