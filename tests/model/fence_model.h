// The steps of pool/residency/fence.cpp with one context, in the memory of the explorer. Its own
// order of steps is the subject of the fence's tests; here it is what the mover relies on.
#pragma once

#include "tests/model/device.h"

namespace flexlom::model {

template <class Gate>
class FenceModel {
 public:
  FenceModel(Device& device, Gate& gate) : device_(device), gate_(gate) {}

  // What doors::note_submission() does after its light fence.
  void note_submission() {
    if (work_submitted_.load(std::memory_order_relaxed) == 0) {
      work_submitted_.store(1, std::memory_order_release);
    }
  }

  uint32_t stamp() {
    const bool idle = work_submitted_.load(std::memory_order_acquire) == 0;
    const uint32_t open = open_.load(std::memory_order_acquire);
    if (idle && done_.load(std::memory_order_acquire) == open - 1) return 0;
    if (wanted_.load(std::memory_order_relaxed) == 0) wanted_.store(1, std::memory_order_release);
    return open;
  }
  bool passed(uint32_t epoch) const { return epoch <= done_.load(std::memory_order_acquire); }

  void advance() {
    lock();
    if (!capture_open()) {
      poll();
      if (wanted_.load(std::memory_order_acquire) != 0 && cut_count_ < kMaxCuts) {
        cut();
        poll();
      }
    }
    unlock();
  }

  bool wait(uint32_t epoch, uint64_t timeout_ns) {
    if (passed(epoch)) return true;
    const uint64_t start = now_ns();
    for (;;) {
      advance();
      if (passed(epoch)) return true;
      if (now_ns() - start >= timeout_ns) return false;
      if (capture_open()) return false;
    }
  }

  void capture_opening() {
    captures_.fetch_add(1, std::memory_order_acq_rel);
    lock();
    unlock();
  }
  void capture_closed() { captures_.fetch_sub(1, std::memory_order_acq_rel); }
  bool capture_open() const { return captures_.load(std::memory_order_acquire) != 0; }

  // A driver without events of a context.
  bool synchronizes = false;

  // Only what was submitted since the last cut: wrong, an older cut may not be over.
  bool nothing_submitted() const { return work_submitted_.load(std::memory_order_acquire) == 0; }

  static std::vector<std::string> names() {
    return {"work_submitted", "open epoch", "done epoch", "wanted", "captures", "fence mutex"};
  }

 private:
  static constexpr unsigned kMaxCuts = 3;

  void lock() {
    await(mutex_, 0);
    mutex_.poke(1);
    say("locks the fence");
  }
  void unlock() {
    fence();
    mutex_.poke(0);
    say("unlocks the fence");
  }
  void cut() {
    const uint32_t epoch = open_.load(std::memory_order_relaxed);
    wanted_.store(0, std::memory_order_seq_cst);
    open_.store(epoch + 1, std::memory_order_seq_cst);
    work_submitted_.exchange(0, std::memory_order_seq_cst);
    gate_.heavy_fence();
    if (synchronizes) device_.synchronize();
    cuts_[cut_count_] = {epoch, device_.record()};
    ++cut_count_;
  }
  void poll() {
    while (cut_count_ > 0 && device_.is_over(cuts_[0].covers)) {
      done_.store(cuts_[0].epoch, std::memory_order_release);
      --cut_count_;
      for (unsigned i = 0; i < kMaxCuts; ++i) cuts_[i] = i < cut_count_ ? cuts_[i + 1] : Cut{};
    }
  }

  struct Cut {
    uint32_t epoch = 0;
    uint32_t covers = 0;
  };

  Device& device_;
  Gate& gate_;
  Word work_submitted_{0}, open_{1}, done_{0}, wanted_{0}, captures_{0}, mutex_{0};
  Cut cuts_[kMaxCuts];      // by whoever holds the mutex
  unsigned cut_count_ = 0;  // by whoever holds the mutex
};

}  // namespace flexlom::model
