// Those who use the gate: submitters, a thread that captures, one that only looks at the fence, and
// the mover. As they must behave; `Wrong` makes one of them break a rule.
#pragma once

#include <new>
#include <utility>

#include "pool/residency/gate.h"
#include "tests/model/fence_model.h"

namespace flexlom::model {

// What BasicGate is made of here.
struct ModelSync {
  using Word = model::Word;
  static uint64_t now_ns() noexcept { return model::now_ns(); }
  static void spin() noexcept {}
  static void wait(const Word& word, uint32_t seen) noexcept { word.wait(seen); }
  static void wake_all(const Word& word) noexcept { word.wake_all(); }
  static void fence() noexcept { model::fence(); }
  static void compiler_fence() noexcept {}
  static bool fence_everywhere() noexcept {
    model::fence_everywhere();
    return true;
  }
  static bool can_fence_everywhere() noexcept { return true; }
  static void let_stores_arrive() noexcept {}
};

enum class Wrong {
  nothing,
  notes_after_leaving,     // work_submitted is set when the submitter is no longer inside
  captures_ungated,        // a capture begins without passing the gate
  asks_only_for_new,       // the mover forgets work of before somebody else's cut
  asks_before_closing,     // the mover looks for work and captures, then closes the gate
  swaps_after_timeout,     // the mover takes a fence that ran out for one that passed
  waits_in_driver,         // the fence synchronises instead of looking at an event
  leaves_shut_on_timeout,  // the mover forgets to open when it gives up
};

// Bits of Verdict::reached.
enum Reached : unsigned {
  moved,
  moved_twice,
  waited_at_gate,
  inside_too_long,
  work_too_long,
  capture_was_open
};

template <class Gate>
struct World {
  static constexpr uint64_t kTimeout_ns = kJump_ns;

  void enter(unsigned lane) {
    if (gate.enter(lane)) reach(waited_at_gate);
    device.entered();
  }
  void leave(unsigned lane) {
    device.leaving();
    gate.leave(lane);
  }

  // doors::note_submission()
  void note_submission() {
    gate.light_fence();
    fence.note_submission();
  }
  void submit(unsigned lane, uint32_t work) {
    enter(lane);
    device.take(work);
    if (wrong != Wrong::notes_after_leaving) note_submission();
    leave(lane);
    if (wrong == Wrong::notes_after_leaving) note_submission();
  }
  // A submission whose driver call makes another one, from a callback.
  void submit_nested(unsigned lane, uint32_t outer, uint32_t inner) {
    enter(lane);
    device.take(outer);
    submit(lane, inner);
    note_submission();
    leave(lane);
  }
  // A submission whose driver call returns after that of `other`.
  void submit_behind(unsigned lane, uint32_t work, const Word& other) {
    enter(lane);
    device.take(work);
    device.block_until(other);
    note_submission();
    leave(lane);
  }
  void submit_and_tell(unsigned lane, uint32_t work) {
    submit(lane, work);
    told.store(1, std::memory_order_seq_cst);
  }

  void begin_capture(unsigned lane) {
    const bool gated = wrong != Wrong::captures_ungated;
    if (gated) enter(lane);
    fence.capture_opening();
    device.begin_capture();
    if (gated) leave(lane);
  }
  void end_capture(unsigned lane) {
    enter(lane);
    device.end_capture();
    fence.capture_closed();
    leave(lane);
  }

  // Frees memory, say: what it wants from the fence passes no gate.
  void look_at_fence() {
    if (fence.stamp() != 0) fence.advance();
  }

  // As pool/residency/mover.h: in whatever thread, one at a time, and not one step of it waits
  // without a bound. `drain_first`: for the work of before, with the gate open.
  Reached move_page(bool drain_first) {
    await(mover_mutex, 0);
    mover_mutex.poke(1);
    say("locks the mover");
    const bool drained = !drain_first || fence.wait(fence.stamp(), kTimeout_ns);
    forget_time();
    const Reached what = drained ? move_drained() : work_too_long;
    forget_time();
    model::fence();
    mover_mutex.poke(0);
    reach(what);
    return what;
  }
  // In the thread of a submission that is about to be made.
  void move_and_submit(unsigned lane, uint32_t work) {
    move_page(true);
    submit(lane, work);
  }
  // The same from within another, whose thread is inside: it must not find the gate empty.
  void move_nested(unsigned lane, uint32_t outer, uint32_t inner) {
    enter(lane);
    device.take(outer);
    const Reached what = move_page(true);
    if (what == moved) violation("a thread that is inside has moved a page");
    submit(lane, inner);
    note_submission();
    leave(lane);
  }

  const char* wrong_at_end() {
    if (gate.is_shut()) return "the gate was left shut";
    // Not on a thread no time passes: this only looks.
    if (!gate.close(0)) return "somebody is still counted as inside";
    return nullptr;
  }

  static std::vector<std::string> names() {
    std::vector<std::string> all{"shut", "symmetric"};
    for (unsigned i = 0; i < Gate::kLanes; ++i) all.push_back("inside[" + std::to_string(i) + "]");
    all.emplace_back("running work");
    for (std::string& name : FenceModel<Gate>::names()) all.push_back(std::move(name));
    all.emplace_back("told");
    all.emplace_back("mover mutex");
    return all;
  }

  Gate gate;
  Device device;
  FenceModel<Gate> fence{device, gate};
  Word told{0}, mover_mutex{0};
  Wrong wrong = Wrong::nothing;

 private:
  Reached move_drained() {
    uint32_t epoch = 0;
    bool capture_open = false;
    const bool early = wrong == Wrong::asks_before_closing;
    if (early) ask(&epoch, &capture_open);
    const bool closed = gate.close(kTimeout_ns);
    forget_time();
    if (!closed) return inside_too_long;
    if (!early) ask(&epoch, &capture_open);
    if (capture_open) {
      gate.open();
      return capture_was_open;
    }
    const bool passed = epoch == 0 || fence.wait(epoch, kTimeout_ns);
    if (!passed && wrong == Wrong::leaves_shut_on_timeout) return work_too_long;
    if (!passed && wrong != Wrong::swaps_after_timeout) {
      gate.open();
      return work_too_long;
    }
    device.swap_page();
    gate.open();
    return moved;
  }
  void ask(uint32_t* epoch, bool* capture_open) {
    *capture_open = fence.capture_open();
    if (wrong == Wrong::asks_only_for_new && fence.nothing_submitted()) return;
    *epoch = fence.stamp();
  }
};

template <class Gate>
World<Gate>& the_world() {
  return *static_cast<World<Gate>*>(world());
}

}  // namespace flexlom::model
