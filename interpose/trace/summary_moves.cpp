// The part of the summary that follows pages: where they lie, and how they move.
#include <algorithm>

#include "interpose/trace/summary.h"

namespace flexlom::trace {
namespace {

// A damaged or hostile log must not make these grow without end.
constexpr size_t most_early_spills = 1 << 16;
constexpr size_t most_reasons = 32;
constexpr size_t longest_reason = 64;
constexpr size_t most_in_a_page = 64;  // allocations; pages of small ones never move

}  // namespace

// A spill either belongs to a live allocation (pages moved down later) or announces its alloc.
void Summary::spill(const Record& record, uint64_t at_ns) {
  const std::optional<uint64_t> placed = Record::possible(record.extra_bytes);
  const uint64_t bytes = placed ? *placed : Record::possible(record.given_bytes).value_or(0);
  spills++;
  spilled_bytes += bytes;
  auto found = live.find(record.address.value_or(0));
  const bool matches = found != live.end() && (record.seq == 0 || found->second.seq == record.seq);
  if (!matches) {
    if (record.seq != 0 && early_spills_.size() < most_early_spills)
      early_spills_[record.seq] = bytes;
    return;
  }
  Allocation& allocation = found->second;
  const uint64_t host_bytes = std::min(bytes, allocation.given_bytes);
  if (host_bytes <= allocation.host_bytes) return;
  DeviceUse& use = devices[allocation.device];
  const bool at_peak = use.in_use.most_at_ns == allocation.at_ns;
  if (!at_peak) use.at_peak.before_move(allocation);
  use.spilled.add(host_bytes - allocation.host_bytes, at_ns);
  if (at_peak) use.host_at_peak_bytes = use.spilled.now_bytes;
  sites[allocation.site].spilled_bytes += host_bytes - allocation.host_bytes;
  allocation.host_bytes = host_bytes;
}

void Summary::frame(const Record& record, uint64_t at_ns, bool mapped) {
  const std::optional<uint64_t> bytes = Record::possible(record.given_bytes);
  if (!bytes) return add_bad_line(line_number_, "a frame without a possible size");
  (mapped ? maps : unmaps)++;
  PageUse page{record.device, *bytes, record.note == "host"};
  auto known = record.address ? pages_.find(*record.address) : pages_.end();
  if (known != pages_.end()) {
    // Where the page was last said to be, which may not be where it was mapped. A second map of an
    // address: the unmap between them was dropped.
    held(known->second.device, known->second.on_host).sub(known->second.bytes);
    pages_.erase(known);
  } else if (!mapped) {
    held(page.device, page.on_host).sub(page.bytes);
  }
  if (!mapped) return;
  held(page.device, page.on_host).add(page.bytes, at_ns);
  if (record.address) pages_.emplace(*record.address, page);
}

// A page keeps its address and its size and has another frame behind it.
void Summary::move(const Record& record, uint64_t at_ns, bool to_host) {
  const std::optional<uint64_t> bytes = Record::possible(record.given_bytes);
  if (!record.address || !bytes)
    return add_bad_line(line_number_, "a move without an address or a possible size");
  const uint64_t begin = *record.address;
  Moves& moves = devices[record.device].moves;
  if (!moves.any()) moves.first_ns = at_ns;
  moves.last_ns = std::max(moves.last_ns, at_ns);
  (to_host ? moves.demoted_pages : moves.promoted_pages)++;
  (to_host ? moves.demoted_bytes : moves.promoted_bytes) += *bytes;
  if (to_host && record.note == "clean") {
    moves.clean_pages++;
    moves.clean_bytes += *bytes;
  }

  // Unknown: its map record was dropped, or another thread unmapped it before this was logged.
  auto page = pages_.find(begin);
  if (page == pages_.end() || page->second.on_host == to_host) return;
  held(page->second.device, !to_host).sub(page->second.bytes);
  held(page->second.device, to_host).add(page->second.bytes, at_ns);
  page->second.on_host = to_host;

  // Of no allocation at all when the page is only cached.
  const uint64_t end = begin + page->second.bytes;
  auto allocation = live.upper_bound(begin);
  if (allocation != live.begin()) --allocation;
  for (size_t seen = 0; allocation != live.end() && seen < most_in_a_page; ++allocation, seen++) {
    Allocation& a = allocation->second;
    if (a.address >= end) break;
    const uint64_t from = std::max(begin, a.address);
    const uint64_t to = std::min(end, a.address + a.given_bytes);
    if (from < to) move_in(a, at_ns, to - from, to_host);
  }
}

void Summary::move_in(Allocation& allocation, uint64_t at_ns, uint64_t bytes, bool to_host) {
  DeviceUse& use = devices[allocation.device];
  use.at_peak.before_move(allocation);
  const uint64_t most =
      to_host ? allocation.given_bytes - allocation.host_bytes : allocation.host_bytes;
  const uint64_t moved = std::min(bytes, most);
  if (to_host) {
    allocation.host_bytes += moved;
    use.spilled.add(moved, at_ns);
  } else {
    allocation.host_bytes -= moved;
    use.spilled.sub(moved);
  }
  MovedAllocation& count = moved_[allocation.address];
  (to_host ? count.demoted_pages : count.promoted_pages)++;
  (to_host ? count.demoted_bytes : count.promoted_bytes) += bytes;
  Site& site = sites[allocation.site];
  (to_host ? site.demoted_bytes : site.promoted_bytes) += bytes;
}

std::vector<MovedAllocation> Summary::moved_most(size_t top) const {
  std::vector<MovedAllocation> found = moved_and_freed_;
  for (const auto& [address, moved] : moved_) {
    auto allocation = live.find(address);
    if (allocation == live.end()) continue;
    found.push_back(moved);
    found.back().allocation = allocation->second;
  }
  std::sort(found.begin(), found.end(), moved_more);
  if (found.size() > top) found.resize(top);
  return found;
}

void Summary::gave_up(const Record& record, uint64_t at_ns) {
  Moves& moves = devices[record.device].moves;
  if (!moves.any()) moves.first_ns = at_ns;
  moves.last_ns = std::max(moves.last_ns, at_ns);
  moves.given_up_count++;
  std::string why(record.note.substr(0, longest_reason));
  if (!moves.given_up.contains(why) && moves.given_up.size() >= most_reasons) why = "other";
  moves.given_up[why]++;
}

void Summary::moves(const JsonLine& json) {
  auto number = [&json](std::string_view name) { return json.number(name).value_or(0); };
  MoveTotals totals;
  totals.promoted_pages = number("promoted_pages");
  totals.promoted_bytes = number("promoted_bytes");
  totals.demoted_pages = number("demoted_pages");
  totals.demoted_bytes = number("demoted_bytes");
  totals.demoted_copied_bytes = number("demoted_copied_bytes");
  totals.clean_pages = number("clean_pages");
  totals.given_up = number("given_up");
  totals.batches = number("batches");
  totals.shut_ns = number("shut_ns");
  totals.longest_shut_ns = number("longest_shut_ns");
  totals.in_place = number("in_place");
  totals.in_place_bytes = number("in_place_bytes");
  move_totals = totals;
}

}  // namespace flexlom::trace
