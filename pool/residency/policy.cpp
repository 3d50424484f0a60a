#include "pool/residency/policy.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "pool/types.h"

namespace flexlom::pool::policy {
namespace {

constexpr uint64_t kRemapCost = uint64_t{4} << 20;  // what one remap costs, in bytes of the link
constexpr Tick kFreshTicks = 16;                    // a page touched once may be in mid-burst
constexpr float kForgotten = 16;  // times the longest interval: not delayed but given up
constexpr Tick kWindows = 20;     // next uses nearer than 1/20 of the furthest count as equal
constexpr size_t kMostCompared = 512;
constexpr uint64_t kBatchShare = 24;  // companions: at most 1/24 of what is spilled
constexpr float kClearlyMore = 1.3f;  // exchanges: a difference that estimates can tell
// Exchanges: uses before a page's pace is believed, against a page that has one and against one
// that has none; and the submissions that they span at least, for a burst is not a pace.
constexpr uint32_t kUsesToEarn = 4;
constexpr uint32_t kUsesToBeSeen = 2;
constexpr float kPaceTicks = 64;

// Who leaves before whom: the class first, then the rank in it, both compared as one number.
enum Class : uint64_t {
  forgotten_page,
  unknown_page,
  fresh_page,
  retired_page,
  known_page,
  smallest_page,
};

struct Candidate {
  uint64_t group;  // class and rank; equal means as good as equal
  uint32_t tie;    // order among equals that cost the same
  uint32_t index;
  Tick next;
};

bool leaves_later(const Candidate& a, const Candidate& b) {
  return a.group != b.group ? a.group > b.group : a.tie > b.tie;
}

uint64_t group_of(Class kind, uint64_t rank) {
  return (uint64_t{kind} << 56) | std::min<uint64_t>(rank, (uint64_t{1} << 56) - 1);
}

// Position of each page in the order of addresses. The page table is in that order, as a rule.
std::vector<uint32_t> address_ranks(std::span<const PageView> pages) {
  std::vector<uint32_t> order(pages.size());
  std::iota(order.begin(), order.end(), 0u);
  const auto by_address = [&](uint32_t a, uint32_t b) {
    return pages[a].address < pages[b].address;
  };
  if (std::is_sorted(order.begin(), order.end(), by_address)) return order;
  std::sort(order.begin(), order.end(), by_address);
  std::vector<uint32_t> ranks(pages.size());
  for (uint32_t i = 0; i < order.size(); ++i) ranks[order[i]] = i;
  return ranks;
}

// Multiples of the golden ratio: any number of pages taken in this order lie evenly over the
// address range, and adding pages at its end does not change what was taken.
uint32_t scatter(uint32_t rank) { return rank * 2654435769u; }

// Learned from some of the pages when there are many.
Population population_of(std::span<const PageView> pages) {
  constexpr size_t enough = 512;
  PopulationSample sample;
  const size_t step = std::max<size_t>(pages.size() / enough, 1);
  for (size_t i = 0; i < pages.size(); i += step) sample.add(pages[i].history);
  return sample.result();
}

// Resident pages in the order in which they may leave, worked out only as far as asked for.
class Leavers {
 public:
  Leavers(std::span<const PageView> pages, const Population& population, Tick now,
          const Context& context)
      : pages_(pages) {
    if (context.kind == Kind::pin) return;
    waiting_.reserve(pages.size());
    Tick furthest = now;
    bool unlearned = false;
    for (uint32_t i = 0; i < pages.size(); ++i) {
      const PageView& page = pages[i];
      if (!page.resident || !page.movable || page.needed || page.bytes == 0) continue;
      Tick next = context.kind == Kind::lru ? kFar : next_use(page.history, now, population);
      if (next != kFar) {
        if (context.host_tight && !page.host_copy && population.rhythmic) {
          next = now + (next - now) / 2;
        }
        furthest = std::max(furthest, next);
      }
      unlearned = unlearned || (next == kFar && page.history.uses < 2);
      waiting_.push_back({0, i, i, next});
    }
    // Pages in use are spread by their use.
    const std::vector<uint32_t> ranks = unlearned ? address_ranks(pages) : std::vector<uint32_t>();
    const Tick window = std::max<Tick>((furthest - now) / kWindows, 1);
    for (Candidate& c : waiting_) {
      const PageView& page = pages[c.index];
      if (c.next != kFar) {
        c.tie = static_cast<uint32_t>(std::min<Tick>(furthest - c.next, UINT32_MAX));
      } else if (unlearned) {
        c.tie = scatter(ranks[c.index]);
      }
      if (context.kind == Kind::lru) {
        c.group = page.history.last;
      } else if (page.bytes <= kGranule) {
        c.group = group_of(smallest_page, c.next == kFar ? 0 : 1 + (furthest - c.next) / window);
      } else if (c.next != kFar) {
        c.group = group_of(known_page, (furthest - c.next) / window);
      } else {
        const Tick silent = now - std::min(now, page.history.last);
        if (page.history.uses > 1) {
          // A long scan delays a working set, and is over before it is worth its room. A new
          // working set shows by its second pass, and then takes the place of the retired one.
          c.group =
              group_of(silence(page.history, now) > kForgotten ? forgotten_page : retired_page, 0);
        } else if (page.history.uses == 1 && silent < kFreshTicks) {
          c.group = group_of(fresh_page, kFreshTicks - silent);
        } else {
          c.group = group_of(unknown_page, 0);
        }
      }
    }
    std::make_heap(waiting_.begin(), waiting_.end(), leaves_later);
  }

