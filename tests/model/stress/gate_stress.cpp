// The gate under real threads: submitters that share lanes, nest, and now and then stay too long,
// against a mover that writes plain memory whenever it has the gate shut. ThreadSanitizer sees a
// race where the gate orders too little; without it the memory shows what is torn.
//
// GATE_STRESS_SECONDS: 2 when not given.
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <thread>
#include <vector>

#include "pool/residency/gate.h"

using flexlom::pool::Gate;
using flexlom::pool::ThreadSync;

namespace {

constexpr unsigned kSubmitters = 8;
constexpr unsigned kLanesUsed = 5;  // so that some threads share one
// In turn: one that a submitter which is not on a processor outlasts, and one that it does not.
constexpr uint64_t kTimeouts_ns[] = {200'000, 20'000'000};

int failures = 0;
void check(bool right, const char* what) {
  if (right) return;
  fprintf(stderr, "FAILED: %s\n", what);
  ++failures;
}

struct Stress {
  Gate gate;
  // The page: both words are the same but while it is swapped. Ordered by the gate alone.
  uint64_t page[2] = {0, 0};
  std::atomic<uint64_t> inside{0};
  std::atomic<uint64_t> torn{0}, waits{0}, passes{0};
  std::atomic<bool> stop{false};

  void look() {
    inside.fetch_add(1, std::memory_order_relaxed);
    if (page[0] != page[1]) torn.fetch_add(1, std::memory_order_relaxed);
    inside.fetch_sub(1, std::memory_order_relaxed);
  }

  void submit(unsigned self) {
    const unsigned lane = self % kLanesUsed;
    uint64_t waited = 0, passed = 0;
    for (uint64_t i = self; !stop.load(std::memory_order_relaxed); ++i) {
      waited += gate.enter(lane) ? 1 : 0;
      look();
      if (i % 64 == 0) {
        waited += gate.enter(lane) ? 1 : 0;
        look();
        gate.leave(lane);
      }
      // Longer than the mover may wait.
      if (i % 65536 == 0) usleep(1000);
      look();
      gate.leave(lane);
      ++passed;
    }
    waits += waited;
    passes += passed;
  }
};

void run_for(double seconds) {
  static Stress s;
  std::vector<std::thread> submitters;
  for (unsigned i = 0; i < kSubmitters; ++i) submitters.emplace_back([i] { s.submit(i); });

  uint64_t moves = 0, given_up = 0, seen_inside = 0;
  const uint64_t end = ThreadSync::now_ns() + static_cast<uint64_t>(seconds * 1e9);
  while (ThreadSync::now_ns() < end) {
    if (s.gate.close(kTimeouts_ns[(moves + given_up) % 2])) {
      seen_inside += s.inside.load(std::memory_order_relaxed);
      ++s.page[0];
      if (moves % 16 == 0) usleep(20);
      seen_inside += s.inside.load(std::memory_order_relaxed);
      ++s.page[1];
      s.gate.open();
      ++moves;
    } else {
      ++given_up;
    }
    if ((moves + given_up) % 8 == 0) usleep(50);
  }
  s.stop = true;
  for (std::thread& t : submitters) t.join();

  printf("%llu moves, %llu given up, %llu passes, %llu waits\n",
         static_cast<unsigned long long>(moves), static_cast<unsigned long long>(given_up),
         static_cast<unsigned long long>(s.passes.load()),
         static_cast<unsigned long long>(s.waits.load()));
  check(s.torn == 0, "nobody inside sees a page that is being swapped");
  check(seen_inside == 0, "nobody is inside while the gate is shut");
  check(s.page[0] == moves && s.page[1] == moves, "every move was made");
  check(moves > 0 && s.waits > 0 && s.passes > 0, "there was something to see");
  check(!s.gate.is_shut(), "the gate is open at the end");
  check(s.gate.close(0), "nobody is left inside");
}

// Whoever is held at the gate passes when it opens, and at once when there is nobody to open it.
void check_held() {
  Gate gate;
  check(gate.close(0), "an empty gate closes");
  check(gate.enter(3, [] { return true; }), "an abandoned gate lets pass, after a look");
  gate.leave(3);
  std::atomic<bool> passed{false};
  std::thread held([&] {
    check(gate.enter(3), "a shut gate holds");
    passed = true;
    gate.leave(3);
  });
  usleep(20'000);
  check(!passed, "nobody passes a shut gate");
  gate.open();
  held.join();
  check(passed, "an open gate lets pass");
}

}  // namespace

int main() {
  const char* seconds = getenv("GATE_STRESS_SECONDS");
  check_held();
  run_for(seconds != nullptr ? atof(seconds) : 2.0);
  printf("%d passed, %d failed, 0 skipped\n", failures == 0 ? 2 : 0, failures);
  return failures == 0 ? 0 : 1;
}
