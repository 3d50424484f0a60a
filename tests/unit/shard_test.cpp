// The lists of a shard: what comes back first, what waits, what is given up.
#include <catch2/catch.hpp>

#include <set>

#include "pool/shard.h"
#include "tests/unit/fake_driver.h"

using namespace flexlom::pool;
using flexlom::unit::fake_context;
using flexlom::unit::FakeDriver;

namespace {

struct Bench {
  FakeDriver driver;
  std::atomic<uint32_t> word{0};
  Fence fence{driver, word};
  Shard shard;
  std::vector<std::unique_ptr<Span>> spans;

  Bench() { fence.add_context(fake_context(1)); }

  Span& large(uint32_t count, size_t spilled_bytes = 0) { return make({false, count}, 1, spilled_bytes); }
  Span& small(size_t bytes) {
    const SizeKey key = size_key(bytes);
    return make(key, static_cast<uint32_t>(kGranule / key.bytes()), 0);
  }
  Span& make(SizeKey key, uint32_t objects, size_t spilled_bytes) {
    spans.push_back(std::make_unique<Span>());
    Span& span = *spans.back();
    span.small = key.small;
    span.count = key.small ? 1 : key.value;
    span.size_class = key.small ? key.value : 0;
    span.object_bytes = key.bytes();
    span.base = 0x5000'0000'0000 + spans.size() * 0x1000'0000;
    span.objects_total = objects;
    span.spilled_bytes = spilled_bytes;
    span.objects = std::make_unique<Object[]>(objects);
    for (uint32_t i = 0; i < objects; ++i) {
      span.objects[i].span = &span;
      span.objects[i].address = span.base + i * span.object_bytes;
      span.objects[i].state = ObjectState::live;
    }
    span.objects_used = objects;
    return span;
  }
  void free(Object& object, uint64_t epoch, StreamKey stream = 0) {
    object.epoch = epoch;
    object.stream = stream;
    shard.push_free(&object);
  }
  // An epoch behind work that runs until end().
  uint64_t begin() {
    driver.submit(fake_context(1));
    word.store(1);
    const uint64_t epoch = fence.stamp();
    fence.advance();
    return epoch;
  }
  void end() {
    driver.finish(fake_context(1));
    fence.advance();
  }
};

constexpr SizeKey kTwo{false, 2};

}  // namespace

TEST_CASE("shard: ready objects come back last in, first out") {
  Bench bench;
  Object& first = bench.large(2).objects[0];
  Object& second = bench.large(2).objects[0];
  bench.free(first, 0);
  bench.free(second, 0);
  CHECK(bench.shard.stats.cached_bytes == 4 * kGranule);
  CHECK(bench.shard.pop(kTwo, 0, bench.fence) == &second);
  CHECK(bench.shard.pop(kTwo, 0, bench.fence) == &first);
  CHECK(bench.shard.pop(kTwo, 0, bench.fence) == nullptr);
  CHECK(bench.shard.stats.cached_bytes == 0);
}

TEST_CASE("shard: sizes do not mix, whether found directly or by hash") {
  Bench bench;
  Object& huge = bench.large(1000).objects[0];
  Object& edge = bench.large(64).objects[0];
  Object& over = bench.large(65).objects[0];
  for (Object* o : {&huge, &edge, &over}) bench.free(*o, 0);
  CHECK(bench.shard.pop({false, 999}, 0, bench.fence) == nullptr);
  CHECK(bench.shard.pop({false, 1000}, 0, bench.fence) == &huge);
  CHECK(bench.shard.pop({false, 64}, 0, bench.fence) == &edge);
  CHECK(bench.shard.pop({false, 65}, 0, bench.fence) == &over);
}

TEST_CASE("shard: a pending object waits for its epoch") {
  Bench bench;
  Object& object = bench.large(2).objects[0];
  const uint64_t epoch = bench.begin();
  bench.free(object, epoch);
  uint64_t oldest = 0;
  CHECK(bench.shard.pending(kTwo, &oldest) == 1);
  CHECK(oldest == epoch);
  CHECK(bench.shard.newest_pending_epoch() == epoch);
  CHECK(bench.shard.pop(kTwo, 0, bench.fence) == nullptr);
  CHECK(object.state == ObjectState::pending);
  bench.end();
  CHECK(bench.shard.pop(kTwo, 0, bench.fence) == &object);
  CHECK(bench.shard.stats.pending_objects == 0);
  CHECK(bench.shard.pending(kTwo, &oldest) == 0);
  CHECK(bench.shard.newest_pending_epoch() == 0);
}