  // All in order, first to leave first, whatever they cost.
  std::vector<Candidate> all() {
    std::sort_heap(waiting_.begin(), waiting_.end(), leaves_later);
    std::reverse(waiting_.begin(), waiting_.end());
    return std::move(waiting_);
  }

  // The next to leave when `wanted` more bytes are wanted; null: there is none.
  const Candidate* take(uint64_t wanted) {
    if (group_.empty()) refill();
    if (group_.empty()) return nullptr;
    size_t best = 0;
    double best_cost = std::numeric_limits<double>::infinity();
    for (size_t i = 0; i < group_.size(); ++i) {
      const double cost = cost_per_byte(pages_[group_[i].index], wanted);
      if (cost < best_cost || (cost == best_cost && group_[i].tie < group_[best].tie)) {
        best = i;
        best_cost = cost;
      }
    }
    taken_ = group_[best];
    group_[best] = group_.back();
    group_.pop_back();
    return &taken_;
  }

 private:
  // Of moving the page out now and in again some time, for each byte that is of use.
  static double cost_per_byte(const PageView& page, uint64_t wanted) {
    const uint64_t moved = page.host_copy ? page.bytes : 2 * page.bytes;
    const uint64_t useful = std::max<uint64_t>(std::min(page.bytes, wanted), 1);
    return static_cast<double>(moved + kRemapCost) / static_cast<double>(useful);
  }

  void refill() {
    while (!waiting_.empty() && group_.size() < kMostCompared &&
           (group_.empty() || waiting_.front().group == group_.front().group)) {
      std::pop_heap(waiting_.begin(), waiting_.end(), leaves_later);
      group_.push_back(waiting_.back());
      waiting_.pop_back();
    }
  }

