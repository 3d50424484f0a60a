// Memory that the program maps itself: where it lies, what moves of it, and what it keeps.
#include <catch2/catch.hpp>

#include <thread>

#include "tests/unit/pool_bench.h"

using namespace flexlom::pool;
using flexlom::unit::fake_context;
using flexlom::unit::PoolBench;

namespace {

constexpr uint64_t kChunk = page_bytes(kSegmentPage);
constexpr uint64_t kKernel = 7;

struct ProgramBench : PoolBench {
  static constexpr uint64_t kRangeBytes = uint64_t{4} << 30;
  CUdeviceptr range;
  std::shared_ptr<Arena> arena = Arena::of_range(kRangeBytes >> kGranuleShift);
  std::map<CUdeviceptr, uint64_t> mapped;  // and their sizes

  ProgramBench(uint64_t device_granules, uint64_t host_granules)
      : PoolBench(device_granules, host_granules, true), range(pool->take_range(kRangeBytes, 0)) {
    REQUIRE(range != 0);
  }
  ~ProgramBench() {
    while (!mapped.empty()) {
      DevicePool::Loose frames;
      unmap(mapped.begin()->first, &frames);
      pool->give_frames(&frames);
    }
    pool->give_range(range, kRangeBytes);
  }
  DevicePool::Loose make(uint64_t bytes) {
    DevicePool::Loose frames;
    REQUIRE(pool->make_frames(request(bytes), &frames) == CUDA_SUCCESS);
    uint64_t sum = 0;
    for (const Page& page : frames.pages) sum += page.bytes();
    REQUIRE(sum == bytes);
    return frames;
  }
  CUresult map(CUdeviceptr p, uint64_t bytes, DevicePool::Loose* frames, bool open = true) {
    Request r = request(bytes);
    r.kind = Kind::mapped;
    const CUresult mapping =
        pool->map_frames(p, r, arena, static_cast<uint32_t>((p - range) >> kGranuleShift), frames);
    if (mapping != CUDA_SUCCESS) return mapping;
    mapped[p] = bytes;
    return open ? pool->open_mapped(p) : mapping;
  }
  void unmap(CUdeviceptr p, DevicePool::Loose* frames) {
    REQUIRE(pool->unmap_frames(p, frames) == CUDA_SUCCESS);
    mapped.erase(p);
  }
  // As an expandable segment grows.
  void grow(CUdeviceptr p, uint64_t chunks) {
    for (uint64_t i = 0; i < chunks; ++i) {
      DevicePool::Loose frames = make(kChunk);
      REQUIRE(map(p + i * kChunk, kChunk, &frames) == CUDA_SUCCESS);
    }
  }
  void write(CUdeviceptr p, uint64_t bytes, uint64_t seed) {
    for (uint64_t at = 0; at < bytes; at += kGranule) driver.write(p + at, seed + at);
  }
  uint64_t wrong(CUdeviceptr p, uint64_t bytes, uint64_t seed) {
    uint64_t n = 0;
    for (uint64_t at = 0; at < bytes; at += kGranule) n += driver.read(p + at) != seed + at;
    return n;
  }
  uint64_t movable(CUdeviceptr p) const {
    std::vector<PageId> ids;
    uint64_t n = 0;
    for (const policy::PageView& view : pool->movable_pages(0, &ids))
      n += view.address >= p && view.address < p + mapped.at(p) && view.movable;
    return n;
  }
};

}  // namespace