TEST_CASE("shard: the stream an object was freed on may have it at once, others may not") {
  Bench bench;
  Object& one = bench.large(2).objects[0];
  Object& two = bench.large(2).objects[0];
  Object& three = bench.large(2).objects[0];
  const uint64_t epoch = bench.begin();
  bench.free(one, epoch, 7);
  bench.free(two, epoch, 8);
  bench.free(three, epoch, 7);
  CHECK(bench.shard.pop(kTwo, 9, bench.fence) == nullptr);
  CHECK(bench.shard.pop(kTwo, 8, bench.fence) == &two);
  CHECK(bench.shard.pop(kTwo, 7, bench.fence) == &one);
  CHECK(bench.shard.pop(kTwo, 7, bench.fence) == &three);
  CHECK(bench.shard.stats.pending_objects == 0);
  CHECK(bench.shard.stats.cached_bytes == 0);
  // The list is whole after its tail was taken.
  bench.free(one, epoch, 7);
  bench.end();
  CHECK(bench.shard.pop(kTwo, 0, bench.fence) == &one);
}

TEST_CASE("shard: a stream that is gone leaves nothing to its handle's next owner") {
  Bench bench;
  Object& object = bench.large(2).objects[0];
  bench.free(object, bench.begin(), 7);
  bench.shard.forget_stream(7);
  CHECK(bench.shard.pop(kTwo, 7, bench.fence) == nullptr);
  bench.end();
  CHECK(bench.shard.pop(kTwo, 7, bench.fence) == &object);
}

TEST_CASE("shard: spilled objects have a list of their own") {
  Bench bench;
  Object& object = bench.large(2, kGranule).objects[0];
  bench.free(object, 0);
  CHECK(bench.shard.stats.cached_bytes == kGranule);
  CHECK(bench.shard.pop(kTwo, 0, bench.fence) == nullptr);
  CHECK(bench.shard.pop_spilled(3, bench.fence) == nullptr);
  CHECK(bench.shard.pop_spilled(2, bench.fence) == &object);
  CHECK(bench.shard.stats.cached_bytes == 0);
}

TEST_CASE("shard: idle spans are given up whole, and only when nothing of theirs is used") {
  Bench bench;
  Span& busy = bench.small(600 << 10);  // three objects
  Span& idle = bench.small(600 << 10);
  REQUIRE(busy.objects_total == 3);
  bench.free(busy.objects[0], 0);
  bench.free(idle.objects[0], 0);
  bench.free(busy.objects[1], 0);
  bench.free(idle.objects[1], 0);
  bench.free(idle.objects[2], 0);
  Span& large = bench.large(2);
  bench.free(large.objects[0], 0);
  std::vector<Span*> taken;
  SECTION("large ones only") {
    bench.shard.take_idle(bench.fence, ~uint64_t{0}, ~size_t{0}, true, &taken);
    CHECK(taken == std::vector<Span*>{&large});
  }
  SECTION("all") {
    bench.shard.take_idle(bench.fence, ~uint64_t{0}, ~size_t{0}, false, &taken);
    CHECK(std::set<Span*>(taken.begin(), taken.end()) == std::set<Span*>{&large, &idle});
    CHECK(taken.size() == 2);
    // What is left on the list belongs to the busy span.
    const SizeKey key = size_key(600 << 10);
    for (int i = 0; i < 2; ++i) {
      Object* object = bench.shard.pop(key, 0, bench.fence);
      REQUIRE(object != nullptr);
      CHECK(object->span == &busy);
    }
    CHECK(bench.shard.pop(key, 0, bench.fence) == nullptr);
    CHECK(bench.shard.pop(kTwo, 0, bench.fence) == nullptr);
  }
  SECTION("no more than wanted") {
    bench.shard.take_idle(bench.fence, ~uint64_t{0}, 1, false, &taken);
    CHECK(taken.size() == 1);
  }
}

TEST_CASE("shard: recently used and pending spans are not idle, exported ones are") {
  Bench bench;
  bench.shard.tick = 10;
  Span& recent = bench.large(1);
  bench.free(recent.objects[0], 0);
  bench.shard.tick = 3;
  Span& exported = bench.large(2);
  exported.exported = true;
  bench.free(exported.objects[0], 0);
  Span& pending = bench.large(3);
  bench.free(pending.objects[0], bench.begin());
  std::vector<Span*> taken;
  bench.shard.take_idle(bench.fence, 9, ~size_t{0}, false, &taken);
  CHECK(taken == std::vector<Span*>{&exported});
  bench.end();
  taken.clear();
  bench.shard.take_idle(bench.fence, 9, ~size_t{0}, false, &taken);
  CHECK(taken == std::vector<Span*>{&pending});
}
