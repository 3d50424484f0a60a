// The gate: what new GPU work passes, so that a page can be swapped while nothing can touch it.
//
// A submission enters before the driver takes the work and leaves after; the mover closes the gate,
// waits until nobody is inside, and then needs only a fence to know that nothing runs and nothing
// will start (law 2). Readers write a word of their own lane and read one word that is written only
// when the gate opens or closes, so submissions of different threads share no written cache line.
//
// It is Dekker's rule: a reader raises its lane, then looks at the gate; the closer shuts the gate,
// then looks at the lanes. Between the two steps each needs a full fence, so that at least one sees
// the other. Readers come with every launch and closers hardly ever, so where the kernel can
// (membarrier(2), PRIVATE_EXPEDITED) the closer makes the fence for all threads of the process, and
// a reader in a lane of its own makes plain loads and stores: nothing that waits for the caches,
// which the program between two launches has filled with other things. fence_asymmetrically() turns
// that on; until then, and where the kernel refuses, readers fence for themselves.
//
// The closer's wait is bounded: a reader may be inside a driver call that blocks for a long time
// (a synchronous copy behind a long kernel), even on work that a thread held at the gate has yet to
// submit. Then closing is given up and the gate opens again. A closer must open the gate within
// its own bound, so whoever is held at the gate is held for a bounded time.
//
// Thread rules: enter() and leave() from any thread, in pairs, nested or not; close() and open() by
// one thread at a time, which must not be inside; the fences from any thread.
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

  // Of this thread.
  static void fence() noexcept { std::atomic_thread_fence(std::memory_order_seq_cst); }
  static void compiler_fence() noexcept { std::atomic_signal_fence(std::memory_order_seq_cst); }
  // Of all threads of this process, this one included. False: the kernel does not do it (any more).
  static bool fence_everywhere() noexcept;
  // Asks the kernel, once, to be ready for that.
  static bool can_fence_everywhere() noexcept;
  // Longer than any store stays in a processor's store buffer.
  static void let_stores_arrive() noexcept;
};

struct Nothing {};

// Lanes below `Own` belong to one thread each; all others share the rest. `Beside`: what readers
// look at in the same moment, kept in the same cache line.
template <class Sync, unsigned Own = 64, unsigned Shared = 16, class Beside = Nothing>
class BasicGate {
 public:
  using Word = typename Sync::Word;
  static constexpr unsigned kLanes = Own + Shared;

  // `lane`: any number that is stable for a thread, and only this thread's when below Own.
  // `abandoned` (may be null) is asked while the gate is shut: true lets the caller pass, for a
  // child process whose closer does not exist in it. Whether the caller had to wait.
  [[gnu::always_inline]] bool enter(unsigned lane, bool (*abandoned)() = nullptr) noexcept {
    raise(lane);
    if (shut_.load(std::memory_order_seq_cst) == 0) [[likely]]
      return false;
    wait_inside(lane, abandoned);
    return true;
  }
  [[gnu::always_inline]] void leave(unsigned lane) noexcept {
    Word& inside = lanes_[index_of(lane)].inside;
    if (is_own(lane)) [[likely]] {
      inside.store(inside.load(std::memory_order_relaxed) - 1, std::memory_order_release);
    } else {
      inside.fetch_sub(1, std::memory_order_release);
    }
  }

  // True: shut, and nobody is inside. False: somebody stayed inside too long, and it is open again.
  bool close(uint64_t timeout_ns) noexcept {
    shut_.store(1, std::memory_order_seq_cst);
    heavy_fence();
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

  // The two sides of a fence between what is done often and what is done rarely: with a
  // light_fence() between two steps of one thread and a heavy_fence() between two of another, one
  // of them sees what the other did first.
  [[gnu::always_inline]] void light_fence() noexcept {
    Sync::compiler_fence();
    if (symmetric_.load(std::memory_order_relaxed) != 0) [[unlikely]]
      Sync::fence();
  }
  void heavy_fence() noexcept {
    if (symmetric_.load(std::memory_order_seq_cst) == 0 && !Sync::fence_everywhere()) {
      // A filter of system calls came after us. From now on all fence for themselves; whoever has
      // not seen that yet has its stores on the way.
      symmetric_.store(1, std::memory_order_seq_cst);
      Sync::let_stores_arrive();
    }
    Sync::fence();
  }
  // Before the first close() and heavy_fence(). Whether the kernel can.
  bool fence_asymmetrically() noexcept {
    if (!Sync::can_fence_everywhere()) return false;
    symmetric_.store(0, std::memory_order_seq_cst);
    return true;
  }

 private:
  struct alignas(64) Lane {
    Word inside{0};
  };

  static constexpr bool is_own(unsigned lane) noexcept { return lane < Own; }
  static constexpr unsigned index_of(unsigned lane) noexcept {
    if constexpr (Shared == 0) return lane;
    return lane < Own ? lane : Own + lane % (Shared == 0 ? 1 : Shared);
  }
  [[gnu::always_inline]] void raise(unsigned lane) noexcept {
    Word& inside = lanes_[index_of(lane)].inside;
    if (is_own(lane)) [[likely]] {
      inside.store(inside.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
      light_fence();
    } else {
      inside.fetch_add(1, std::memory_order_seq_cst);
    }
  }

  [[gnu::noinline]] void wait_inside(unsigned lane, bool (*abandoned)()) noexcept {
    for (;;) {
      if (abandoned != nullptr && abandoned()) return;
      leave(lane);
      Sync::wait(shut_, 1);
      raise(lane);
      if (shut_.load(std::memory_order_seq_cst) == 0) return;
    }
  }

  alignas(64) Word shut_{0};
  Word symmetric_{1};

 public:
  [[no_unique_address]] Beside beside{};

 private:
  Lane lanes_[kLanes];
};

// What the doors look at when a submission passes.
struct BesideGate {
  std::atomic<uint32_t> work_submitted{0};  // see fence.h
  std::atomic<bool> watching{false};        // memory has been short: submissions say what they name
  std::atomic<bool> tracking{false};        // tracked mode: data that goes to a device is looked at
  std::atomic<bool> guarding{false};        // guard mode: submissions and waits are remembered
  std::atomic<bool> counting{true};  // calls are counted, until somebody knows that nobody asks
};
using Gate = BasicGate<ThreadSync, 64, 16, BesideGate>;

}  // namespace flexlom::pool