TEST_CASE("program: a range lies where it was asked for, and comes back") {
  PoolBench bench(64, 64, true);
  const CUdeviceptr small = bench.must(4096);
  for (const size_t alignment : {size_t{0}, kGranule, 64 * kGranule, size_t{1} << 30}) {
    CAPTURE(alignment);
    const CUdeviceptr p = bench.pool->take_range(3 * kGranule, alignment);
    REQUIRE(p != 0);
    CHECK(p % std::max(alignment, kGranule) == 0);
    CHECK(bench.pool->contains(p));
    const CUdeviceptr next = bench.pool->take_range(kGranule, 0);
    CHECK((next < p || next >= p + 3 * kGranule));
    bench.pool->give_range(next, kGranule);
    bench.pool->give_range(p, 3 * kGranule);
  }
  // All of it is there again.
  const CUdeviceptr all = bench.pool->take_range(bench.pool->address_bytes() / 2, 0);
  CHECK(all != 0);
  CHECK(bench.pool->take_range(bench.pool->address_bytes(), 0) == 0);
  CHECK(bench.pool->take_range(kGranule + 4096, 0) == 0);
  CHECK(bench.pool->take_range(0, 0) == 0);
  bench.pool->give_range(all, bench.pool->address_bytes() / 2);
  bench.free(small);
}

TEST_CASE("program: where nothing moves there are no ranges") {
  PoolBench still(64, 64);
  CHECK(still.pool->take_range(kGranule, 0) == 0);
  PoolBench guarded(64, 64, false, true);
  CHECK(guarded.pool->take_range(kGranule, 0) == 0);
}

TEST_CASE("program: the frames keep their bytes, wherever they are mapped") {
  ProgramBench bench(64, 256);
  const uint64_t bytes = 100 * kGranule;
  DevicePool::Loose frames = bench.make(bytes);
  CHECK(bench.host_budget.held() >= 36 * kGranule);
  REQUIRE(bench.map(bench.range, bytes, &frames) == CUDA_SUCCESS);
  bench.write(bench.range, bytes, 5);
  bench.unmap(bench.range, &frames);
  CHECK(!bench.driver.accessible(bench.range, kGranule));
  const CUdeviceptr other = bench.range + 64 * kGranule;
  REQUIRE(bench.map(other, bytes, &frames) == CUDA_SUCCESS);
  CHECK(bench.wrong(other, bytes, 5) == 0);
  AllocationInfo info;
  REQUIRE(bench.pool->find(other + kGranule, &info));
  CHECK(info.base == other);
  CHECK(info.asked_bytes == bytes);
  CHECK(info.kind == Kind::mapped);
  CHECK(bench.pool->free("test", other, 0) == CUDA_ERROR_INVALID_VALUE);
  bench.pool->release_context(fake_context(1));
  CHECK(bench.pool->find(other, &info));
}

TEST_CASE("program: nobody reaches it, and it does not move, before access is given") {
  ProgramBench bench(64, 256);
  DevicePool::Loose frames = bench.make(8 * kGranule);
  REQUIRE(bench.map(bench.range, 8 * kGranule, &frames, false) == CUDA_SUCCESS);
  CHECK(!bench.driver.accessible(bench.range, kGranule));
  CHECK(bench.movable(bench.range) == 0);
  REQUIRE(bench.pool->open_mapped(bench.range) == CUDA_SUCCESS);
  CHECK(bench.driver.accessible(bench.range, 8 * kGranule));
  CHECK(bench.movable(bench.range) == 1);
  std::vector<Page> pages;
  REQUIRE(bench.pool->pin_mapped(bench.range, true, &pages) == CUDA_SUCCESS);
  CHECK(pages.size() == 1);
  CHECK(bench.movable(bench.range) == 0);
  // Shared once, its frames are used for nothing else.
  bench.unmap(bench.range, &frames);
  CHECK(frames.shared);
  const uint64_t held = bench.driver.held_bytes(Where::device);
  bench.pool->give_frames(&frames);
  CHECK(bench.driver.held_bytes(Where::device) == held - 8 * kGranule);
}

