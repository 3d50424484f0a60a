#define CATCH_CONFIG_MAIN
#include <catch2/catch.hpp>
#include <cstdio>
#include <cstdlib>

#if defined(__SANITIZE_THREAD__)
// Tests of the trace log fork while threads run, and start threads in the child.
extern "C" __attribute__((visibility("default"))) const char* __tsan_default_options() {
  return "die_after_fork=0";
}
#endif

namespace {

Catch::Counts cases;

// The line that the test runner adds up must be the last, after Catch's own summary.
class Totals : public Catch::TestEventListenerBase {
 public:
  using TestEventListenerBase::TestEventListenerBase;
  void testRunEnded(const Catch::TestRunStats& stats) override {
    cases = stats.totals.testCases;
    std::atexit([] {
      std::printf("%zu passed, %zu failed, 0 skipped\n", static_cast<size_t>(cases.passed),
                  static_cast<size_t>(cases.failed));
    });
  }
};
CATCH_REGISTER_LISTENER(Totals)

}  // namespace
