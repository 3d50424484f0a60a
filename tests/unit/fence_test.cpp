// The rules of pool/residency/fence.h, one by one, on a driver whose work ends when the test says
// so.
#include <catch2/catch.hpp>

#include <unistd.h>

#include <thread>

#include "pool/residency/fence.h"
#include "tests/unit/fake_driver.h"

using namespace flexlom::pool;
using flexlom::unit::fake_context;
using flexlom::unit::FakeDriver;

namespace {

struct Bench {
  FakeDriver driver;
  std::atomic<uint32_t> word{0};
  Fence fence{driver, word};
  CUcontext a = fake_context(1), b = fake_context(2);

  // The tests that need the second context add it.
  Bench() { fence.add_context(a); }
  ~Bench() { CHECK(driver.problems() == ""); }
  // As the doors do it: the driver takes the work, then the word is set.
  void submit(CUcontext context) {
    driver.submit(context);
    word.store(1);
  }
  // The epoch of a block that is freed while new work of the context runs.
  uint64_t free_behind_work(CUcontext context) {
    submit(context);
    return fence.stamp();
  }
  // Whether the epoch has passed when the fence has looked once more.
  bool passes(uint64_t epoch) {
    fence.advance();
    return fence.passed(epoch);
  }
};

}  // namespace

TEST_CASE_METHOD(Bench, "fence: nothing submitted, nothing waits and nothing is asked") {
  CHECK(fence.stamp() == 0);
  fence.advance();
  CHECK(driver.all_calls() == 0);
}

TEST_CASE_METHOD(Bench, "fence: work holds back a block until it ends") {
  const uint64_t epoch = free_behind_work(a);
  REQUIRE(epoch != 0);
  CHECK_FALSE(fence.passed(epoch));
  CHECK_FALSE(passes(epoch));
  driver.finish(a);
  CHECK(passes(epoch));
  CHECK(fence.stamp() == 0);
}

TEST_CASE_METHOD(Bench, "fence: later work does not hold back an earlier block") {
  const uint64_t first = free_behind_work(a);
  fence.advance();
  const uint64_t done = driver.submitted(a);
  const uint64_t second = free_behind_work(a);
  CHECK(second > first);
  driver.finish_to(a, done);
  CHECK(passes(first));
  CHECK_FALSE(fence.passed(second));
}

TEST_CASE_METHOD(Bench, "fence: no cut when nothing waits for one") {
  submit(a);
  for (int i = 0; i < 5; ++i) fence.advance();
  CHECK(driver.calls("record") == 0);
}

TEST_CASE_METHOD(Bench, "fence: every context must have ended its work") {
  fence.add_context(b);
  submit(a);
  const uint64_t epoch = free_behind_work(b);
  driver.finish(a);
  CHECK_FALSE(passes(epoch));
  driver.finish(b);
  CHECK(passes(epoch));
}