TEST_CASE("program: what lies on the host is shared once it has come to the device") {
  ProgramBench bench(40, 256);
  bench.grow(bench.range, 5);
  std::vector<Page> pages;
  CUdeviceptr spilled = 0;
  AllocationInfo info;
  for (CUdeviceptr p = bench.range; p < bench.range + 5 * kChunk; p += kChunk) {
    REQUIRE(bench.pool->find(p, &info));
    if (info.spilled_bytes > 0) spilled = p;
  }
  REQUIRE(spilled != 0);
  bench.driver.write(spilled, 4242);
  CHECK(bench.pool->pin_mapped(spilled, false, &pages) == CUDA_ERROR_NOT_SUPPORTED);
  CHECK(bench.residency->bring(*bench.pool, nullptr, spilled));
  CHECK(bench.pool->pin_mapped(spilled, false, &pages) == CUDA_SUCCESS);
  REQUIRE(pages.size() == 1);
  CHECK(pages.front().where == Where::device);
  CHECK(bench.driver.read(spilled) == 4242);
  CHECK(bench.movable(spilled) == 0);
}

// With every frame of the device in use, a page that nobody has access to yet lends its own to
// stand for another, and is marked as moving for that.
TEST_CASE("program: access is given to a page that is lent just then") {
  ProgramBench bench(40, 256);
  std::vector<CUdeviceptr> closed;
  for (CUdeviceptr p = bench.range;; p += kGranule) {
    DevicePool::Loose frames = bench.make(kGranule);
    if (frames.pages.front().where == Where::host) {
      bench.pool->give_frames(&frames);
      break;
    }
    REQUIRE(bench.map(p, kGranule, &frames, false) == CUDA_SUCCESS);
    closed.push_back(p);
  }
  const CUdeviceptr p = bench.must(4 * kGranule);
  StandIns in;
  bench.driver.aliases = true;
  REQUIRE(bench.pool->put_stand_ins(p, 4 * kGranule, Backing::device, &in));
  REQUIRE(!in.actors[static_cast<size_t>(Where::device)].owned);
  for (const CUdeviceptr one : closed) CHECK(bench.pool->open_mapped(one) == CUDA_SUCCESS);
  bench.pool->take_back(&in);
  bench.driver.aliases = false;
  for (const CUdeviceptr one : closed) CHECK(bench.driver.accessible(one, kGranule));
  bench.free(p);
}

// Twelve chunks are one buffer, named by its beginning; half of two such has room on the device.
TEST_CASE("program: what lies end to end is hot as one, and comes and goes page by page") {
  constexpr uint64_t kChunks = 12;
  ProgramBench bench(kChunks * kChunk / kGranule + 16, 2048);
  const CUdeviceptr first = bench.range, second = first + kChunks * kChunk;
  bench.grow(first, kChunks);
  bench.write(first, kChunks * kChunk, 1);
  bench.grow(second, kChunks);
  bench.write(second, kChunks * kChunk, 2);
  const auto reread = [&](CUdeviceptr p) {
    const Advice advice = bench.submit_naming({p}, kKernel);
    if (advice.measure) {
      const auto ns = static_cast<double>(advice.spilled_bytes) * policy::kLink_ns_per_byte * 8;
      bench.residency->observe(kKernel, advice.spilled_bytes, static_cast<uint64_t>(ns), 0);
    }
    return advice.spilled_bytes;
  };
  reread(first);
  reread(second);
  // What was made last has taken its place.
  CHECK(reread(first) >= 5 * kChunk);
  uint64_t last = 0;
  for (int round = 0; round < 40; ++round) last = reread(first);
  CHECK(last == 0);
  CHECK(bench.residency->stats().promoted_for > 0);
  CHECK(bench.wrong(first, kChunks * kChunk, 1) == 0);
  CHECK(bench.wrong(second, kChunks * kChunk, 2) == 0);
  // It shrinks and grows again, at the same place.
  for (uint64_t i = kChunks / 2; i < kChunks; ++i) {
    DevicePool::Loose frames;
    bench.unmap(second + i * kChunk, &frames);
    bench.pool->give_frames(&frames);
  }
  CHECK(bench.wrong(second, kChunks / 2 * kChunk, 2) == 0);
  bench.grow(second + kChunks / 2 * kChunk, kChunks / 2);
  bench.write(second, kChunks * kChunk, 3);
  for (int round = 0; round < 10; ++round) reread(first);
  CHECK(bench.wrong(first, kChunks * kChunk, 1) == 0);
  CHECK(bench.wrong(second, kChunks * kChunk, 3) == 0);
}

