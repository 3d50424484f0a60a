// flexlom report --diff: what changed between two logs, by caller or by call and size.
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <tuple>

#include "interpose/tool/caller_chains.h"
#include "interpose/tool/json_builder.h"
#include "interpose/tool/output.h"
#include "interpose/tool/report_text.h"

namespace flexlom::tool {
namespace {

using trace::Summary;

// One group in both logs.
struct Pair {
  Group group;                   // of both: sizes, and the call
  const Summary* log = nullptr;  // that the frame of the group is of
  uint64_t base = 0, now = 0;

  uint64_t distance() const { return now > base ? now - base : base - now; }
};

using Value = uint64_t (*)(const Group&);

// The lists of two logs, brought together by caller where both logs have stacks, else by call and
// size.
class Comparison {
 public:
  Comparison(const Summary& base, const Summary& now)
      : base_(base),
        now_(now),
        by_(base.frames.size() != 0 && now.frames.size() != 0 ? By::stack : By::size) {}

  By by() const { return by_; }
  const Summary& base() const { return base_; }
  const Summary& now() const { return now_; }

  // Groups whose value differs: by caller those that have grown most come first, by size those
  // that differ most.
  std::vector<Pair> pairs(const std::vector<Group>& base, const std::vector<Group>& now,
                          Value value) {
    std::map<std::tuple<int, std::string, uint64_t>, Pair> both;
    for (const Group& group : now) place(both, group, now_).now += value(group);
    for (const Group& group : base) place(both, group, base_).base += value(group);
    std::vector<Pair> list;
    for (auto& [key, pair] : both) {
      if (pair.base != pair.now) list.push_back(std::move(pair));
    }
    std::stable_sort(list.begin(), list.end(), [this](const Pair& a, const Pair& b) {
      const bool a_grew = a.now > a.base, b_grew = b.now > b.base;
      if (by_ == By::stack && a_grew != b_grew) return a_grew;
      return a.distance() > b.distance();
    });
    return list;
  }

 private:
  using Both = std::map<std::tuple<int, std::string, uint64_t>, Pair>;

  Pair& place(Both& both, const Group& group, const Summary& log) {
    const uint64_t what = by_ == By::stack ? chains_.of(log, group.frame) : group.asked_bytes;
    const auto [place, is_new] = both.try_emplace({group.device, group.call, what});
    Pair& pair = place->second;
    if (is_new) {
      pair.group = group;
      pair.log = &log;
    }
    pair.group.smallest = std::min(pair.group.smallest, group.smallest);
    pair.group.largest = std::max(pair.group.largest, group.largest);
    if (pair.group.smallest != pair.group.largest) pair.group.asked_bytes = 0;
    return pair;
  }

