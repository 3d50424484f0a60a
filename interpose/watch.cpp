#include "interpose/watch.h"

#include <algorithm>
#include <functional>

#include "interpose/doors/gate.h"
#include "interpose/heat/data.h"
#include "interpose/hooks/common.h"
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
  if (graph) {
    submission.times = named.graph->times.data();
    submission.steps = std::max(named.graph->nodes, 1u);
  }
  submission.wild = named.unknown || named.overflow || (graph && !named.graph->complete);
  if ((submission.count == 0 && !submission.wild) || InsidePool::already()) return;
  rt_ = runtime();
  pool::Residency* residency = rt_ != nullptr ? rt_->pool.residency() : nullptr;
  submission.may_move = !doors::Submission::open();
  // In tracked mode each must be known, whether anything may move for it or not.
  if (residency == nullptr ||
      (!residency->is_tracked() && (submission.count == 0 || !submission.may_move))) {
    rt_ = nullptr;
    return;
  }
  InsidePool inside;
  Sampler::Result result;
  bool collected = false;
  if (rt_->sampler.any()) [[unlikely]]
    rt_->pool.fence().without_capture([&] { collected = rt_->sampler.collect(&result); });
  LaunchTrace& launches = rt_->launches;
  if (collected) [[unlikely]] {
    if (result.spilled_bytes > 0)
      residency->observe(result.function, result.spilled_bytes, result.elapsed_ns, result.host_ns);
    if (launches.on()) launches.timed(result);
  }
  submission.function = function_ = identity(named);
  // Pages move in any context of their device. In tracked mode it must be known, because what is
  // looked ahead for ends with it.
  if (residency->is_tracked() && !find_context()) [[unlikely]]
    submission.may_move = false;
  submission.context = context_;
  if (!launches.on()) [[likely]] {
    rt_->pool.each_device([&](pool::DevicePool& pool) {
      const pool::Advice advice = residency->before(pool, submission);
      measure_ = measure_ || advice.measure;
      if (advice.measure) measured_bytes_ += advice.reading_bytes;
      track(*residency, pool, advice, submission.wild || named.many_streams);
    });
    return;
  }
  trace(*residency, submission, named);
}

// The same, into the log: at the time before pages move for it, because the moving is no part of
// what the program does.
void Watch::trace(pool::Residency& residency, pool::Submission& submission,
                  const heat::Named& named) noexcept {
  const uint64_t at_ns = started_ns_ = pool::ThreadSync::now_ns();
  LaunchTrace& launches = rt_->launches;
  LaunchTrace::Seen seen;
  bool spilled = false;
  rt_->pool.each_device([&](pool::DevicePool& pool) {
    pool::TouchedBases bases;
    submission.bases = &bases;
    const pool::Advice advice = residency.before(pool, submission);
    spilled = spilled || advice.spilled_bytes > 0;
    measure_ = measure_ || advice.measure;
    if (advice.measure) measured_bytes_ += advice.reading_bytes;
    track(residency, pool, advice, submission.wild || named.many_streams);
    if (bases.count == 0) return;
    if (seen.number == 0) seen = launches.seen(named, function_);
    launches.launched(seen.number, pool.device(), bases, at_ns);
  });
  launch_ = seen.launch;
  // Times of spilled memory are for who decides what moves: they are taken when it asks for them.
  if (function_ != 0 && seen.time && !spilled) measure_ = true;
}

void Watch::track(pool::Residency& residency, pool::DevicePool& pool, const pool::Advice& advice,
                  bool here) noexcept {
  if (advice.tick == 0) return;
  uses_[use_count_++] = {&pool, advice.tick};
  let_wait(residency, advice.arrival, !here);
}

void Watch::submitted() noexcept {
  InsidePool inside;
  for (unsigned i = 0; i < use_count_; ++i)
    rt_->pool.residency()->submitted(*uses_[i].pool, uses_[i].tick);
}

// The submission's stream, or else the caller, waits for what is on its way.
void Watch::let_wait(pool::Residency& residency, uint64_t arrival, bool on_stream) noexcept {
  if (arrival == 0) return;
  bool ordered = on_stream;
  const auto wait = [&](CUevent event) {
    CUresult r = CUDA_ERROR_NOT_SUPPORTED;
    if (ordered) {
      rt_->pool.fence().without_capture([&] {
        r = per_thread_ ? FORWARD_TWIN(doors::Entry::cuStreamWaitEvent_ptsz, cuStreamWaitEvent,
                                       stream_, event, 0u)
                        : FORWARD(cuStreamWaitEvent, stream_, event, 0u);
      });
    }
    ordered = r == CUDA_SUCCESS;
  };
  const bool arriving = residency.mover().while_arriving(arrival, std::ref(wait));
  if (arriving && !ordered) residency.mover().settle_arrivals();
}

void Watch::copies(const void* data, size_t bytes) noexcept {
  Runtime* rt = InsidePool::already() ? nullptr : runtime();
  pool::Residency* residency = rt != nullptr ? rt->pool.residency() : nullptr;
  if (residency == nullptr || !residency->is_tracked()) return;
  heat::each_address(data, bytes, [&](const CUdeviceptr* words, size_t count) {
    reached_unnamed(*rt, words, count);
  });
}

void Watch::reached_unnamed(Runtime& rt, const CUdeviceptr* words, size_t count) noexcept {
  pool::Residency* const residency = rt.pool.residency();
  if (residency == nullptr || !residency->is_tracked()) return;
  InsidePool inside;
  uint64_t arrival = 0;
  rt.pool.each_device([&](pool::DevicePool& pool) {
    arrival = std::max(arrival, pool.seen_in_data(words, count));
  });
  if (arrival != 0) residency->mover().settle_arrivals();
}

bool Watch::find_context() noexcept {
  int device = 0;
  return rt_->current(&context_, &device) == CUDA_SUCCESS;
}

void Watch::start() noexcept {
  if (started_ns_ != 0) started_ns_ = pool::ThreadSync::now_ns();
  if (!measure_ || (context_ == nullptr && !find_context())) return;
  InsidePool inside;
  rt_->pool.fence().without_capture([&] {
    sample_ =
        rt_->sampler.begin(context_, stream_, per_thread_, function_, measured_bytes_, launch_);
  });
}

void Watch::stop(bool submitted) noexcept {
  if (started_ns_ != 0) rt_->launches.waited(pool::ThreadSync::now_ns() - started_ns_);
  if (sample_ < 0) return;
  InsidePool inside;
  const bool recorded = rt_->pool.fence().without_capture(
      [&] { rt_->sampler.end(sample_, stream_, per_thread_, submitted); });
  if (!recorded) rt_->sampler.drop(sample_);
}

}  // namespace flexlom
