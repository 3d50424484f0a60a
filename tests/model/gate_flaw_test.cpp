// A gate with a flaw, or somebody who uses it wrongly: each is found, with the interleaving.
#include <catch2/catch.hpp>

#include <cstdio>

#include "tests/model/flawed_gate.h"
#include "tests/model/scenarios.h"

using namespace flexlom::model;
using flexlom::pool::BasicGate;

namespace {

constexpr const char* kStuck = "from here the program cannot come to its end";
constexpr const char* kLeftShut = "the gate was left shut";
constexpr const char* kInside = "the page is swapped while a submitter is inside the gate";
constexpr const char* kRuns = "the page is swapped while work runs";
constexpr const char* kCapture = "the page is swapped while a capture is open";

void expect(const Verdict& verdict, const std::string& violation) {
  const std::string text = text_of(verdict);
  printf("%s: %s\n", Catch::getResultCapture().getCurrentTestName().c_str(), text.c_str());
  INFO(text);
  CHECK(verdict.violation == violation);
  CHECK(verdict.interleaving.size() > 1);
}

template <Flaw flaw>
Verdict with_submitters(Fences fences = Fences::asymmetric) {
  return Scenario<FlawedGate<ModelSync, 2, 0, flaw>>(fences)
      .submitter("a", 0, 1)
      .submitter("b", 1, 2)
      .mover(2)
      .gpu()
      .without_spurious_wakes()
      .explore();
}

using Sound = Scenario<BasicGate<ModelSync, 2, 0>>;
Verdict with_submitter(Wrong wrong) {
  return Sound(Fences::asymmetric, wrong).submitter("a", 0, 1).mover().gpu().explore();
}

}  // namespace

TEST_CASE("gate flaw: a submitter looks at the gate before it raises its lane") {
  expect(with_submitters<Flaw::looks_before_raising>(), kInside);
}

TEST_CASE("gate flaw: a submitter looks at the gate while its lane is raised for itself only") {
  expect(with_submitters<Flaw::raises_without_fence>(Fences::symmetric), kInside);
}

TEST_CASE("gate flaw: the mover trusts submitters to fence that do not") {
  expect(with_submitters<Flaw::close_without_fence>(), kInside);
}

TEST_CASE("gate flaw: the mover fences all and then shuts the gate") {
  expect(with_submitters<Flaw::fences_before_shutting>(), kInside);
}

TEST_CASE("gate flaw: a woken submitter does not look again") {
  expect(Scenario<FlawedGate<ModelSync, 0, 1, Flaw::passes_when_woken>>(Fences::asymmetric)
             .submitter("a", 0, 1)
             .mover()
             .gpu()
             .explore(),
         kInside);
}

TEST_CASE("gate flaw: a submitter leaves a shared lane by a load and a store") {
  expect(Scenario<FlawedGate<ModelSync, 0, 1, Flaw::leaves_by_plain_store>>(Fences::asymmetric)
             .submitter("a", 0, 1)
             .submitter("b", 0, 2)
             .mover()
             .gpu()
             .explore(),
         "somebody is still counted as inside");
}

TEST_CASE("gate flaw: the mover waits for nobody") {
  expect(with_submitters<Flaw::close_ignores_lanes>(), kInside);
}

TEST_CASE("gate flaw: the mover waits for one lane only") {
  expect(with_submitters<Flaw::close_looks_once>(), kInside);
}

TEST_CASE("gate flaw: the mover waits without a bound") {
  expect(Scenario<FlawedGate<ModelSync, 2, 0, Flaw::close_never_gives_up>>(Fences::asymmetric)
             .thread("a", [](auto& w) { w.submit_behind(0, 1, w.told); })
             .thread("b", [](auto& w) { w.submit_and_tell(1, 2); })
             .mover()
             .gpu()
             .explore(),
         kStuck);
}

TEST_CASE("gate flaw: the mover gives up and leaves the gate shut") {
  expect(with_submitters<Flaw::close_gives_up_shut>(), kLeftShut);
}

TEST_CASE("gate flaw: the gate is shut by a store that the processor may delay") {
  expect(with_submitters<Flaw::shuts_with_plain_store>(Fences::symmetric), kInside);
}

TEST_CASE("gate flaw: opening wakes nobody") {
  expect(with_submitters<Flaw::open_does_not_wake>(), kStuck);
}

TEST_CASE("gate flaw: opening wakes before it opens") {
  expect(with_submitters<Flaw::open_wakes_before_opening>(), kStuck);
}

TEST_CASE("gate misuse: work_submitted is set after leaving") {
  expect(with_submitter(Wrong::notes_after_leaving), kRuns);
}

TEST_CASE("gate misuse: a capture begins without passing the gate") {
  expect(Sound(Fences::asymmetric, Wrong::captures_ungated)
             .thread("capture", [](auto& w) { w.begin_capture(0); })
             .mover()
             .explore(),
         kCapture);
}

TEST_CASE("gate misuse: the mover forgets work of before somebody else's cut") {
  expect(Sound(Fences::asymmetric, Wrong::asks_only_for_new)
             .submitter("a", 0, 1)
             .thread("free", [](auto& w) { w.look_at_fence(); })
             .mover()
             .gpu()
             .explore(),
         kRuns);
}

TEST_CASE("gate misuse: the mover looks for work before it closes the gate") {
  expect(with_submitter(Wrong::asks_before_closing), kRuns);
}

TEST_CASE("gate misuse: the mover swaps though the fence ran out") {
  expect(with_submitter(Wrong::swaps_after_timeout), kRuns);
}

TEST_CASE("gate misuse: the mover gives up and does not open") {
  expect(with_submitter(Wrong::leaves_shut_on_timeout), kLeftShut);
}

// Nothing that is held at the gate can end the work that the driver waits for.
TEST_CASE("gate misuse: the fence waits in the driver while the gate is shut") {
  expect(Sound(Fences::asymmetric, Wrong::waits_in_driver).submitter("a", 0, 1).mover().explore(),
         kStuck);
}
