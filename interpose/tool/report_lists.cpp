// The lists of a report: who held the memory, who asked how often, and what failed.
#include <fmt/format.h>

#include <algorithm>

#include "interpose/tool/output.h"
#include "interpose/tool/report_text.h"

namespace flexlom::tool {

using trace::Allocation;
using trace::Failure;
using trace::Holder;
using trace::Summary;

std::vector<Allocation> biggest_live(const Summary& log, size_t top, const Filter& filter) {
  std::vector<char> kept(log.sites.size());
  for (trace::SiteId id = 0; id < log.sites.size(); id++) kept[id] = filter.keeps(log, id);
  std::vector<Allocation> live;
  for (const auto& [address, allocation] : log.live) {
    if (kept[allocation.site]) live.push_back(allocation);
  }
  const size_t shown = std::min(top, live.size());
  std::partial_sort(live.begin(), live.begin() + static_cast<ptrdiff_t>(shown), live.end(),
                    [](const Allocation& a, const Allocation& b) {
                      if (a.given_bytes != b.given_bytes) return a.given_bytes > b.given_bytes;
                      return a.at_ns != b.at_ns ? a.at_ns < b.at_ns : a.address < b.address;
                    });
  live.resize(shown);
  return live;
}

std::vector<trace::MovedAllocation> moved_most(const Summary& log, size_t top,
                                               const Filter& filter) {
  std::vector<trace::MovedAllocation> list;
  for (trace::MovedAllocation& moved : log.moved_most(Summary::most_listed)) {
    if (list.size() == top) break;
    if (filter.keeps(log, moved.allocation.site)) list.push_back(std::move(moved));
  }
  return list;
}

namespace {

uint64_t bytes_of(const Group& group) { return group.bytes; }

// "1.3 GiB  45.0%  cuMemAlloc_v2 of 1.3 GiB", and where it lies.
std::string holder_line(const Group& group, uint64_t whole_bytes) {
  std::string line = fmt::format("{:>10}  {:>6}  {}", human_bytes(group.bytes),
                                 share(group.bytes, whole_bytes), call_and_size(group));
  if (group.count != 1) line += fmt::format(" x {}", group.count);
  line += fmt::format("  {:#x}-{:#x}", group.lowest, group.end);
  if (group.host_bytes != 0)
    line += fmt::format("  ({} on the host)", human_bytes(group.host_bytes));
  return line;
}

void and_more(std::string& out, size_t all, size_t top) {
  if (all > top) out += fmt::format("  and {} more\n", all - top);
}

}  // namespace

void write_peak_holders(std::string& out, const Summary& log, size_t top, const Filter& filter) {
  for (const auto& [ordinal, device] : log.devices) {
    if (device.in_use.most_bytes == 0) continue;
    const std::vector<Group> groups = peak_groups(log, ordinal, filter);
    out += fmt::format("\nheld at the peak of {}, {}\n", device_name(ordinal),
                       human_bytes(device.in_use.most_bytes));
    for (const Group& group : top_groups(groups, top, bytes_of)) {
      out += "  " + holder_line(group, device.in_use.most_bytes) + "\n";
      write_stack(out, log, group.frame, stack_indent);
    }
    and_more(out, groups.size(), top);
  }
}

void write_live(std::string& out, const Summary& log, size_t top, const Filter& filter) {
  uint64_t bytes = 0;
  for (const auto& [address, allocation] : log.live) bytes += allocation.given_bytes;
  out += fmt::format("\nlive at the end: {}, {}\n",
                     count_of(log.live.size(), "allocation", "allocations"), human_bytes(bytes));
  const std::vector<Group> groups = live_groups(log, filter);
  size_t kept = 0;
  for (const Group& group : groups) kept += group.count;
  if (groups.size() < kept) {
    out += log.frames.size() == 0 ? " by call and size\n" : " by caller\n";
    for (const Group& group : top_groups(groups, top, bytes_of)) {
      out += "  " + holder_line(group, bytes) + "\n";
      write_stack(out, log, group.frame, stack_indent);
    }
    and_more(out, groups.size(), top);
    out += " the biggest\n";
  }
  for (const Allocation& a : biggest_live(log, top, filter)) {
    out += fmt::format("  {:>10}  {}  {:#x}  since {}  {}", human_bytes(a.given_bytes),
                       device_name(a.device), a.address, human_time(log.since_start(a.at_ns)),
                       printable(log.sites.call_of(a.site)));
    if (a.host_bytes != 0) out += fmt::format("  ({} on the host)", human_bytes(a.host_bytes));
    out += "\n";
    write_stack(out, log, log.sites[a.site].frame, stack_indent);
  }
  and_more(out, kept, top);
}

void write_calls(std::string& out, const Summary& log, size_t top, const Filter& filter) {
  const std::vector<Group> groups = all_groups(log, filter);
  out += "\nmost calls\n";
  for (const Group& group :
       top_groups(groups, top, [](const Group& g) -> uint64_t { return g.count; })) {
    out += fmt::format("  {:>10}  {}  ({} in all)\n", group.count, call_and_size(group),
                       human_bytes(group.bytes));
    write_stack(out, log, group.frame, stack_indent);
  }
  and_more(out, groups.size(), top);
  if (groups.empty()) out += "  none\n";

  uint64_t short_lived = 0, allocs = 0;
  size_t with_short_lived = 0;
  for (const Group& group : groups) {
    short_lived += group.short_lived;
    allocs += group.count;
    if (group.short_lived != 0) with_short_lived++;
  }
  if (short_lived == 0) return;
  out += fmt::format("\nshort-lived: {} freed within {}, {} of all\n",
                     count_of(short_lived, "allocation", "allocations"),
                     human_time(trace::Sites::short_life_ns), share(short_lived, allocs));
  for (const Group& group :
       top_groups(groups, top, [](const Group& g) -> uint64_t { return g.short_lived; })) {
    out += fmt::format("  {:>10}  of {} {}, mean life of all {}\n", group.short_lived, group.count,
                       call_and_size(group),
                       human_time(group.freed == 0 ? 0 : group.lifetime_ns / group.freed));
    write_stack(out, log, group.frame, stack_indent);
  }
  and_more(out, with_short_lived, top);
}

void write_failures(std::string& out, const Summary& log, size_t top) {
  out += fmt::format("\nfailed requests: {}\n", log.failure_count);
  const size_t shown = std::min(top, log.failures.size());
  for (size_t i = 0; i < shown; i++) {
    const Failure& f = log.failures[i];
    out += fmt::format(
        "  at {}  {} asked for {} on {}: error {}{}{}\n", human_time(log.since_start(f.at_ns)),
        f.call.empty() ? "a call" : printable(f.call), human_bytes(f.asked_bytes),
        device_name(f.device), f.code, f.note.empty() ? "" : ", ", printable(f.note));
    write_stack(out, log, f.frame, stack_indent);
    if (f.device_held_bytes + f.host_held_bytes != 0)
      out += fmt::format("      frames held then: {} on the device, {} on the host\n",
                         human_bytes(f.device_held_bytes), human_bytes(f.host_held_bytes));
    if (f.in_use_bytes != 0)
      out += fmt::format("      in use then: {}, {} of it on the host; by\n",
                         human_bytes(f.in_use_bytes), human_bytes(f.spilled_bytes));
    for (size_t h = 0; h < std::min(top, f.holders.size()); h++) {
      const Holder& holder = f.holders[h];
      out += fmt::format(
          "      {:>10}  {:>6}  {}{}\n", human_bytes(holder.bytes),
          share(holder.bytes, f.in_use_bytes),
          call_and_size(log.sites.call_of(holder.site), log.sites[holder.site].asked_bytes),
          holder.count == 1 ? "" : fmt::format(" x {}", holder.count));
      write_stack(out, log, log.sites[holder.site].frame, stack_indent + 6);
    }
  }
  if (log.failure_count > shown) out += fmt::format("  and {} more\n", log.failure_count - shown);
}

// As they were on standard error, but with the names that can be found here.
void write_findings(std::string& out, const Summary& log, size_t top) {
  if (log.findings.empty()) return;
  out += fmt::format("\nmemory bugs: {}\n", log.finding_count);
  const size_t shown = std::min(top, log.findings.size());
  for (size_t i = 0; i < shown; i++) {
    const trace::Finding& finding = log.findings[i];
    out += fmt::format("  at {}\n", human_time(log.since_start(finding.at_ns)));
    for (const auto& [text, frame] : finding.lines) {
      out += "    " + printable(text) + "\n";
      if (frame != 0) write_stack(out, log, frame, stack_indent);
    }
  }
  if (log.finding_count > shown) out += fmt::format("  and {} more\n", log.finding_count - shown);
}

}  // namespace flexlom::tool