TEST_CASE("program: a range that holds one tensor is used as a whole") {
  constexpr uint64_t kBytes = 256 * kGranule;
  ProgramBench bench(128, 1024);
  DevicePool::Loose frames = bench.make(kBytes);
  REQUIRE(bench.map(bench.range, kBytes, &frames) == CUDA_SUCCESS);
  AllocationInfo info;
  REQUIRE(bench.pool->find(bench.range, &info));
  REQUIRE(info.spilled_bytes > kBytes / 4);
  for (int i = 0; i < 3; ++i)
    CHECK(bench.submit_naming({bench.range}, 0).spilled_bytes == info.spilled_bytes);
  // Of two, each has its own part.
  const CUdeviceptr second = bench.range + kBytes / 2;
  const uint64_t first_has = bench.submit_naming({second, bench.range}, 0).spilled_bytes -
                             bench.submit_naming({second}, 0).spilled_bytes;
  CHECK(bench.submit_naming({bench.range}, 0).spilled_bytes == first_has);
  CHECK(first_has < info.spilled_bytes);
}

TEST_CASE("program: unmapping waits for a page that is on its way") {
  ProgramBench bench(64, 256);
  bench.grow(bench.range, 1);
  std::vector<PageId> ids;
  REQUIRE(bench.pool->movable_pages(0, &ids).size() == 1);
  Move move;
  REQUIRE(bench.pool->begin_demote(ids[0], &move) == CUDA_SUCCESS);
  std::atomic<bool> over{false};
  DevicePool::Loose frames;
  CUresult result = CUDA_ERROR_UNKNOWN;
  std::thread unmapping([&] {
    result = bench.pool->unmap_frames(bench.range, &frames);
    over.store(true);
  });
  std::this_thread::sleep_for(std::chrono::milliseconds(30));
  CHECK(!over.load());
  bench.pool->cancel_demote(move);
  unmapping.join();
  CHECK(result == CUDA_SUCCESS);
  bench.mapped.clear();
  bench.pool->give_frames(&frames);
  // No other move begins meanwhile, or after.
  CHECK(bench.pool->begin_demote(ids[0], &move) == CUDA_ERROR_INVALID_VALUE);
}

TEST_CASE("program: a driver call that fails leaves the frames as they were") {
  ProgramBench bench(256, 256);
  const uint64_t bytes = 70 * kGranule;
  DevicePool::Loose frames = bench.make(bytes);
  const size_t pages = frames.pages.size();
  REQUIRE(pages > 2);
  for (int nth = 1; nth <= static_cast<int>(pages); ++nth) {
    CAPTURE(nth);
    bench.driver.fail("map", nth);
    CHECK(bench.map(bench.range, bytes, &frames) == CUDA_ERROR_OUT_OF_MEMORY);
    CHECK(bench.driver.faults_hit() == nth);
    CHECK(frames.pages.size() == pages);
    CHECK(!bench.driver.accessible(bench.range, kGranule));
  }
  REQUIRE(bench.map(bench.range, bytes, &frames) == CUDA_SUCCESS);
  bench.write(bench.range, bytes, 9);
  const int before = bench.driver.faults_hit();
  bench.driver.fail("unmap");
  CHECK(bench.pool->unmap_frames(bench.range, &frames) != CUDA_SUCCESS);
  CHECK(bench.driver.faults_hit() == before + 1);
  CHECK(bench.wrong(bench.range, bytes, 9) == 0);
  CHECK(bench.movable(bench.range) == pages);
  const uint64_t held = bench.driver.held_bytes(Where::device);
  bench.driver.fail("create");
  DevicePool::Loose others;
  CHECK(bench.pool->make_frames(bench.request(bytes), &others) == CUDA_SUCCESS);
  bench.pool->give_frames(&others);
  CHECK(bench.driver.held_bytes(Where::device) >= held);
}
