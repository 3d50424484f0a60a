#include "interpose/guard/ledger.h"

#include <catch2/catch.hpp>

using namespace flexlom;
using namespace flexlom::guard;

namespace {

constexpr CUdeviceptr kBase = 0x5000'0000'0000;

pool::AllocationInfo info(CUdeviceptr base, size_t bytes) {
  pool::AllocationInfo made;
  made.base = base;
  made.asked_bytes = bytes;
  return made;
}
Who by(const char* call, uint64_t at_ns = 1) {
  return {call, 7, at_ns, static_cast<uint32_t>(at_ns)};
}

}  // namespace

TEST_CASE("an address leads to the allocation it lies in, or beside") {
  Ledger ledger;
  ledger.allocated(info(kBase + 1000, 100), by("cuMemAlloc_v2"));
  ledger.allocated(info(kBase + 9000, 100), by("cuMemAlloc_v2"));
  struct Row {
    CUdeviceptr at;
    Beside beside;
    uint64_t number, distance;
  };
  const Row row = GENERATE(Row{1000, Beside::inside, 1, 0}, Row{1099, Beside::inside, 1, 99},
                           Row{1100, Beside::behind, 1, 0}, Row{1103, Beside::behind, 1, 3},
                           Row{996, Beside::before, 1, 4}, Row{8999, Beside::before, 2, 1},
                           Row{5000, Beside::behind, 1, 3900}, Row{5100, Beside::before, 2, 3900});
  const Found found = ledger.find(kBase + row.at);
  CHECK(found.beside == row.beside);
  CHECK(found.block.number == row.number);
  CHECK(found.distance_bytes == row.distance);
  CHECK(ledger.find(kBase + (64u << 20)).beside == Beside::nothing);
  CHECK(ledger.find(0).beside == Beside::nothing);
  CHECK(ledger.find(~CUdeviceptr{0}).beside == Beside::nothing);
}

TEST_CASE("what is freed is remembered with who did it, until its addresses are used again") {
  Ledger ledger;
  ledger.allocated(info(kBase, 100), by("cuMemAlloc_v2", 10));
  ledger.freed(info(kBase, 100), by("cuMemFree_v2", 20), 3);
  Found found = ledger.find(kBase + 5);
  REQUIRE(found.beside == Beside::inside);
  CHECK_FALSE(found.block.live());
  CHECK(found.block.allocated.at_ns == 10);
  CHECK(found.block.freed.at_ns == 20);
  CHECK(found.block.launches == 3);
  CHECK(ledger.live().empty());
  // A free of what is not live is somebody else's.
  ledger.freed(info(kBase, 100), by("cuMemFree_v2", 30), 4);
  CHECK(ledger.find(kBase).block.freed.at_ns == 20);
  CHECK(found.block.allocated.stack == 10);
  CHECK(found.block.freed.stack == 20);
  ledger.allocated(info(kBase + 50, 10), by("cuMemAlloc_v2", 40));
  found = ledger.find(kBase + 5);
  CHECK(found.beside == Beside::before);
  CHECK(found.block.number == 2);
}

TEST_CASE("the oldest freed allocations are forgotten, however many there are") {
  Ledger ledger;
  for (uint64_t i = 0; i < Ledger::kFreedKept + 10; ++i) {
    ledger.allocated(info(kBase + i * (4u << 20), 100), by("cuMemAlloc_v2"));
    ledger.freed(info(kBase + i * (4u << 20), 100), by("cuMemFree_v2"), 0);
  }
  CHECK(ledger.find(kBase + 9 * (4u << 20)).beside == Beside::nothing);
  CHECK(ledger.find(kBase + 10 * (4u << 20)).beside == Beside::inside);
  CHECK(ledger.count() == Ledger::kFreedKept + 10);
}