  std::span<const PageView> pages_;
  std::vector<Candidate> waiting_;  // a heap, first to leave in front
  std::vector<Candidate> group_;    // taken off the heap, as good as equal
  Candidate taken_{};
};

// Takes what leaves for `want` bytes. Returns the bytes found.
uint64_t take_bytes(Leavers& leavers, std::span<const PageView> pages, uint64_t want,
                    std::vector<uint32_t>& ids) {
  uint64_t found = 0;
  while (found < want) {
    const Candidate* leaver = leavers.take(want - found);
    if (!leaver) break;
    found += pages[leaver->index].bytes;
    ids.push_back(pages[leaver->index].id);
  }
  return found;
}

struct Arrival {
  Tick next;
  uint32_t index;
};

bool may_come(const PageView& page) {
  return !page.resident && page.movable && !page.needed && page.bytes != 0;
}

// Appends companions to `ids` as long as what leaves for them is used later than they are.
// `spare`: bytes free now. Whoever leaves is added to `leaving`.
void add_companions(std::span<const PageView> pages, const Population& population, uint64_t room,
                    uint64_t spare, Tick now, Leavers& leavers, std::vector<uint32_t>& ids,
                    std::vector<uint32_t>& leaving) {
  std::vector<Arrival> arrivals;
  for (uint32_t i = 0; i < pages.size(); ++i) {
    if (!may_come(pages[i]) || pages[i].bytes > room) continue;
    if (!in_rhythm(pages[i].history, now, population)) continue;
    const Tick next = next_use(pages[i].history, now, population);
    if (next != kFar) arrivals.push_back({next, i});
  }
  const auto later = [](const Arrival& a, const Arrival& b) {
    return a.next != b.next ? a.next > b.next : a.index > b.index;
  };
  std::make_heap(arrivals.begin(), arrivals.end(), later);
  while (!arrivals.empty()) {
    std::pop_heap(arrivals.begin(), arrivals.end(), later);
    const Arrival arrival = arrivals.back();
    arrivals.pop_back();
    const uint64_t bytes = pages[arrival.index].bytes;
    if (bytes > room) return;
    const size_t leaving_before = leaving.size();
    uint64_t got = spare;
    while (got < bytes) {
      const Candidate* leaver = leavers.take(bytes - got);
      if (!leaver || leaver->next <= arrival.next) {
        leaving.resize(leaving_before);
        return;
      }
      got += pages[leaver->index].bytes;
      leaving.push_back(pages[leaver->index].id);
    }
    spare = got - bytes;
    room -= bytes;
    ids.push_back(pages[arrival.index].id);
  }
}

}  // namespace

std::optional<Kind> parse_kind(std::string_view name) {
  for (const Kind kind : {Kind::automatic, Kind::pin, Kind::lru}) {
    if (name == kind_name(kind)) return kind;
  }
  return std::nullopt;
}

std::string_view kind_name(Kind kind) {
  switch (kind) {
    case Kind::pin:
      return "pin";
    case Kind::lru:
      return "lru";
    default:
      return "auto";
  }
}

std::vector<uint32_t> victims(std::span<const PageView> pages, uint64_t want_bytes, Tick now,
                              const Context& context) {
  std::vector<uint32_t> ids;
  const Population population = population_of(pages);
  Leavers leavers(pages, population, now, context);
  take_bytes(leavers, pages, want_bytes, ids);
  return ids;
}

std::vector<uint32_t> companions(std::span<const PageView> pages, uint64_t room_bytes,
                                 uint64_t leaving_bytes, Tick now, const Context& context) {
  std::vector<uint32_t> ids, leaving;
  if (context.kind != Kind::automatic) return ids;
  const Population population = population_of(pages);
  Leavers leavers(pages, population, now, context);
  const uint64_t found = take_bytes(leavers, pages, leaving_bytes, leaving);
  if (found < leaving_bytes) return ids;
  add_companions(pages, population, room_bytes, found - leaving_bytes + context.free_bytes, now,
                 leavers, ids, leaving);
  return ids;
}

std::vector<uint32_t> copies_to_drop(std::span<const PageView> pages, uint64_t want_bytes, Tick now,
                                     const Context& context) {
  std::vector<uint32_t> ids;
  std::vector<Candidate> order = Leavers(pages, population_of(pages), now, context).all();
  uint64_t found = 0;
  for (auto last = order.rbegin(); found < want_bytes && last != order.rend(); ++last) {
    const PageView& page = pages[last->index];
    if (!page.host_copy) continue;
    found += page.bytes;
    ids.push_back(page.id);
  }
  return ids;
}

Plan plan(std::span<const PageView> pages, uint64_t batch_bytes, Tick now, const Context& context) {
  Plan result;
  if (context.kind == Kind::pin) return result;
  const Population population = population_of(pages);
  uint64_t needed = 0, spilled = 0;
  for (const PageView& page : pages) {
    if (page.resident || !page.movable) continue;
    if (!page.needed) {
      if (next_use(page.history, now, population) != kFar) spilled += page.bytes;
      continue;
    }
    spilled += page.bytes;
    needed += page.bytes;
    result.promote.push_back(page.id);
  }
  if (needed == 0) return result;
  Leavers leavers(pages, population, now, context);
  uint64_t spare = context.free_bytes;
  if (needed > spare) {
    const uint64_t want = needed - spare;
    const uint64_t found = take_bytes(leavers, pages, want, result.demote);
    if (found < want) return result;
    spare = found - want;
  } else {
    spare -= needed;
  }
  const uint64_t batch = std::min(batch_bytes, spilled / kBatchShare);
  if (context.kind == Kind::automatic && batch > needed) {
    add_companions(pages, population, batch - needed, spare, now, leavers, result.promote,
                   result.demote);
  }
  return result;
}

Plan exchanges(std::span<const PageView> pages, uint64_t batch_bytes, Tick now,
               const Context& context) {
  Plan result;
  if (context.kind != Kind::automatic) return result;
  struct Paced {
    float interval;
    uint32_t index;
  };
  std::vector<Paced> in, out;
  for (uint32_t i = 0; i < pages.size(); ++i) {
    const PageView& page = pages[i];
    if (!page.movable || page.bytes == 0) continue;
    if (may_come(page)) {
      const auto intervals = static_cast<float>(page.history.uses) - 1;
      if (page.history.uses < kUsesToBeSeen ||
          intervals * page.history.mean_interval < kPaceTicks) {
        continue;
      }
      const float interval = touch_interval(page.history, now);
      if (std::isfinite(interval)) in.push_back({interval, i});
    } else if (page.resident && !page.needed && page.bytes > kGranule) {
      out.push_back({touch_interval(page.history, now), i});
    }
  }
  const auto slower = [](const Paced& a, const Paced& b) {
    return a.interval != b.interval ? a.interval > b.interval : a.index > b.index;
  };
  const auto faster = [&](const Paced& a, const Paced& b) { return slower(b, a); };
  std::make_heap(in.begin(), in.end(), slower);    // the most often touched in front
  std::make_heap(out.begin(), out.end(), faster);  // the least often touched in front
  // By how much estimates must differ for what they estimate to differ by that much.
  const Population population = population_of(pages);
  const float clearly = population.rhythmic
                            ? kClearlyMore
                            : std::pow(kClearlyMore, 1 / std::max(population.reliability, 0.01f));
  uint64_t spare = context.free_bytes;
  while (!in.empty()) {
    std::pop_heap(in.begin(), in.end(), slower);
    const Paced arrival = in.back();
    in.pop_back();
    const uint64_t bytes = pages[arrival.index].bytes;
    if (bytes > batch_bytes) break;
    const size_t demoted_before = result.demote.size();
    uint64_t got = spare;
    const bool proven = pages[arrival.index].history.uses >= kUsesToEarn;
    while (got < bytes && !out.empty() && out.front().interval > arrival.interval * clearly &&
           (proven || std::isinf(out.front().interval))) {
      std::pop_heap(out.begin(), out.end(), faster);
      got += pages[out.back().index].bytes;
      result.demote.push_back(pages[out.back().index].id);
      out.pop_back();
    }
    if (got < bytes) {
      // Whoever was taken off the heap stays; later arrivals, slower ones, make do with the rest.
      result.demote.resize(demoted_before);
      if (proven) break;
      continue;
    }
    spare = got - bytes;
    batch_bytes -= bytes;
    result.promote.push_back(pages[arrival.index].id);
  }
  return result;
}

}  // namespace flexlom::pool::policy
