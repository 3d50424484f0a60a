// The gate as it is, and all who use it as they should: every interleaving is safe and comes to its
// end with the gate open.
#include <catch2/catch.hpp>

#include <cstdio>

#include "tests/model/flawed_gate.h"
#include "tests/model/scenarios.h"

using namespace flexlom::model;
using flexlom::pool::BasicGate;

namespace {

using OneLane = Scenario<BasicGate<ModelSync, 1>>;
using TwoLanes = Scenario<BasicGate<ModelSync, 2>>;

bool has_reached(const Verdict& verdict, Reached what) {
  return (verdict.reached >> what & 1) != 0;
}

// `must_reach`: what has to be possible in such a program, or the model is not the one meant.
template <class S>
Verdict check_wakes(const S& scenario, std::initializer_list<Reached> must_reach) {
  const Verdict verdict = scenario.explore();
  printf("%s: %s", Catch::getResultCapture().getCurrentTestName().c_str(),
         text_of(verdict).c_str());
  INFO(text_of(verdict));
  CHECK(verdict.holds());
  CHECK(verdict.ends > 0);
  for (const Reached what : must_reach) {
    INFO("what must be reached: " << what);
    CHECK(has_reached(verdict, what));
  }
  return verdict;
}

// With wakes that have no reason, for what they may disturb; without, so that a lost one is seen.
template <class S>
Verdict check(S scenario, std::initializer_list<Reached> must_reach) {
  check_wakes(scenario, must_reach);
  return check_wakes(scenario.without_spurious_wakes(), must_reach);
}

}  // namespace

TEST_CASE("gate model: two submitters on two lanes, the mover twice") {
  check(TwoLanes().submitter("a", 0, 1).submitter("b", 1, 2).mover(2).gpu(),
        {moved, moved_twice, waited_at_gate, inside_too_long, work_too_long});
}

TEST_CASE("gate model: two submitters on one lane, the mover twice") {
  check(OneLane().submitter("a", 0, 1).submitter("b", 0, 2).mover(2).gpu(),
        {moved, moved_twice, waited_at_gate, inside_too_long, work_too_long});
}

TEST_CASE("gate model: three submitters, two of them on one lane") {
  check_wakes(TwoLanes()
                  .submitter("a", 0, 1)
                  .submitter("b", 1, 2)
                  .submitter("c", 1, 4)
                  .mover()
                  .gpu()
                  .without_spurious_wakes(),
              {moved, waited_at_gate, inside_too_long, work_too_long});
}

TEST_CASE("gate model: a submission made within a submission") {
  check(TwoLanes()
            .thread("a", [](auto& w) { w.submit_nested(0, 1, 2); })
            .submitter("b", 0, 4)
            .mover(2)
            .gpu(),
        {moved, moved_twice, waited_at_gate, inside_too_long, work_too_long});
}

// The mover finds a submitter inside that cannot leave before the gate opens.
TEST_CASE("gate model: a submitter blocks inside until one held at the gate has submitted") {
  check(TwoLanes()
            .thread("a", [](auto& w) { w.submit_behind(0, 1, w.told); })
            .thread("b", [](auto& w) { w.submit_and_tell(1, 2); })
            .mover(2)
            .gpu(),
        {moved, moved_twice, waited_at_gate, inside_too_long, work_too_long});
}

TEST_CASE("gate model: the same on one lane") {
  check(OneLane()
            .thread("a", [](auto& w) { w.submit_behind(0, 1, w.told); })
            .thread("b", [](auto& w) { w.submit_and_tell(0, 2); })
            .mover()
            .gpu(),
        {moved, waited_at_gate, inside_too_long, work_too_long});
}

TEST_CASE("gate model: work that never ends is never moved under") {
  const Verdict verdict =
      check(TwoLanes().submitter("a", 0, 1).submitter("b", 1, 2).mover(2),
            {moved, moved_twice, waited_at_gate, inside_too_long, work_too_long});
  // All orders of the end: the page can only have moved before the work.
  CHECK(verdict.ends > 1);
}