  const Summary &base_, &now_;
  const By by_;
  CallerChains chains_;
};

std::vector<Group> peaks_of_all_devices(const Summary& log, const Filter& filter, By by) {
  std::vector<Group> groups;
  for (const auto& [ordinal, device] : log.devices) {
    for (Group& group : peak_groups(log, ordinal, filter, by)) groups.push_back(std::move(group));
  }
  return groups;
}

struct Total {
  const char* name;
  const char* key;
  uint64_t base, now;
  bool bytes;
};

std::vector<Total> totals(const Summary& base, const Summary& now) {
  struct Sums {
    uint64_t in_use = 0, held = 0, spilled = 0, promoted = 0, demoted = 0, live = 0;
  };
  auto sum = [](const Summary& log) {
    Sums sums;
    for (const auto& [ordinal, device] : log.devices) {
      sums.in_use += device.in_use.most_bytes;
      sums.held += device.held.most_bytes;
      sums.spilled += device.spilled.most_bytes;
      sums.promoted += device.moves.promoted_bytes;
      sums.demoted += device.moves.demoted_bytes;
    }
    for (const auto& [address, allocation] : log.live) sums.live += allocation.given_bytes;
    return sums;
  };
  const Sums a = sum(base), b = sum(now);
  return {
      {"peak in use", "peak_in_use_bytes", a.in_use, b.in_use, true},
      {"peak of device frames", "peak_held_bytes", a.held, b.held, true},
      {"peak spilled", "peak_spilled_bytes", a.spilled, b.spilled, true},
      {"moved to the device", "promoted_bytes", a.promoted, b.promoted, true},
      {"moved to the host", "demoted_bytes", a.demoted, b.demoted, true},
      {"live at the end", "live_bytes", a.live, b.live, true},
      {"live allocations", "live_count", base.live.size(), now.live.size(), false},
      {"allocations", "allocs", base.allocs, now.allocs, false},
      {"failed requests", "failure_count", base.failure_count, now.failure_count, false},
      {"run time", "run_time_ns", base.since_start(base.last_ns), now.since_start(now.last_ns),
       false},
  };
}

std::string amount(uint64_t value, bool bytes) {
  return bytes ? human_bytes(value) : std::to_string(value);
}

std::string change(uint64_t base, uint64_t now, bool bytes) {
  if (base == now) return "=";
  return now > base ? "+" + amount(now - base, bytes) : "-" + amount(base - now, bytes);
}

void write_pairs(std::string& out, const char* title, const std::vector<Pair>& list, By by,
                 size_t top, bool bytes) {
  out += fmt::format("\n{}\n", title);
  if (list.empty()) out += "  no difference\n";
  for (size_t i = 0; i < std::min(top, list.size()); i++) {
    const Pair& pair = list[i];
    const char* news = pair.base == 0 ? "  (new)" : pair.now == 0 ? "  (gone)" : "";
    out +=
        fmt::format("  {:>12}  {:>10} -> {:<10}  {} on {}{}\n", change(pair.base, pair.now, bytes),
                    amount(pair.base, bytes), amount(pair.now, bytes), call_and_size(pair.group),
                    device_name(pair.group.device), news);
    if (by == By::stack) write_stack(out, *pair.log, pair.group.frame, stack_indent);
  }
  if (list.size() > top) out += fmt::format("  and {} more\n", list.size() - top);
}

std::string json_pairs(const std::vector<Pair>& list, By by, size_t top) {
  Json array('[');
  for (size_t i = 0; i < std::min(top, list.size()); i++) {
    const Pair& pair = list[i];
    Json json('{');
    json.raw("device", std::to_string(pair.group.device)).text("call", pair.group.call);
    json.number("asked_bytes", pair.group.asked_bytes);
    json.number("base", pair.base).number("now", pair.now);
    if (by == By::stack) add_stack(json, *pair.log, pair.group.frame);
    array.raw("", json.end());
  }
  return array.end();
}

struct Differences {
  By by;
  std::vector<Pair> peak, live, calls, moved;
};

Differences differences(const Summary& base, const Summary& now, const Filter& filter) {
  const Value bytes = [](const Group& g) { return g.bytes; };
  Comparison compare(base, now);
  const By by = compare.by();
  Differences found{by, {}, {}, {}, {}};
  found.peak = compare.pairs(peaks_of_all_devices(base, filter, by),
                             peaks_of_all_devices(now, filter, by), bytes);
  found.live = compare.pairs(live_groups(base, filter, by), live_groups(now, filter, by), bytes);
  const std::vector<Group> all_base = all_groups(base, filter, by),
                           all_now = all_groups(now, filter, by);
  found.calls = compare.pairs(all_base, all_now, [](const Group& g) { return g.count; });
  found.moved = compare.pairs(all_base, all_now,
                              [](const Group& g) { return g.promoted_bytes + g.demoted_bytes; });
  return found;
}

// How the lists are made, where a person may wonder.
std::string way_of(By by, const NamedLog& base, const NamedLog& now) {
  if (by == By::stack) return "  by caller, what has grown most first\n";
  for (const NamedLog& log : {base, now}) {
    const NamedLog& other = &log.log == &base.log ? now : base;
    if (log.log.frames.size() == 0 && other.log.frames.size() != 0)
      return fmt::format(
          "  by call and size, because {} has no call stacks (flexlom run --stacks fp)\n",
          log.name);
  }
  return "";
}

}  // namespace

std::string diff_text(const NamedLog& base, const NamedLog& now, size_t top, const Filter& filter) {
  const Differences found = differences(base.log, now.log, filter);
  std::string out = fmt::format("{}\n  compared with {}\n", now.name, base.name);
  out += way_of(found.by, base, now);
  if (filter.active())
    out += fmt::format("  lists: {}; totals are of everything\n", filter.in_words());
  out += "\ntotals\n";
  for (const Total& total : totals(base.log, now.log)) {
    const bool is_time = std::string_view(total.key) == "run_time_ns";
    auto word = [&](uint64_t value) {
      return is_time ? human_time(value) : amount(value, total.bytes);
    };
    const std::string difference =
        is_time ? (total.now >= total.base ? "+" + human_time(total.now - total.base)
                                           : "-" + human_time(total.base - total.now))
                : change(total.base, total.now, total.bytes);
    out += fmt::format("  {:<22} {:>12}  {:>10} -> {}\n", total.name, difference, word(total.base),
                       word(total.now));
  }
  write_pairs(out, "held at the peak", found.peak, found.by, top, true);
  write_pairs(out, "live at the end", found.live, found.by, top, true);
  write_pairs(out, "calls", found.calls, found.by, top, false);
  if (!found.moved.empty())
    write_pairs(out, "moved between device and host", found.moved, found.by, top, true);
  return out;
}

std::string diff_json(const NamedLog& base, const NamedLog& now, size_t top, const Filter& filter) {
  Json json('{');
  const Differences found = differences(base.log, now.log, filter);
  json.text("file", now.name).text("base_file", base.name);
  json.text("by", found.by == By::stack ? "caller" : "size");
  Json sums('{');
  for (const Total& total : totals(base.log, now.log)) {
    Json pair('{');
    sums.raw(total.key, pair.number("base", total.base).number("now", total.now).end());
  }
  json.raw("totals", sums.end());
  json.raw("held_at_peak", json_pairs(found.peak, found.by, top));
  json.raw("live", json_pairs(found.live, found.by, top));
  json.raw("calls", json_pairs(found.calls, found.by, top));
  json.raw("moved", json_pairs(found.moved, found.by, top));
  return json.end() + "\n";
}

}  // namespace flexlom::tool
