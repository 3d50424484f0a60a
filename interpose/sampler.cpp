#include "interpose/sampler.h"

#include "interpose/hooks/common.h"

namespace flexlom {

namespace {

CUresult record(CUevent event, CUstream stream, bool per_thread) noexcept {
  return per_thread ? FORWARD_TWIN(Entry::cuEventRecord_ptsz, cuEventRecord, event, stream)
                    : FORWARD(cuEventRecord, event, stream);
}

}  // namespace

void Sampler::destroy_events(Sample& sample) noexcept {
  if (sample.first != nullptr) FORWARD(cuEventDestroy_v2, sample.first);
  if (sample.last != nullptr) FORWARD(cuEventDestroy_v2, sample.last);
  sample.first = sample.last = nullptr;
  sample.context = nullptr;
}

int Sampler::begin(CUcontext context, CUstream stream, bool per_thread, uint64_t function,
                   uint64_t spilled_bytes, uint32_t launch) noexcept {
  if (running_.load(std::memory_order_relaxed) >= kSamples) return -1;
  std::lock_guard lock(mutex_);
  int found = -1;
  for (int i = 0; i < kSamples && found < 0; ++i) {
    if (samples_[i].state == State::idle) found = i;
  }
  if (found < 0) return -1;
  Sample& sample = samples_[found];
  if (sample.context != context) destroy_events(sample);
  if (sample.context == nullptr) {
    if (FORWARD(cuEventCreate, &sample.first, CU_EVENT_DEFAULT) != CUDA_SUCCESS ||
        FORWARD(cuEventCreate, &sample.last, CU_EVENT_DEFAULT) != CUDA_SUCCESS) {
      destroy_events(sample);
      return -1;
    }
    sample.context = context;
  }
  if (record(sample.first, stream, per_thread) != CUDA_SUCCESS) return -1;
  sample.state = State::starting;
  sample.result = {function, spilled_bytes, 0, pool::ThreadSync::now_ns(), launch};
  running_.fetch_add(1, std::memory_order_relaxed);
  return found;
}

void Sampler::end(int index, CUstream stream, bool per_thread, bool submitted) noexcept {
  if (index < 0) return;
  std::lock_guard lock(mutex_);
  Sample& sample = samples_[index];
  if (sample.state == State::idle) return;  // its context has ended
  sample.result.host_ns = pool::ThreadSync::now_ns() - sample.result.host_ns;
  const bool counts = submitted && sample.last != nullptr &&
                      record(sample.last, stream, per_thread) == CUDA_SUCCESS;
  sample.state = counts ? State::running : State::idle;
  if (!counts) running_.fetch_sub(1, std::memory_order_relaxed);
}

void Sampler::drop(int index) noexcept {
  if (index < 0) return;
  std::lock_guard lock(mutex_);
  if (samples_[index].state == State::idle) return;  // its context has ended
  samples_[index].state = State::idle;
  running_.fetch_sub(1, std::memory_order_relaxed);
}

bool Sampler::collect(Result* result) noexcept {
  if (running_.load(std::memory_order_relaxed) == 0) return false;
  std::unique_lock lock(mutex_, std::try_to_lock);
  if (!lock.owns_lock()) return false;
  // One question to the driver per call: whoever comes by pays for no more.
  for (int i = 0; i < kSamples; ++i) {
    Sample& sample = samples_[(next_ + i) % kSamples];
    if (sample.state != State::running) continue;
    next_ = (next_ + i + 1) % kSamples;
    const CUresult r = FORWARD(cuEventQuery, sample.last);
    if (r == CUDA_ERROR_NOT_READY) return false;
    float ms = 0;
    const bool good =
        r == CUDA_SUCCESS &&
        (FLEXLOM_ORIGINAL(cuEventElapsedTime_v2) != nullptr
             ? FORWARD(cuEventElapsedTime_v2, &ms, sample.first, sample.last)
             : FORWARD(cuEventElapsedTime, &ms, sample.first, sample.last)) == CUDA_SUCCESS;
    sample.state = State::idle;
    running_.fetch_sub(1, std::memory_order_relaxed);
    if (!good) return false;
    *result = sample.result;
    result->elapsed_ns = static_cast<uint64_t>(static_cast<double>(ms) * 1e6);
    return true;
  }
  return false;
}

void Sampler::release_context(CUcontext context) noexcept {
  std::lock_guard lock(mutex_);
  for (Sample& sample : samples_) {
    if (sample.context != context) continue;
    destroy_events(sample);
    if (sample.state != State::idle) running_.fetch_sub(1, std::memory_order_relaxed);
    sample.state = State::idle;
  }
}

}  // namespace flexlom
