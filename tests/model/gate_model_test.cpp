// The gate as it is, and all who use it as they should: every interleaving is safe and comes to its
// end with the gate open.
#include <catch2/catch.hpp>

#include <cstdio>

#include "tests/model/flawed_gate.h"
#include "tests/model/scenarios.h"

using namespace flexlom::model;
using flexlom::pool::BasicGate;

namespace {

// A lane that all share; two lanes of one thread each; one of each kind.
template <unsigned Own, unsigned Shared>
using Lanes = Scenario<BasicGate<ModelSync, Own, Shared>>;
using OneLane = Lanes<0, 1>;
using TwoLanes = Lanes<2, 0>;
using BothKinds = Lanes<1, 1>;

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
  const Fences fences = GENERATE(Fences::symmetric, Fences::asymmetric);
  check(TwoLanes(fences).submitter("a", 0, 1).submitter("b", 1, 2).mover(2).gpu(),
        {moved, moved_twice, waited_at_gate, inside_too_long, work_too_long});
}

TEST_CASE("gate model: two submitters on one lane, the mover twice") {
  const Fences fences = GENERATE(Fences::symmetric, Fences::asymmetric);
  check(OneLane(fences).submitter("a", 0, 1).submitter("b", 0, 2).mover(2).gpu(),
        {moved, moved_twice, waited_at_gate, inside_too_long, work_too_long});
}

TEST_CASE("gate model: three submitters, two of them on one lane") {
  const Fences fences = GENERATE(Fences::symmetric, Fences::asymmetric);
  check_wakes(BothKinds(fences)
                  .submitter("a", 0, 1)
                  .submitter("b", 1, 2)
                  .submitter("c", 1, 4)
                  .mover()
                  .gpu()
                  .without_spurious_wakes(),
              {moved, waited_at_gate, inside_too_long, work_too_long});
}

TEST_CASE("gate model: a submission made within a submission") {
  const Fences fences = GENERATE(Fences::symmetric, Fences::asymmetric);
  check(OneLane(fences)
            .thread("a", [](auto& w) { w.submit_nested(0, 1, 2); })
            .submitter("b", 0, 4)
            .mover(2)
            .gpu(),
        {moved, moved_twice, waited_at_gate, inside_too_long, work_too_long});
}

// The mover finds a submitter inside that cannot leave before the gate opens.
TEST_CASE("gate model: a submitter blocks inside until one held at the gate has submitted") {
  const Fences fences = GENERATE(Fences::symmetric, Fences::asymmetric);
  check(TwoLanes(fences)
            .thread("a", [](auto& w) { w.submit_behind(0, 1, w.told); })
            .thread("b", [](auto& w) { w.submit_and_tell(1, 2); })
            .mover(2)
            .gpu(),
        {moved, moved_twice, waited_at_gate, inside_too_long, work_too_long});
}

TEST_CASE("gate model: the same on one lane") {
  const Fences fences = GENERATE(Fences::symmetric, Fences::asymmetric);
  check(OneLane(fences)
            .thread("a", [](auto& w) { w.submit_behind(0, 1, w.told); })
            .thread("b", [](auto& w) { w.submit_and_tell(0, 2); })
            .mover()
            .gpu(),
        {moved, waited_at_gate, inside_too_long, work_too_long});
}

TEST_CASE("gate model: work that never ends is never moved under") {
  const Fences fences = GENERATE(Fences::symmetric, Fences::asymmetric);
  const Verdict verdict =
      check(TwoLanes(fences).submitter("a", 0, 1).submitter("b", 1, 2).mover(2),
            {moved, moved_twice, waited_at_gate, inside_too_long, work_too_long});
  // All orders of the end: the page can only have moved before the work.
  CHECK(verdict.ends > 1);
}

