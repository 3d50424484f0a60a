// Which pages deserve the device: pure functions over a table of pages and what is known of their
// uses. The migrator calls them, and so do the simulator of tests/bench and the trace advisor.
//
// The rule is MIN's (Belady): what is needed next stays, what is needed last goes, with predicted
// instead of known uses. On a cyclic pass that is the page just used, where LRU would miss on every
// page. Where most pages keep a rhythm only some of them move, those that cost least when they are
// away: large ones, of which one remap moves much, and those that are read in place as well; and
// always the same ones, which have frames on the host already. What costs more stays.
//
// Two ways to use a spilled page need two decisions. Work that rereads its data has its pages
// promoted first, whatever their rank: `plan` adds those that are next in line and says what
// leaves. Work that streams reads them in place, and there a page earns a frame only by being
// touched clearly more often than one that has it: `exchanges`. On a plain cycle that moves
// nothing, which is as good as any policy can do.
//
// Thread rules: no state, no allocation besides the results; may throw std::bad_alloc.
#pragma once

#include <cuda.h>

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "pool/residency/history.h"

namespace flexlom::pool::policy {

// What FLEXLOM_POLICY names.
enum class Kind : uint8_t {
  automatic,  // as above
  pin,        // nothing moves after it was placed
  lru,        // the longest unused goes; for comparison, and for programs without a rhythm
};
std::optional<Kind> parse_kind(std::string_view name);
std::string_view kind_name(Kind kind);

// One page as the policy sees it.
struct PageView {
  uint64_t bytes = 0;
  CUdeviceptr address = 0;
  History history;         // of the allocation, or of the page where that is known
  uint32_t id = 0;         // the caller's; what the answers name
  bool resident = false;   // on the device
  bool movable = true;     // false: pinned, exported, being moved
  bool needed = false;     // about to be used: must come in if spilled, must not leave
  bool host_copy = false;  // the host holds a copy that is probably still right
};

struct Context {
  Kind kind = Kind::automatic;
  uint64_t free_bytes = 0;  // of device frames to be had without evicting anything
  // Victims: of a program with a rhythm only the pages that do the moving, none of those that stay.
  bool movers_only = false;
};

// The pages to demote so that `want_bytes` of device frames become free, best first. Ids of
// resident, movable pages that are not needed; together less than wanted when there are no more.
// `context.free_bytes` is not taken off: what is wanted is wanted from others.
// Pages of 2 MiB go last of all: frameworks keep their counters and locks in them.
std::vector<uint32_t> victims(std::span<const PageView> pages, uint64_t want_bytes, Tick now,
                              const Context& context = {});

// The spilled pages that will be used next, soonest first, together at most `room_bytes`, to be
// brought in with what a submission needs. None that is not expected to be used, and none used
// later than what would have to leave for it, when `leaving_bytes` leave for the needed ones.
std::vector<uint32_t> companions(std::span<const PageView> pages, uint64_t room_bytes,
                                 uint64_t leaving_bytes, Tick now, const Context& context = {});

// Whose copies on the host to give up so that `want_bytes` of host frames become free, best first:
// those of resident pages that will leave last.
std::vector<uint32_t> copies_to_drop(std::span<const PageView> pages, uint64_t want_bytes, Tick now,
                                     const Context& context = {});

// What to move in one go. `demote` makes room for all of `promote`, as far as room can be made; the
// needed pages come first in `promote`.
struct Plan {
  std::vector<uint32_t> promote;
  std::vector<uint32_t> demote;
};

// Before work that must find its needed pages on the device: those, and companions up to
// `batch_bytes` in all. The companions are held to a small share of what is spilled, because every
// frame they wait in is one that a page of the working set could have kept.
Plan plan(std::span<const PageView> pages, uint64_t batch_bytes, Tick now,
          const Context& context = {});

// After work that read spilled pages in place: spilled pages that are touched clearly more often
// than resident ones, and what leaves for them, at most `batch_bytes` in. Usually nothing.
Plan exchanges(std::span<const PageView> pages, uint64_t batch_bytes, Tick now,
               const Context& context = {});

}  // namespace flexlom::pool::policy