TEST_CASE_METHOD(
    Bench, "fence: an open capture stops all recording and asking, and its end resumes them") {
  const uint64_t before = free_behind_work(a);
  fence.advance();
  fence.capture_opening();
  fence.capture_opening();
  driver.capturing = true;  // any event call is a problem from here
  driver.finish(a);
  const uint64_t during = free_behind_work(a);
  fence.advance();
  CHECK_FALSE(fence.wait(during, 1'000'000'000));
  fence.capture_closed();
  fence.advance();  // one of the two is still open
  CHECK_FALSE(fence.passed(before));
  driver.capturing = false;
  fence.capture_closed();
  driver.finish(a);
  CHECK(passes(before));
  CHECK(fence.passed(during));
}

TEST_CASE_METHOD(Bench, "fence: a record that fails proves nothing") {
  fence.add_context(b);
  const uint64_t epoch = free_behind_work(a);
  for (int nth = 1; nth <= 2; ++nth) {
    driver.fail("record", nth);
    fence.advance();
    CHECK(driver.faults_hit() == nth);
    driver.finish(b);
    CHECK_FALSE(fence.passed(epoch));
  }
  CHECK_FALSE(passes(epoch));
  driver.finish(a);
  CHECK(passes(epoch));
}

TEST_CASE_METHOD(Bench, "fence: an event that cannot be made proves nothing") {
  const uint64_t epoch = free_behind_work(a);
  driver.fail("event_create");
  fence.advance();
  CHECK(driver.faults_hit() == 1);
  CHECK_FALSE(fence.passed(epoch));
  CHECK(fence.stamp() != 0);
  CHECK_FALSE(passes(epoch));
  driver.finish(a);
  CHECK(passes(epoch));
}

TEST_CASE_METHOD(
    Bench,
    "fence: a query that fails in passing is no proof, one that says the context is dead is") {
  const uint64_t epoch = free_behind_work(a);
  fence.advance();
  for (const CUresult passing :
       {CUDA_ERROR_OUT_OF_MEMORY, CUDA_ERROR_UNKNOWN, CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED}) {
    driver.fail("query", 1, passing);
    CHECK_FALSE(passes(epoch));
  }
  CHECK(driver.faults_hit() == 3);
  CHECK_FALSE(fence.context_broken());
  driver.fail("query", 1, CUDA_ERROR_ILLEGAL_ADDRESS);
  CHECK(passes(epoch));
  CHECK(fence.context_broken());
}

TEST_CASE_METHOD(Bench, "fence: a removed context holds nothing back") {
  fence.add_context(b);
  const uint64_t epoch = free_behind_work(b);
  fence.advance();
  fence.remove_context(b);
  CHECK(passes(epoch));
  const uint64_t next = free_behind_work(a);
  fence.advance();
  driver.finish(a);
  CHECK(passes(next));
}

TEST_CASE_METHOD(Bench, "fence: while a context is being destroyed its work counts as running") {
  fence.add_context(b);
  const uint64_t closed = free_behind_work(b);
  fence.advance();
  const uint64_t open = free_behind_work(b);
  REQUIRE(fence.destroy_events(b));
  CHECK(driver.calls("event_destroy") == 1);
  // Context a is idle: what is proven of it says nothing of b.
  for (int i = 0; i < 3; ++i) CHECK_FALSE(passes(closed));
  CHECK_FALSE(fence.passed(open));
  const uint64_t token = fence.before_synchronize();
  fence.after_synchronize(a, token, true);
  CHECK_FALSE(fence.passed(closed));
  CHECK_FALSE(fence.passed(open));
  driver.finish(b);
  fence.remove_context(b);
  for (int i = 0; i < 2; ++i) fence.advance();
  CHECK(passes(closed));
  CHECK(fence.passed(open));
}

TEST_CASE_METHOD(Bench, "fence: a destruction that failed leaves the context as it was") {
  const uint64_t epoch = free_behind_work(a);
  fence.advance();
  REQUIRE(fence.destroy_events(a));
  fence.add_context(a);
  for (int i = 0; i < 3; ++i) CHECK_FALSE(passes(epoch));
  driver.finish(a);
  for (int i = 0; i < 2; ++i) fence.advance();
  CHECK(passes(epoch));
}

TEST_CASE_METHOD(Bench, "fence: an unknown context is not destroyed") {
  CHECK_FALSE(fence.destroy_events(b));
}

TEST_CASE_METHOD(Bench, "fence: the program's own synchronisation is proof for its only context") {
  const uint64_t epoch = free_behind_work(a);
  const uint64_t token = fence.before_synchronize();
  driver.finish(a);
  fence.after_synchronize(a, token, true);
  CHECK(fence.passed(epoch));
  CHECK(fence.stamp() == 0);
  CHECK(driver.all_calls() == 0);
}

TEST_CASE_METHOD(Bench, "fence: work submitted during the synchronisation is not covered by it") {
  const uint64_t token = fence.before_synchronize();
  const uint64_t epoch = free_behind_work(a);
  REQUIRE(epoch > token);
  fence.after_synchronize(a, token, true);
  CHECK_FALSE(fence.passed(epoch));
}

TEST_CASE_METHOD(
    Bench, "fence: a synchronisation that failed, or of one context among two, proves nothing") {
  const bool failed = GENERATE(true, false);
  if (!failed) fence.add_context(b);
  submit(a);
  if (!failed) submit(b);
  const uint64_t epoch = fence.stamp();
  const uint64_t token = fence.before_synchronize();
  fence.after_synchronize(a, token, !failed);
  CHECK_FALSE(fence.passed(epoch));
  CHECK(fence.stamp() != 0);
  CHECK_FALSE(passes(epoch));
  driver.finish(a);
  driver.finish(b);
  fence.advance();
  CHECK(passes(epoch));
}

TEST_CASE_METHOD(Bench,
                 "fence: between the two calls of a synchronisation nothing is reusable at once") {
  submit(a);
  const uint64_t token = fence.before_synchronize();
  const uint64_t epoch = fence.stamp();
  CHECK(epoch != 0);
  driver.finish(a);
  fence.after_synchronize(a, token, true);
  CHECK(fence.wait(epoch, 1'000'000'000));
}

TEST_CASE_METHOD(Bench, "fence: a driver without context events is synchronised instead") {
  driver.context_events = false;
  const uint64_t epoch = free_behind_work(a);
  driver.fail("synchronize");
  CHECK_FALSE(passes(epoch));
  CHECK(passes(epoch));
  CHECK(driver.calls("record") == 0);
}

TEST_CASE_METHOD(Bench, "fence: waiting ends with the work or with the time") {
  const uint64_t epoch = free_behind_work(a);
  CHECK_FALSE(fence.wait(epoch, 2'000'000));
  std::thread gpu([&] { driver.finish(a); });
  CHECK(fence.wait(epoch, 10'000'000'000));
  gpu.join();
}

TEST_CASE_METHOD(Bench, "fence: events are used again") {
  for (int i = 0; i < 1000; ++i) {
    const uint64_t epoch = free_behind_work(a);
    fence.advance();
    driver.finish(a);
    REQUIRE(passes(epoch));
  }
  CHECK(driver.calls("event_create") < 4);
}

namespace {

// Submitters that free a block after each piece of work, one thread that cuts, one that ends work a
// little later than it came. Counts the blocks that would have been handed out under running work.
int race(bool note_after_submission, int rounds) {
  FakeDriver driver;
  std::atomic<uint32_t> word{0};
  Fence fence(driver, word);
  const CUcontext context = fake_context(1);
  fence.add_context(context);
  std::atomic<bool> stop{false};
  std::atomic<uint64_t> finished{0};
  std::atomic<int> wrong{0};
  const auto note = [&] {
    std::atomic_thread_fence(std::memory_order_seq_cst);
    if (word.load(std::memory_order_relaxed) == 0) word.store(1, std::memory_order_release);
  };
  std::thread cutter([&] {
    while (!stop) {
      fence.advance();
      std::this_thread::yield();
    }
  });
  std::thread gpu([&] {
    while (!stop) {
      const uint64_t now = driver.submitted(context);
      usleep(20);
      // Told before the driver knows: an epoch that has passed then shows too low a number never.
      finished.store(now);
      driver.finish_to(context, now);
    }
  });
  std::vector<std::thread> submitters;
  for (int t = 0; t < 2; ++t) {
    submitters.emplace_back([&] {
      for (int i = 0; i < rounds; ++i) {
        if (!note_after_submission) {
          note();
          // Long enough for a cut that takes the note for one of earlier work.
          for (int wait = 0; wait < 200 && word.load() != 0; ++wait) std::this_thread::yield();
        }
        const uint64_t work = driver.submit(context);
        if (note_after_submission) note();
        const uint64_t epoch = fence.stamp();
        while (epoch != 0 && !fence.passed(epoch)) std::this_thread::yield();
        if (finished.load() < work) ++wrong;
      }
    });
  }
  for (std::thread& t : submitters) t.join();
  stop = true;
  cutter.join();
  gpu.join();
  return wrong;
}

}  // namespace

TEST_CASE("fence: submissions that race with cuts are always covered") {
  CHECK(race(true, 1500) == 0);
}

TEST_CASE("fence: the race test sees a submission that is told too early") {
  int seen = 0;
  for (int again = 0; again < 400 && seen == 0; ++again) seen = race(false, 500);
  CHECK(seen > 0);
}