TEST_CASE("gate model: a capture begins, records and ends") {
  const Fences fences = GENERATE(Fences::symmetric, Fences::asymmetric);
  check(TwoLanes(fences)
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
  const Fences fences = GENERATE(Fences::symmetric, Fences::asymmetric);
  const Verdict verdict = check(TwoLanes(fences)
                                    .thread("capture", [](auto& w) { w.begin_capture(0); })
                                    .submitter("b", 1, 2)
                                    .mover(2)
                                    .gpu(),
                                {moved, moved_twice, waited_at_gate, capture_was_open});
  CHECK(verdict.ends > 1);
}

TEST_CASE("gate model: somebody else cuts the fence's epochs meanwhile") {
  const Fences fences = GENERATE(Fences::symmetric, Fences::asymmetric);
  check_wakes(TwoLanes(fences)
                  .submitter("a", 0, 1)
                  .thread("free", [](auto& w) { w.look_at_fence(); })
                  .thread("free too", [](auto& w) { w.look_at_fence(); })
                  .mover()
                  .gpu(),
              {moved, waited_at_gate, inside_too_long, work_too_long});
}

TEST_CASE("gate model: a capture, a submitter and cuts of the fence at once") {
  const Fences fences = GENERATE(Fences::symmetric, Fences::asymmetric);
  check_wakes(TwoLanes(fences)
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
  const Fences fences = GENERATE(Fences::symmetric, Fences::asymmetric);
  check(TwoLanes(fences).submitter("a", 0, 1).submitter("b", 1, 2).mover(1, true).gpu(),
        {moved, waited_at_gate, inside_too_long, work_too_long});
}

TEST_CASE("gate model: two threads each move pages before they submit") {
  const Fences fences = GENERATE(Fences::symmetric, Fences::asymmetric);
  check_wakes(TwoLanes(fences)
                  .thread("a", [](auto& w) { w.move_and_submit(0, 1); })
                  .thread("b", [](auto& w) { w.move_and_submit(1, 2); })
                  .gpu(),
              {moved, waited_at_gate, inside_too_long, work_too_long});
}

TEST_CASE("gate model: a thread that is inside tries to move pages, while another does") {
  const Fences fences = GENERATE(Fences::symmetric, Fences::asymmetric);
  check_wakes(TwoLanes(fences)
                  .thread("a", [](auto& w) { w.move_nested(0, 1, 2); })
                  .mover()
                  .gpu()
                  .without_spurious_wakes(),
              {moved, waited_at_gate, inside_too_long, work_too_long});
}

TEST_CASE("gate model: a child process has no mover, and passes a gate that is shut") {
  const Fences fences = GENERATE(Fences::symmetric, Fences::asymmetric);
  OneLane scenario(fences, Wrong::nothing, true);
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
  const Fences fences = GENERATE(Fences::symmetric, Fences::asymmetric);
  const auto of = [](auto scenario) {
    return scenario.submitter("a", 0, 1).submitter("b", 1, 2).mover(2).gpu().explore();
  };
  const Verdict real = of(TwoLanes(fences));
  const Verdict copy = of(Scenario<FlawedGate<ModelSync, 2, 0, Flaw::none>>(fences));
  CHECK(copy.holds());
  // Not the number of states: it also depends on what compilers leave behind on stacks.
  CHECK(copy.ends == real.ends);
  CHECK(copy.reached == real.reached);
}

TEST_CASE("gate model: interleavings that are left out as equal end in nothing else") {
  const Fences fences = GENERATE(Fences::symmetric, Fences::asymmetric);
  const auto scenario = [=] {
    return OneLane(fences).submitter("a", 0, 1).submitter("b", 0, 2).mover().gpu();
  };
  const Verdict usual = scenario().explore();
  const Verdict full = scenario().in_full().explore();
  CHECK(full.holds());
  CHECK(full.ends == usual.ends);
  CHECK(full.reached == usual.reached);
  CHECK(full.states > usual.states);
}

// The driver's own stores, which tell the GPU of the work, wait in the same store buffer as ours.
namespace {

struct Posting {
  BasicGate<ModelSync, 1, 0> gate;
  Word posted{0}, work_submitted{1};  // set by earlier work
  uint32_t covered = 0;
};
enum class Without { nothing, light_fence, heavy_fence };

Verdict post_and_cut(Fences fences, Without without) {
  const auto the_posting = [] { return static_cast<Posting*>(world()); };
  Program program;
  program.construct = [=] {
    auto* w = new (world()) Posting;
    if (fences == Fences::asymmetric) w->gate.fence_asymmetrically();
    Word::name({"shut", "symmetric", "inside", "posted", "work_submitted"});
  };
  program.world_bytes = sizeof(Posting);
  program.threads.push_back({"submitter", [=] {
                               Posting* w = the_posting();
                               w->posted.store(1, std::memory_order_relaxed);
                               if (without != Without::light_fence) w->gate.light_fence();
                               if (w->work_submitted.load(std::memory_order_relaxed) == 0)
                                 w->work_submitted.store(1, std::memory_order_release);
                             }});
  program.threads.push_back({"cut", [=] {
                               Posting* w = the_posting();
                               w->work_submitted.exchange(0, std::memory_order_seq_cst);
                               if (without != Without::heavy_fence) w->gate.heavy_fence();
                               w->covered = w->posted.load(std::memory_order_seq_cst);
                             }});
  program.wrong_at_end = [=]() -> const char* {
    const Posting* w = the_posting();
    const bool known = w->covered != 0 || w->work_submitted.peek() != 0;
    return known ? nullptr : "work is neither covered by the event nor noted";
  };
  return explore(program);
}

}  // namespace

TEST_CASE("gate model: work is covered by a cut's event or noted after it") {
  const Fences fences = GENERATE(Fences::symmetric, Fences::asymmetric);
  const Verdict verdict = post_and_cut(fences, Without::nothing);
  INFO(text_of(verdict));
  CHECK(verdict.holds());
  CHECK(verdict.ends > 1);
}

TEST_CASE("gate flaw: work is noted with no fence after the driver took it") {
  CHECK(post_and_cut(Fences::symmetric, Without::light_fence).violation ==
        "work is neither covered by the event nor noted");
}

TEST_CASE("gate flaw: a cut does not fence those who submit") {
  CHECK(post_and_cut(Fences::asymmetric, Without::heavy_fence).violation ==
        "work is neither covered by the event nor noted");
}
