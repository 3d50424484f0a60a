#include "interpose/watch.h"

#include "interpose/doors/gate.h"
#include "interpose/runtime.h"

namespace flexlom {

namespace {

// The same code with another amount of work reads at another speed: a matrix product with one row
// and one with two thousand may be the same function.
uint64_t identity(const heat::Named& named) noexcept {
  if (named.work == 0 && named.graph == nullptr) return 0;
  const auto function = static_cast<uint64_t>(reinterpret_cast<uintptr_t>(named.function));
  const uint64_t id = function ^ (named.work * 0x9e3779b97f4a7c15u);
  return id != 0 ? id : 1;
}

}  // namespace

Watch::Watch(const heat::Named& named, CUstream stream, bool per_thread) noexcept
    : stream_(stream), per_thread_(per_thread) {
  const bool graph = named.graph != nullptr;
  pool::Submission submission;
  submission.words = graph ? named.graph->words.data() : named.words;
  submission.count = graph ? named.graph->words.size() : named.count;
  if (submission.count == 0 || InsidePool::already() || doors::Submission::open()) return;
  rt_ = runtime();
  pool::Residency* residency = rt_ != nullptr ? rt_->pool.residency() : nullptr;
  if (residency == nullptr) {
    rt_ = nullptr;
    return;
  }
  InsidePool inside;
  Sampler::Result result;
  bool collected = false;
  if (rt_->sampler.any())
    rt_->pool.fence().without_capture([&] { collected = rt_->sampler.collect(&result); });
  if (collected) residency->observe(result.function, result.spilled_bytes, result.elapsed_ns);
  submission.function = function_ = identity(named);
  int device = 0;
  if (rt_->current(&context_, &device) != CUDA_SUCCESS) return;
  submission.context = context_;
  rt_->pool.each_device([&](pool::DevicePool& pool) {
    const pool::Advice advice = residency->before(pool, submission);
    if (advice.measure) measured_bytes_ += advice.spilled_bytes;
  });
}

void Watch::start() noexcept {
  if (measured_bytes_ == 0) return;
  InsidePool inside;
  rt_->pool.fence().without_capture([&] {
    sample_ = rt_->sampler.begin(context_, stream_, per_thread_, function_, measured_bytes_);
  });
}

void Watch::stop(bool submitted) noexcept {
  if (sample_ < 0) return;
  InsidePool inside;
  const bool recorded = rt_->pool.fence().without_capture(
      [&] { rt_->sampler.end(sample_, stream_, per_thread_, submitted); });
  if (!recorded) rt_->sampler.drop(sample_);
}

}  // namespace flexlom
