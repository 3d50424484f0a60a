// The gate under real threads: submitters that share lanes, nest, and now and then stay too long,
// against a mover that writes plain memory whenever it has the gate shut. ThreadSanitizer sees a
// race where the gate orders too little; without it the memory shows what is torn.
//
// Twice: with submitters that fence for themselves, and with the mover's fence for all, where the
// kernel has it.
//
// GATE_STRESS_SECONDS: of each, 2 when not given.
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <thread>
#include <vector>

#include "pool/residency/gate.h"

using flexlom::pool::Gate;
using flexlom::pool::ThreadSync;

namespace {

constexpr unsigned kSubmitters = 8;
constexpr unsigned kAlone = 4;  // have a lane of their own; the others share two
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
    const unsigned lane = self < kAlone ? self : Gate::kLanes + self % 2;
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

void run_for(double seconds, bool asymmetric) {
  Stress s;
  if (asymmetric) s.gate.fence_asymmetrically();
  std::vector<std::thread> submitters;
  for (unsigned i = 0; i < kSubmitters; ++i) submitters.emplace_back([i, &s] { s.submit(i); });

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

  printf("%s: %llu moves, %llu given up, %llu passes, %llu waits\n",
         asymmetric ? "the mover fences for all" : "all fence for themselves",
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

// Two threads each write a word and then read the other's: with a fence between, on each side, one
// of them sees what the other wrote. Both are let go at once, again and again.
struct Litmus {
  static constexpr uint32_t kRounds = 200'000, kEnd = UINT32_MAX;
  static constexpr uint64_t kLongest_ns =
      5'000'000'000;  // where there is but one processor for both
  Gate gate;
  alignas(64) std::atomic<uint32_t> often{0};
  alignas(64) std::atomic<uint32_t> rarely{0};
  alignas(64) std::atomic<uint32_t> go{0};
  alignas(64) std::atomic<uint32_t> done{0};
  uint32_t seen_by_often = 0;

  void write_often() {
    for (uint32_t round = 1;; ++round) {
      while (go.load(std::memory_order_acquire) < round) ThreadSync::spin();
      if (go.load(std::memory_order_relaxed) == kEnd) return;
      often.store(round, std::memory_order_relaxed);
      gate.light_fence();
      seen_by_often = rarely.load(std::memory_order_relaxed);
      done.store(round, std::memory_order_release);
    }
  }
  // How often neither saw the other.
  uint32_t write_rarely() {
    uint32_t missed = 0;
    const uint64_t start = ThreadSync::now_ns();
    for (uint32_t round = 1; round <= kRounds; ++round) {
      if (ThreadSync::now_ns() - start > kLongest_ns) break;
      go.store(round, std::memory_order_release);
      // At different moments of the other's steps.
      for (uint32_t i = 0; i < round % 64; ++i) std::atomic_signal_fence(std::memory_order_seq_cst);
      rarely.store(round, std::memory_order_seq_cst);
      gate.heavy_fence();
      const uint32_t seen = often.load(std::memory_order_relaxed);
      while (done.load(std::memory_order_acquire) != round) ThreadSync::spin();
      if (seen != round && seen_by_often != round) ++missed;
    }
    go.store(kEnd, std::memory_order_release);
    return missed;
  }
};

void check_fences(bool asymmetric) {
  auto litmus = std::make_unique<Litmus>();
  if (asymmetric) litmus->gate.fence_asymmetrically();
  std::thread other([&] { litmus->write_often(); });
  const uint32_t missed = litmus->write_rarely();
  other.join();
  if (missed > 0) fprintf(stderr, "neither saw the other %u times\n", missed);
  check(missed == 0, "of two threads that fence, one sees the other");
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
  const double s = seconds != nullptr ? atof(seconds) : 2.0;
  const bool can = ThreadSync::can_fence_everywhere();
  check_held();
  run_for(s, false);
  check_fences(false);
  if (can) {
    check_fences(true);
    run_for(s, true);
  } else {
    printf("skipped: no membarrier(2) here, or ThreadSanitizer, which does not know it\n");
  }
  printf("%d passed, %d failed, %d skipped\n", failures == 0 ? (can ? 5 : 3) : 0, failures,
         can ? 0 : 2);
  return failures == 0 ? 0 : 1;
}
