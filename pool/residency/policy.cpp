#include "pool/residency/policy.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "pool/types.h"

namespace flexlom::pool::policy {
namespace {

// What giving a page's address another frame and later the first kind again takes (0.34 + 0.42 ms
// on an H200), which copies hide.
constexpr float kRemap_ns = 760'000;
// Evicting a page without a copy on the host: its bytes go there too, and into a frame that may
// have to be made, which takes ten times as long.
constexpr float kWithoutCopy = 3;
constexpr Tick kFreshTicks = 16;  // a page touched once may be in mid-burst
constexpr float kForgotten = 16;  // times the longest interval: not delayed but given up
constexpr Tick kWindows = 20;     // next uses nearer than 1/20 of the furthest count as equal
constexpr size_t kMostCompared = 512;
constexpr uint64_t kBatchShare = 24;   // companions: at most 1/24 of what is spilled
constexpr float kClearlyMore = 1.5f;   // exchanges: a difference that estimates can tell
constexpr float kWorthMoving = 1.25f;  // companions: in place is worse than moving by this much
// Pages that do the moving: a quarter more than must be away, and what one batch needs.
constexpr uint64_t kMoversShare = 4;
constexpr uint64_t kMoversMore = uint64_t{256} << 20;
constexpr uint32_t kUsesToStay = 3;  // exchanges: uses between two moves of one page
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
  staying_page,
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

// Of moving the page once, for each of its bytes.
float move_cost(const PageView& page) {
  const float remap = kRemap_ns / static_cast<float>(std::max<uint64_t>(page.bytes, 1));
  return std::max(kLink_ns_per_byte, remap);
}

// What a page that is not on the device costs in one tick, for each of its bytes: once for every
// use, the lesser of reading it in place and of moving it.
float cost_rate(const PageView& page) {
  if (page.history.uses < 2 || page.history.mean_interval <= 0) return 0;
  const float in_place = page.history.use_cost;
  const float move = move_cost(page);
  return (in_place > 0 ? std::min(in_place, move) : move) / page.history.mean_interval;
}

// Multiples of the golden ratio: any number of pages taken in this order lie evenly over the
// address range, and adding pages at its end does not change what was taken.
uint32_t scatter(uint32_t rank) { return rank * 2654435769u; }

// Which pages of a program with a rhythm do the moving: those that cost least when they are away,
// a little more of them than must be away. The others stay. One more page that comes and goes saves
// nothing, for what is saved by keeping the page that is used next is lost on another; so it may as
// well be always the same few: they have frames on the host, and are large, or read in place.
class Movers {
 public:
  // `leaving`: bytes that are to leave now.
  Movers(std::span<const PageView> pages, const Population& population, uint64_t leaving)
      : all_(!population.rhythmic) {
    if (all_) return;
    uint64_t away = 0, bytes[kRates] = {}, ready[kRates] = {};
    for (const PageView& page : pages) {
      if (!page.movable || page.bytes == 0 || page.history.uses < 2) continue;
      const unsigned rate = rate_of(page);
      bytes[rate] += page.bytes;
      if (!page.resident || page.host_copy) ready[rate] += page.bytes;
      if (!page.resident) away += page.bytes;
    }
    away += leaving;
    uint64_t wanted = away + away / kMoversShare + kMoversMore;
    for (last_ = 0; last_ < kRates && bytes[last_] < wanted; ++last_) wanted -= bytes[last_];
    if (last_ == kRates) {
      all_ = true;
      return;
    }
    // Of the last ones, those that have frames on the host, and as many others as are wanted.
    if (ready[last_] < wanted) {
      const double share = static_cast<double>(wanted - ready[last_]) /
                           static_cast<double>(bytes[last_] - ready[last_]);
      others_ = static_cast<uint64_t>(share * 4294967296.0);
    }
  }

  bool holds(const PageView& page) const {
    if (all_ || page.history.uses < 2) return true;
    const unsigned rate = rate_of(page);
    if (rate != last_) return rate < last_;
    return !page.resident || page.host_copy ||
           scatter(static_cast<uint32_t>(page.address >> 21)) < others_;
  }

 private:
  static constexpr unsigned kRates = 256;
  // Half octaves.
  static unsigned rate_of(const PageView& page) {
    const float rate = cost_rate(page);
    if (rate <= 0) return 0;
    return static_cast<unsigned>(std::clamp(128 + 2 * std::log2(rate), 0.0f, 255.0f));
  }

