// Programs of a few threads around a gate. Work is a bit per submission.
#pragma once

#include "tests/model/gate_world.h"

namespace flexlom::model {

// Whether submitters fence for themselves, or the mover for all.
enum class Fences { symmetric, asymmetric };

template <class Gate>
class Scenario {
 public:
  using TheWorld = World<Gate>;

  explicit Scenario(Fences fences, Wrong wrong = Wrong::nothing, bool shut = false) {
    static_assert(sizeof(TheWorld) <= kMaxWorldBytes);
    program_.construct = [fences, wrong, shut] {
      auto* w = new (world()) TheWorld;
      if (fences == Fences::asymmetric) w->gate.fence_asymmetrically();
      w->wrong = wrong;
      w->fence.synchronizes = wrong == Wrong::waits_in_driver;
      if (shut) w->gate.close(0);
      Word::name(TheWorld::names());
    };
    program_.world_bytes = sizeof(TheWorld);
    program_.wrong_at_end = [] { return the_world<Gate>().wrong_at_end(); };
  }

  // `body` takes the world.
  template <class Body>
  Scenario& thread(std::string name, Body body, bool required = true) {
    program_.threads.push_back({std::move(name), [body] { body(the_world<Gate>()); }, required});
    return *this;
  }
  Scenario& gpu() {
    return thread(
        "gpu", [](TheWorld& w) { w.device.run(); }, false);
  }
  Scenario& mover(unsigned times = 1, bool drain_first = false) {
    return thread("mover", [times, drain_first](TheWorld& w) {
      bool before = false;
      for (unsigned i = 0; i < times; ++i) {
        const bool now = w.move_page(drain_first) == moved;
        if (before && now) reach(moved_twice);
        before = before || now;
      }
    });
  }
  Scenario& submitter(std::string name, unsigned lane, uint32_t work) {
    return thread(std::move(name), [lane, work](TheWorld& w) { w.submit(lane, work); });
  }
  Scenario& without_spurious_wakes() {
    program_.spurious_wakes = false;
    return *this;
  }
  Scenario& in_full() {
    program_.in_full = true;
    return *this;
  }
  Verdict explore() const { return model::explore(program_); }

 private:
  Program program_;
};

}  // namespace flexlom::model
