// The runner, and the parts of the library that the tested ones lean on.
#ifndef __clang__
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#define CATCH_CONFIG_RUNNER
#include <catch2/catch.hpp>

#include <dlfcn.h>

#include <cstdio>

#include "interpose/doors/entries.h"
#include "interpose/doors/originals.h"
#include "interpose/heat/layout.h"
#include "tests/guard/stand_in.h"

namespace {

struct Counter : Catch::TestEventListenerBase {
  using TestEventListenerBase::TestEventListenerBase;
  void testRunEnded(const Catch::TestRunStats& run) override { counts = run.totals.testCases; }
  static Catch::Counts counts;
};
Catch::Counts Counter::counts;
CATCH_REGISTER_LISTENER(Counter)

}  // namespace

namespace flexlom::doors {
void* const door_of[kEntryCount] = {};
Dlsym real_dlsym() noexcept { return &dlsym; }
}  // namespace flexlom::doors

namespace flexlom::heat {
uint64_t handle_generation() noexcept { return testing::generation; }
}  // namespace flexlom::heat

namespace testing {
uint64_t generation = 1;
}

int main(int argc, char** argv) {
  const int result = Catch::Session().run(argc, argv);
  std::printf("%zu passed, %zu failed, 0 skipped\n", static_cast<size_t>(Counter::counts.passed),
              static_cast<size_t>(Counter::counts.failed));
  return result == 0 ? 0 : 1;
}
