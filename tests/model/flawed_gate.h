// The gate's code once more, with one flaw at a time, to show that the explorer finds each. Without
// a flaw it takes the same steps as BasicGate, which a test compares.
#pragma once

#include <atomic>
#include <cstdint>

namespace flexlom::model {

enum class Flaw {
  none,
  looks_before_raising,      // enter(): the gate is looked at before the lane is raised
  raises_without_fence,      // enter(): neither side fences between its two steps
  passes_when_woken,         // enter(): a woken thread does not look again
  leaves_by_plain_store,     // leave(): right only while no two threads share a lane
  close_ignores_lanes,       // close(): nobody is waited for
  close_looks_once,          // close(): only the lane of the first thread is waited for
  close_never_gives_up,      // close(): without a bound
  close_gives_up_shut,       // close(): does not open when it gives up
  close_without_fence,       // close(): no fence but its own
  fences_before_shutting,    // close(): the fence of all comes too early
  shuts_with_plain_store,    // close(): the processor may delay it beyond the look at the lanes
  open_does_not_wake,        // open()
  open_wakes_before_opening  // open()
};

template <class Sync, unsigned Own, unsigned Shared, Flaw flaw>
class FlawedGate {
 public:
  using Word = typename Sync::Word;
  static constexpr unsigned kLanes = Own + Shared;

  bool enter(unsigned lane, bool (*abandoned)() = nullptr) noexcept {
    if (flaw == Flaw::looks_before_raising) {
      const bool open = shut_.load(std::memory_order_seq_cst) == 0;
      raise(lane);
      if (open) return false;
    } else {
      raise(lane);
      if (shut_.load(std::memory_order_seq_cst) == 0) return false;
    }
    wait_inside(lane, abandoned);
    return true;
  }
  void leave(unsigned lane) noexcept {
    Word& inside = lanes_[lane].inside;
    if (lane < Own || flaw == Flaw::leaves_by_plain_store) {
      inside.store(inside.load(std::memory_order_relaxed) - 1, std::memory_order_release);
    } else {
      inside.fetch_sub(1, std::memory_order_release);
    }
  }
  bool close(uint64_t timeout_ns) noexcept {
    if (flaw == Flaw::fences_before_shutting) heavy_fence();
    shut_.store(1, flaw == Flaw::shuts_with_plain_store ? std::memory_order_release
                                                        : std::memory_order_seq_cst);
    if (flaw != Flaw::close_without_fence && flaw != Flaw::fences_before_shutting &&
        flaw != Flaw::shuts_with_plain_store)
      heavy_fence();
    const uint64_t start = Sync::now_ns();
    if (flaw == Flaw::close_ignores_lanes) return true;
    for (Lane& lane : lanes_) {
      while (lane.inside.load(std::memory_order_seq_cst) != 0) {
        if (flaw != Flaw::close_never_gives_up && Sync::now_ns() - start >= timeout_ns) {
          if (flaw != Flaw::close_gives_up_shut) open();
          return false;
        }
        Sync::spin();
      }
      if (flaw == Flaw::close_looks_once) break;
    }
    return true;
  }
  void open() noexcept {
    if (flaw == Flaw::open_wakes_before_opening) Sync::wake_all(shut_);
    shut_.store(0, std::memory_order_seq_cst);
    if (flaw != Flaw::open_does_not_wake && flaw != Flaw::open_wakes_before_opening) {
      Sync::wake_all(shut_);
    }
  }
  bool is_shut() const noexcept { return shut_.load(std::memory_order_acquire) != 0; }

  void light_fence() noexcept {
    if (flaw == Flaw::raises_without_fence) return;
    Sync::compiler_fence();
    if (symmetric_.load(std::memory_order_relaxed) != 0) Sync::fence();
  }
  void heavy_fence() noexcept {
    if (symmetric_.load(std::memory_order_seq_cst) == 0 && !Sync::fence_everywhere()) {
      symmetric_.store(1, std::memory_order_seq_cst);
      Sync::let_stores_arrive();
    }
    Sync::fence();
  }
  bool fence_asymmetrically() noexcept {
    if (!Sync::can_fence_everywhere()) return false;
    symmetric_.store(0, std::memory_order_seq_cst);
    return true;
  }

 private:
  struct alignas(64) Lane {
    Word inside{0};
  };

  void raise(unsigned lane) noexcept {
    Word& inside = lanes_[lane].inside;
    if (lane < Own) {
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
      if (flaw == Flaw::passes_when_woken || shut_.load(std::memory_order_seq_cst) == 0) return;
    }
  }

  alignas(64) Word shut_{0};
  Word symmetric_{1};
  Lane lanes_[kLanes];
};

}  // namespace flexlom::model
