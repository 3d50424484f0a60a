// Stand-ins: for the length of a driver call other frames lie where pages of the program do.
//
// Some calls look at what memory an address is mapped to and refuse, or remember, what they see
// (CUDA Driver API 6.25, cuGraphExecUpdate: where the operands of a copy are mapped "cannot
// change"). The program knows of no such change, so they are shown what they want to see. No byte
// is moved: the page's own frame goes back under it afterwards.
//
// To be used inside Mover::while_quiet() alone: nothing may touch a page meanwhile (law 2). Not
// thread safe; the record is one caller's.
#pragma once

#include <vector>

#include "pool/residency/move.h"

namespace flexlom::pool {

// What all of a range is to be mapped to; mixed: its first granule to the device, the rest to the
// host.
enum class Backing : uint8_t { device, host, mixed };

struct StandIns {
  enum class At : uint8_t { nothing, device, host };
  struct Lifted {
    PageId page;
    CUdeviceptr address = 0;
    size_t bytes = 0;
    std::vector<At> granules;  // what lies there now
  };
  // One granule of each kind, mapped wherever one is wanted.
  struct Actor {
    Frame frame;
    bool owned = false;  // else that of `lender`, which cannot go away meanwhile
    PageId lender;
  };

  // Valid until the next page is lifted; null: not lifted.
  Lifted* find(const PageId& id) {
    for (Lifted& lifted : pages)
      if (lifted.page.span == id.span && lifted.page.index == id.index) return &lifted;
    return nullptr;
  }

  std::vector<Lifted> pages;
  Actor actors[2];  // by Where
};

}  // namespace flexlom::pool
