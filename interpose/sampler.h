// Times single submissions on the device, to learn how fast a function reads over the link.
//
// A sample is a pair of events around one submission on its own stream (CUDA Driver API 6.19).
// Their results are collected when later submissions come by, never waited for. Nothing is recorded
// while a capture is open: the events would become part of the graph.
//
// Thread safe. A few samples are under way at a time; when all are, a submission is not timed.
#pragma once

#include <cuda.h>

#include <atomic>
#include <cstdint>
#include <mutex>

namespace flexlom {

class Sampler {
 public:
  struct Result {
    uint64_t function;
    uint64_t spilled_bytes;
    uint64_t elapsed_ns;
    uint64_t host_ns;  // from the first event's recording to the last one's
    uint32_t launch;   // as begin() was told
  };

  // A free sample with its first event recorded on the stream, or -1. The context is current.
  // `launch` comes back in the result.
  int begin(CUcontext context, CUstream stream, bool per_thread, uint64_t function,
            uint64_t spilled_bytes, uint32_t launch) noexcept;
  // After the submission; a failed one is not counted.
  void end(int sample, CUstream stream, bool per_thread, bool submitted) noexcept;
  // Gives up a sample that could not be ended.
  void drop(int sample) noexcept;
  bool any() const noexcept { return running_.load(std::memory_order_relaxed) > 0; }
  // One finished sample, if there is any.
  bool collect(Result* result) noexcept;
  // The context is about to be destroyed: its events go back to the driver.
  void release_context(CUcontext context) noexcept;

 private:
  static constexpr int kSamples = 32;
  enum class State : uint8_t { idle, starting, running };
  struct Sample {
    State state = State::idle;
    CUcontext context = nullptr;  // of the events; null: none made yet
    CUevent first = nullptr, last = nullptr;
    Result result{};
  };

  void destroy_events(Sample& sample) noexcept;

  std::atomic<int> running_{0};
  std::mutex mutex_;  // guards the samples
  Sample samples_[kSamples];
  int next_ = 0;
};

}  // namespace flexlom
