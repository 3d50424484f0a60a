// The order of the steps in note_submission(), Fence::stamp() and Fence::cut(), checked in every
// interleaving of one submitter with two cuts, in a model of its own: the real code cannot be made to
// take its steps in a wrong order, and a race that is possible need not happen in a test that runs.
//
// The submitter's work never ends, so the block it frees may never be found reusable.
#include <catch2/catch.hpp>

#include <array>

namespace {

struct Order {
  bool note_after_submission = true;  // interpose/doors/gate.h
  bool bump_before_clear = true;      // Fence::close_epoch(): the epoch is opened, then the word cleared
  bool record_after_clear = true;     // Fence::cut(): then the event recorded
  bool unwant_before_bump = true;     // Fence::close_epoch(): before that, nobody wants the new epoch
};

struct Model {
  // The shared words, and what the driver knows.
  bool word = false, wanted = false, submitted = false;
  unsigned open = 1, done = 0;
  // The submitter's registers.
  bool idle = false;
  unsigned seen_open = 0, stamp = 0;
  bool stamped = false;
  // The cutter's.
  unsigned closing = 0;
  bool covers = false;
  unsigned blocking = 0;  // epochs from this one on wait for the work

  void submitter(unsigned step, const Order& order) {
    switch (step) {
      case 0: order.note_after_submission ? take() : note(); break;
      case 1: order.note_after_submission ? note() : take(); break;
      case 2: idle = !word; break;
      case 3: seen_open = open; break;
      case 4:
        if (idle && done == seen_open - 1) {
          stamp = 0;
        } else {
          stamp = seen_open;
        }
        stamped = true;
        break;
      case 5:
        if (stamp != 0) wanted = true;
        break;
    }
  }
  void take() { submitted = true; }
  void note() { word = true; }

  void cutter(unsigned step, const Order& order) {
    switch (step) {
      case 0:
        if (order.unwant_before_bump) wanted = false;
        break;
      case 1: order.bump_before_clear ? bump() : clear(); break;
      case 2:
        if (!order.unwant_before_bump) wanted = false;
        break;
      case 3:
        if (!order.record_after_clear) record();
        break;
      case 4: order.bump_before_clear ? clear() : bump(); break;
      case 5:
        if (order.record_after_clear) record();
        break;
      case 6: poll(); break;
    }
  }
  void bump() { closing = open++; }
  void clear() { word = false; }
  void record() { covers = submitted; }
  void poll() {
    // Events of a context end in order: a cut that waits holds up all later ones.
    if (covers && blocking == 0) blocking = closing;
    if (blocking == 0) done = closing;
  }
};

struct Verdict {
  unsigned interleavings = 0;
  unsigned unsafe = 0;  // the block was found reusable though its work runs
  unsigned lost = 0;    // the block's epoch is open and no cut will ever close it
};

constexpr unsigned kSubmitterSteps = 6, kCutterSteps = 7, kCuts = 2;

void explore(const Model& model, unsigned submitter, unsigned cutter, const Order& order, Verdict& verdict) {
  if (model.stamped && (model.stamp == 0 || model.done >= model.stamp)) {
    ++verdict.unsafe;
    ++verdict.interleavings;
    return;
  }
  const bool submitter_ended = submitter == kSubmitterSteps;
  const bool cutter_ended = cutter == kCutterSteps * kCuts;
  if (submitter_ended && cutter_ended) {
    ++verdict.interleavings;
    if (model.stamp >= model.open && !model.wanted) ++verdict.lost;
    return;
  }
  if (!submitter_ended) {
    Model next = model;
    next.submitter(submitter, order);
    explore(next, submitter + 1, cutter, order, verdict);
  }
  if (!cutter_ended) {
    Model next = model;
    next.cutter(cutter % kCutterSteps, order);
    explore(next, submitter, cutter + 1, order, verdict);
  }
}

Verdict explore(const Order& order) {
  Verdict verdict;
  explore(Model{}, 0, 0, order, verdict);
  return verdict;
}

}  // namespace

TEST_CASE("fence protocol: the order of the code is safe in every interleaving") {
  const Verdict verdict = explore({});
  CHECK(verdict.interleavings > 10'000);
  CHECK(verdict.unsafe == 0);
  CHECK(verdict.lost == 0);
}

TEST_CASE("fence protocol: telling the fence before the driver took the work is found") {
  Order order;
  order.note_after_submission = false;
  CHECK(explore(order).unsafe > 0);
}

TEST_CASE("fence protocol: recording the event before the word is cleared is found") {
  Order order;
  order.record_after_clear = false;
  CHECK(explore(order).unsafe > 0);
}

TEST_CASE("fence protocol: clearing the word before the epoch is opened is found") {
  Order order;
  order.bump_before_clear = false;
  CHECK(explore(order).unsafe > 0);
}

TEST_CASE("fence protocol: a wish for the new epoch that the old one's end takes away is found") {
  Order order;
  order.unwant_before_bump = false;
  CHECK(explore(order).lost > 0);
}