  bool all_;
  unsigned last_ = 0;
  uint64_t others_ = 0;
};

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
  Leavers(std::span<const PageView> pages, const Population& population, uint64_t leaving, Tick now,
          const Context& context)
      : pages_(pages) {
    if (context.kind == Kind::pin) return;
    waiting_.reserve(pages.size());
    const Movers movers(pages, population, leaving);
    Tick furthest = now;
    bool unlearned = false;
    for (uint32_t i = 0; i < pages.size(); ++i) {
      const PageView& page = pages[i];
      if (!page.resident || !page.movable || page.needed || page.bytes == 0) continue;
      const Tick next = context.kind == Kind::lru ? kFar : next_use(page.history, now, population);
      if (next != kFar) furthest = std::max(furthest, next);
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
        c.group =
            group_of(movers.holds(page) ? known_page : staying_page, (furthest - c.next) / window);
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
    if (context.movers_only) {
      std::erase_if(waiting_, [](const Candidate& c) {
        return c.group >> 56 == staying_page || c.group >> 56 == smallest_page;
      });
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
    const double useful = static_cast<double>(std::max<uint64_t>(std::min(page.bytes, wanted), 1));
    return double{move_cost(page)} * (page.host_copy ? 1 : kWithoutCopy) *
           static_cast<double>(page.bytes) / useful;
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
    // What is as well read in place has no need to come.
    const float in_place = pages[i].history.use_cost;
    if (in_place > 0 && in_place < kWorthMoving * move_cost(pages[i])) continue;
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

// The time in which reading the page in place costs its bytes once: longer than from touch to touch
// where each reads a part of it, as the look-up of a few rows in a table does. What costs more than
// its bytes is promoted when it is used, and counts as read once.
float reading_interval(const PageView& page, Tick now, const Population& population) {
  const History& h = page.history;
  const float interval = touch_interval(h, now, population);
  const float all = kLink_ns_per_byte * h.touches_per_use;
  return h.use_cost > 0 && h.use_cost < all ? interval * (all / h.use_cost) : interval;
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
  Leavers leavers(pages, population, want_bytes, now, context);
  take_bytes(leavers, pages, want_bytes, ids);
  return ids;
}

std::vector<uint32_t> companions(std::span<const PageView> pages, uint64_t room_bytes,
                                 uint64_t leaving_bytes, Tick now, const Context& context) {
  std::vector<uint32_t> ids, leaving;
  if (context.kind != Kind::automatic) return ids;
  const Population population = population_of(pages);
  Leavers leavers(pages, population, leaving_bytes, now, context);
  const uint64_t found = take_bytes(leavers, pages, leaving_bytes, leaving);
  if (found < leaving_bytes) return ids;
  add_companions(pages, population, room_bytes, found - leaving_bytes + context.free_bytes, now,
                 leavers, ids, leaving);
  return ids;
}

std::vector<uint32_t> copies_to_drop(std::span<const PageView> pages, uint64_t want_bytes, Tick now,
                                     const Context& context) {
  std::vector<uint32_t> ids;
  std::vector<Candidate> order = Leavers(pages, population_of(pages), 0, now, context).all();
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
  Leavers leavers(pages, population, 0, now, context);
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
  const Population population = population_of(pages);
  struct Paced {
    float interval;
    uint32_t index;
  };
  const auto moved_lately = [](const History& h) {
    return h.uses_at_move != 0 && h.uses - h.uses_at_move < kUsesToStay;
  };
  std::vector<Paced> in, out;
  for (uint32_t i = 0; i < pages.size(); ++i) {
    const PageView& page = pages[i];
    if (!page.movable || page.bytes == 0 || moved_lately(page.history)) continue;
    if (may_come(page)) {
      const auto intervals = static_cast<float>(page.history.uses) - 1;
      if (page.history.uses < kUsesToBeSeen ||
          intervals * page.history.mean_interval < kPaceTicks) {
        continue;
      }
      const float interval = reading_interval(page, now, population);
      if (std::isfinite(interval)) in.push_back({interval, i});
    } else if (page.resident && !page.needed && page.bytes > kGranule) {
      out.push_back({reading_interval(page, now, population), i});
    }
  }
  const auto slower = [](const Paced& a, const Paced& b) {
    return a.interval != b.interval ? a.interval > b.interval : a.index > b.index;
  };
  const auto faster = [&](const Paced& a, const Paced& b) { return slower(b, a); };
  std::make_heap(in.begin(), in.end(), slower);    // the most often touched in front
  std::make_heap(out.begin(), out.end(), faster);  // the least often touched in front
  // By how much estimates must differ for what they estimate to differ by that much.
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