TEST_CASE("gate model: a capture begins, records and ends") {
  check(TwoLanes()
            .thread("capture",
                    [](auto& w) {
                      w.begin_capture(0);
                      w.submit(0, 1);
                      w.end_capture(0);
                    })
            .submitter("b", 1, 2)
            .mover(2)
            .gpu(),
        {moved, moved_twice, waited_at_gate, inside_too_long, work_too_long, capture_was_open});
}

TEST_CASE("gate model: a capture stays open") {
  const Verdict verdict = check(TwoLanes()
                                    .thread("capture", [](auto& w) { w.begin_capture(0); })
                                    .submitter("b", 1, 2)
                                    .mover(2)
                                    .gpu(),
                                {moved, moved_twice, waited_at_gate, capture_was_open});
  CHECK(verdict.ends > 1);
}

TEST_CASE("gate model: somebody else cuts the fence's epochs meanwhile") {
  check_wakes(TwoLanes()
                  .submitter("a", 0, 1)
                  .thread("free", [](auto& w) { w.look_at_fence(); })
                  .thread("free too", [](auto& w) { w.look_at_fence(); })
                  .mover()
                  .gpu(),
              {moved, waited_at_gate, inside_too_long, work_too_long});
}

TEST_CASE("gate model: a capture, a submitter and cuts of the fence at once") {
  check_wakes(TwoLanes()
                  .thread("capture",
                          [](auto& w) {
                            w.begin_capture(0);
                            w.end_capture(0);
                          })
                  .submitter("b", 1, 2)
                  .thread("free", [](auto& w) { w.look_at_fence(); })
                  .mover()
                  .gpu()
                  .without_spurious_wakes(),
              {moved, waited_at_gate, inside_too_long, work_too_long, capture_was_open});
}

TEST_CASE("gate model: the mover waits for the work of before with the gate open") {
  check(TwoLanes().submitter("a", 0, 1).submitter("b", 1, 2).mover(1, true).gpu(),
        {moved, waited_at_gate, inside_too_long, work_too_long});
}

TEST_CASE("gate model: two threads each move pages before they submit") {
  check_wakes(TwoLanes()
                  .thread("a", [](auto& w) { w.move_and_submit(0, 1); })
                  .thread("b", [](auto& w) { w.move_and_submit(1, 2); })
                  .gpu(),
              {moved, waited_at_gate, inside_too_long, work_too_long});
}

TEST_CASE("gate model: a thread that is inside tries to move pages, while another does") {
  check_wakes(TwoLanes()
                  .thread("a", [](auto& w) { w.move_nested(0, 1, 2); })
                  .mover()
                  .gpu()
                  .without_spurious_wakes(),
              {moved, waited_at_gate, inside_too_long, work_too_long});
}

TEST_CASE("gate model: a child process has no mover, and passes a gate that is shut") {
  OneLane scenario(Wrong::nothing, true);
  scenario.thread("a", [](auto& w) {
    w.gate.enter(0, [] { return true; });
    w.gate.leave(0);
    reach(waited_at_gate);
  });
  scenario.without_spurious_wakes();
  const Verdict verdict = scenario.explore();
  INFO(text_of(verdict));
  CHECK(has_reached(verdict, waited_at_gate));
  CHECK(verdict.violation == "the gate was left shut");
}

// What is said of the flawed gates must hold for this gate's own steps.
TEST_CASE("gate model: the gate that flaws are put into takes the steps of the real one") {
  const auto of = [](auto scenario) {
    return scenario.submitter("a", 0, 1).submitter("b", 1, 2).mover(2).gpu().explore();
  };
  const Verdict real = of(TwoLanes());
  const Verdict copy = of(Scenario<FlawedGate<ModelSync, 2, Flaw::none>>());
  CHECK(copy.holds());
  // Not the number of states: it also depends on what compilers leave behind on stacks.
  CHECK(copy.ends == real.ends);
  CHECK(copy.reached == real.reached);
}

TEST_CASE("gate model: interleavings that are left out as equal end in nothing else") {
  const auto scenario = [] {
    return OneLane().submitter("a", 0, 1).submitter("b", 0, 2).mover().gpu();
  };
  const Verdict usual = scenario().explore();
  const Verdict full = scenario().in_full().explore();
  CHECK(full.holds());
  CHECK(full.ends == usual.ends);
  CHECK(full.reached == usual.reached);
  CHECK(full.states > usual.states);
}
