#define CATCH_CONFIG_RUNNER
#include <catch2/catch.hpp>

#include <cstdio>

namespace {

struct Counter : Catch::TestEventListenerBase {
  using TestEventListenerBase::TestEventListenerBase;
  void testRunEnded(const Catch::TestRunStats& run) override { counts = run.totals.testCases; }
  static Catch::Counts counts;
};
Catch::Counts Counter::counts;
CATCH_REGISTER_LISTENER(Counter)

}  // namespace

int main(int argc, char** argv) {
  const int status = Catch::Session().run(argc, argv);
  std::printf("%zu passed, %zu failed, 0 skipped\n", static_cast<size_t>(Counter::counts.passed),
              static_cast<size_t>(Counter::counts.failed));
  return status;
}
