// The gate: what new GPU work passes, so that a page can be swapped while nothing can touch it.
//
// A submission enters before the driver takes the work and leaves after; the mover closes the gate,
// waits until nobody is inside, and then needs only a fence to know that nothing runs and nothing
// will start (law 2). Readers write a word of their own lane and read one word that is written only
// when the gate opens or closes, so submissions of different threads share no written cache line.
//
// It is Dekker's rule: a reader raises its lane, then looks at the gate; the closer shuts the gate,
// then looks at the lanes. With both pairs sequentially consistent at least one sees the other.
//
// The closer's wait is bounded: a reader may be inside a driver call that blocks for a long time
// (a synchronous copy behind a long kernel), even on work that a thread held at the gate has yet to
// submit. Then closing is given up and the gate opens again. A closer must open the gate within
// its own bound, so whoever is held at the gate is held for a bounded time.
//
// Thread rules: enter() and leave() from any thread, in pairs, nested or not; close() and open() by
// one thread at a time, which must not be inside.
#pragma once

#include <time.h>

#include <atomic>
#include <cstdint>

namespace flexlom::pool {

// What the gate is made of; the model check in the tests puts a scheduler in its place.
struct ThreadSync {
  using Word = std::atomic<uint32_t>;
  static uint64_t now_ns() noexcept {
    timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return static_cast<uint64_t>(t.tv_sec) * 1'000'000'000u + static_cast<uint64_t>(t.tv_nsec);
  }
  static void spin() noexcept { __builtin_ia32_pause(); }
  // Until `word` may be another value than `seen`: returns early, and after some ms in any case.
  static void wait(const Word& word, uint32_t seen) noexcept;
  static void wake_all(const Word& word) noexcept;
};

template <class Sync, unsigned Lanes = 64>
class BasicGate {
 public:
  using Word = typename Sync::Word;
  static constexpr unsigned kLanes = Lanes;

  // `lane`: any number that is stable for a thread. `abandoned` (may be null) is asked while the
  // gate is shut: true lets the caller pass, for a child process whose closer does not exist in it.
  // Whether the caller had to wait.
  bool enter(unsigned lane, bool (*abandoned)() = nullptr) noexcept {
    Word& inside = lanes_[lane % kLanes].inside;
    inside.fetch_add(1, std::memory_order_seq_cst);
    if (shut_.load(std::memory_order_seq_cst) == 0) [[likely]]
      return false;
    wait_inside(inside, abandoned);
    return true;
  }
  void leave(unsigned lane) noexcept {
    lanes_[lane % kLanes].inside.fetch_sub(1, std::memory_order_release);
  }

  // True: shut, and nobody is inside. False: somebody stayed inside too long, and it is open again.
  bool close(uint64_t timeout_ns) noexcept {
    shut_.store(1, std::memory_order_seq_cst);
    const uint64_t start = Sync::now_ns();
    for (Lane& lane : lanes_) {
      while (lane.inside.load(std::memory_order_seq_cst) != 0) {
        if (Sync::now_ns() - start >= timeout_ns) {
          open();
          return false;
        }
        Sync::spin();
      }
    }
    return true;
  }
  void open() noexcept {
    shut_.store(0, std::memory_order_seq_cst);
    Sync::wake_all(shut_);
  }
  bool is_shut() const noexcept { return shut_.load(std::memory_order_acquire) != 0; }

 private:
  struct alignas(64) Lane {
    Word inside{0};
  };

  [[gnu::noinline]] void wait_inside(Word& inside, bool (*abandoned)()) noexcept {
    for (;;) {
      if (abandoned != nullptr && abandoned()) return;
      inside.fetch_sub(1, std::memory_order_release);
      Sync::wait(shut_, 1);
      inside.fetch_add(1, std::memory_order_seq_cst);
      if (shut_.load(std::memory_order_seq_cst) == 0) return;
    }
  }

  alignas(64) Word shut_{0};
  Lane lanes_[kLanes];
};

using Gate = BasicGate<ThreadSync>;

}  // namespace flexlom::pool
