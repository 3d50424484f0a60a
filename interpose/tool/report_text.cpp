#include "interpose/tool/report_text.h"

#include <fmt/format.h>

#include <algorithm>
#include <unordered_map>

#include "interpose/tool/output.h"

namespace flexlom::tool {

using trace::Summary;

std::string device_name(int device) {
  return device < 0 ? std::string("no device") : fmt::format("device {}", device);
}

std::string count_of(uint64_t count, std::string_view one, std::string_view many) {
  return fmt::format("{} {}", count, count == 1 ? one : many);
}

std::string call_and_size(std::string_view call, uint64_t asked_bytes) {
  const std::string name = call.empty() ? "unknown call" : printable(call);
  return asked_bytes == 0 ? name + " of other sizes"
                          : fmt::format("{} of {}", name, human_bytes(asked_bytes));
}

std::string call_and_size(const Group& group) {
  if (group.smallest == group.largest) return call_and_size(group.call, group.asked_bytes);
  return fmt::format("{} of {} to {}", group.call.empty() ? "unknown call" : printable(group.call),
                     group.smallest == 0 ? "other sizes" : human_bytes(group.smallest),
                     human_bytes(group.largest));
}

void write_stack(std::string& out, const Summary& log, trace::FrameId frame, size_t indent) {
  constexpr size_t most_shown = 10;
  const std::vector<trace::FrameLabel> stack = log.frames.stack(frame);
  const std::string margin(indent, ' ');
  if (stack.empty() && log.frames.size() != 0) out += margin + "caller not known\n";
  for (size_t i = 0; i < stack.size(); i++) {
    if (i == most_shown && stack.size() > most_shown + 1) {
      out += fmt::format("{}and {} callers\n", margin, stack.size() - i);
      break;
    }
    out += margin + printable(stack[i].function);
    if (!stack[i].file.empty()) out += fmt::format("  {}", printable(stack[i].file));
    if (stack[i].line != 0) out += fmt::format(":{}", stack[i].line);
    out += "\n";
  }
}

std::vector<std::pair<uint64_t, SizeUse>> sizes_of(const Summary& log, const Filter& filter) {
  std::unordered_map<uint64_t, SizeUse> uses;
  for (const Group& group : all_groups(log, filter, By::size)) {
    SizeUse& use = uses[group.asked_bytes];
    use.count += group.count;
    use.spilled_count += group.spilled_count;
  }
  std::vector<std::pair<uint64_t, SizeUse>> sizes(uses.begin(), uses.end());
  // In floating point, because a hostile log may ask for 2^56 bytes a million times.
  auto weight = [](const auto& size) {
    return static_cast<double>(size.first) * static_cast<double>(size.second.count);
  };
  std::sort(sizes.begin(), sizes.end(), [&](const auto& a, const auto& b) {
    return weight(a) != weight(b) ? weight(a) > weight(b) : a.first > b.first;
  });
  return sizes;
}

namespace {

void write_header(std::string& out, const std::string& name, const Summary& log) {
  out += name + "\n";
  if (log.format == 0) {
    out += "  (no header: who wrote this, and when, is not known)\n";
  } else {
    out += fmt::format("  flexlom {}, driver {}, pid {} on {}\n", printable(log.version),
                       driver_release(log.driver_version), log.pid, printable(log.host));
    if (!log.command.empty()) out += fmt::format("  command: {}\n", printable(log.command));
  }
  for (const auto& [ordinal, device] : log.devices) {
    if (device.total_bytes == 0) continue;
    out += fmt::format("  {}: {}, {}, {}\n", device_name(ordinal), printable(device.name),
                       human_bytes(device.total_bytes),
                       device.budget_bytes != 0 ? "budget " + human_bytes(device.budget_bytes)
                                                : "never allocated from");
  }
  if (log.format != 0) out += fmt::format("  host budget {}\n", human_bytes(log.host_budget_bytes));
}

void write_peaks(std::string& out, const Summary& log) {
  out += "\npeak\n";
  auto when = [&](uint64_t at_ns) { return human_time(log.since_start(at_ns)); };
  bool any = false;
  for (const auto& [ordinal, device] : log.devices) {
    if (device.in_use.most_bytes != 0) {
      any = true;
      uint64_t host = std::min(device.host_at_peak_bytes, device.in_use.most_bytes);
      out += fmt::format("  {}: {} in use at {} ({} on the device, {} on the host)\n",
                         device_name(ordinal), human_bytes(device.in_use.most_bytes),
                         when(device.in_use.most_at_ns),
                         human_bytes(device.in_use.most_bytes - host), human_bytes(host));
    }
    if (device.held.most_bytes != 0) {
      any = true;
      out += fmt::format("  {}: {} of device frames at {}{}\n", device_name(ordinal),
                         human_bytes(device.held.most_bytes), when(device.held.most_at_ns),
                         device.budget_bytes != 0
                             ? fmt::format(", budget {}", human_bytes(device.budget_bytes))
                             : "");
    }
  }
  if (log.host_held.most_bytes != 0) {
    any = true;
    out += fmt::format("  host: {} of pinned frames at {}{}{}\n",
                       human_bytes(log.host_held.most_bytes), when(log.host_held.most_at_ns),
                       log.host_frames_peak_bytes > log.host_held.most_bytes
                           ? fmt::format(" ({} with spare frames and copies kept)",
                                         human_bytes(log.host_frames_peak_bytes))
                           : "",
                       log.host_budget_bytes != 0
                           ? fmt::format(", budget {}", human_bytes(log.host_budget_bytes))
                           : "");
  }
  if (!any) out += "  nothing was allocated\n";
}

void write_sizes(std::string& out, const Summary& log, size_t top, const Filter& filter) {
  out += "\nbiggest sizes (bytes asked for, all requests together)\n";
  const auto sizes = sizes_of(log, filter);
  for (size_t i = 0; i < std::min(top, sizes.size()); i++) {
    const auto& [bytes, use] = sizes[i];
    out += fmt::format("  {:>10}  x {}", bytes == 0 ? "others" : human_bytes(bytes), use.count);
    if (use.spilled_count != 0) out += fmt::format("  ({} spilled)", use.spilled_count);
    out += "\n";
  }
  if (sizes.empty()) out += "  none\n";
  if (sizes.size() > top)
    out += fmt::format("  and {}\n", count_of(sizes.size() - top, "other size", "other sizes"));
}

void write_spills(std::string& out, const Summary& log) {
  out += "\nspilled to the host\n";
  const bool later = std::any_of(log.devices.begin(), log.devices.end(), [](const auto& device) {
    return device.second.spilled.most_bytes != 0;
  });
  if (log.spills == 0) {
    out += later ? "  nothing when it was allocated\n" : "  nothing\n";
  } else {
    out += fmt::format("  {}, {} in all\n", count_of(log.spills, "allocation", "allocations"),
                       human_bytes(log.spilled_bytes));
  }
  for (const auto& [ordinal, device] : log.devices) {
    if (device.spilled.most_bytes == 0) continue;
    out += fmt::format("  {}: {} at one time, at {}\n", device_name(ordinal),
                       human_bytes(device.spilled.most_bytes),
                       human_time(log.since_start(device.spilled.most_at_ns)));
  }
}

void write_troubles(std::string& out, const Summary& log, size_t top) {
  if (log.warning_count != 0) {
    out += fmt::format("\nwarnings: {}\n", log.warning_count);
    size_t shown = std::min(top, log.warnings.size());
    for (size_t i = 0; i < shown; i++) out += "  " + printable(log.warnings[i]) + "\n";
    if (log.warning_count > shown) out += fmt::format("  and {} more\n", log.warning_count - shown);
  }
  if (log.bad_line_count != 0) {
    out += fmt::format("\nlines that cannot be read: {}\n", log.bad_line_count);
    size_t shown = std::min(top, log.bad_lines.size());
    for (size_t i = 0; i < shown; i++)
      out += fmt::format("  line {}: {}\n", log.bad_lines[i].number, log.bad_lines[i].why);
    if (log.bad_line_count > shown)
      out += fmt::format("  and {} more\n", log.bad_line_count - shown);
  }
  std::string notes;
  auto note = [&notes](uint64_t count, const char* one, const char* many) {
    if (count != 0) notes += "  " + count_of(count, one, many) + "\n";
  };
  note(log.dropped, "record was dropped, the disk was too slow",
       "records were dropped, the disk was too slow");
  note(log.unmatched_frees, "free of an address whose allocation is not in the log",
       "frees of addresses whose allocation is not in the log");
  note(log.replaced, "allocation at an address that was still in use",
       "allocations at an address that was still in use");
  note(log.unknown_kinds, "record of a kind that this version does not know",
       "records of a kind that this version does not know");
  if (log.cut_short) notes += "  the last line is incomplete\n";
  if (!log.end_reason) {
    notes += "  there is no end record: the program was killed, or is still running\n";
    uint64_t last_seq = 0;
    const trace::OpenRequest* last = nullptr;
    for (const auto& [seq, request] : log.open_requests) {
      if (last != nullptr && seq < last_seq) continue;
      last = &request;
      last_seq = seq;
    }
    if (last != nullptr)
      notes +=
          fmt::format("  the last request without an answer: {} of {} on {}, at {}\n",
                      printable(log.sites.call_name(last->call)), human_bytes(last->asked_bytes),
                      device_name(last->device), human_time(log.since_start(last->at_ns)));
  }
  if (!notes.empty()) out += "\nnotes\n" + notes;
}

std::string per_second(uint64_t count, uint64_t time_ns) {
  if (time_ns == 0) return {};
  return fmt::format(" ({:.0f}/s)",
                     static_cast<double>(count) * 1e9 / static_cast<double>(time_ns));
}

// What records take is counted in microseconds.
std::string short_time(uint64_t ns) {
  if (ns < 1'000'000) return fmt::format("{} us", ns / 1000);
  if (ns < 1'000'000'000) return fmt::format("{:.1f} ms", static_cast<double>(ns) / 1e6);
  return human_time(ns);
}

// What flexlom itself took of the run: recording adds up over the program's threads.
void write_overhead(std::string& out, const Summary& log, uint64_t time_ns) {
  const uint64_t shut_ns = log.move_totals ? log.move_totals->shut_ns : 0;
  if (time_ns == 0 || (log.overhead_ns == 0 && shut_ns == 0)) return;
  out += "  overhead:";
  if (log.overhead_ns != 0)
    out += fmt::format(" about {} to record ({})", short_time(log.overhead_ns),
                       share(log.overhead_ns, time_ns));
  if (shut_ns != 0)
    out += fmt::format("{} {} with submissions held back ({})", log.overhead_ns != 0 ? "," : "",
                       short_time(shut_ns), share(shut_ns, time_ns));
  out += "\n";
}

void write_footer(std::string& out, const Summary& log) {
  const uint64_t time_ns = log.since_start(log.last_ns);
  uint64_t short_lived = 0;
  for (trace::SiteId id = 0; id < log.sites.size(); id++) short_lived += log.sites[id].short_lived;
  out += fmt::format("\nrun time {}\n", human_time(time_ns));
  out += fmt::format(
      "  {}{}, {}, {} short-lived\n", count_of(log.allocs, "allocation", "allocations"),
      per_second(log.allocs, time_ns), count_of(log.frees, "free", "frees"), short_lived);
  out +=
      fmt::format("  {} mapped, {} unmapped\n", count_of(log.maps, "frame", "frames"), log.unmaps);
  uint64_t promoted = 0, demoted = 0;
  for (const auto& [ordinal, device] : log.devices) {
    promoted += device.moves.promoted_bytes;
    demoted += device.moves.demoted_bytes;
  }
  if (promoted + demoted != 0)
    out += fmt::format("  {} moved to the device, {} to the host\n", human_bytes(promoted),
                       human_bytes(demoted));
  write_overhead(out, log, time_ns);
  out += fmt::format("  {} in the log, {}\n", count_of(log.records, "record", "records"),
                     human_bytes(log.log_bytes));
}

}  // namespace

std::string report_text(const std::string& name, const Summary& log, size_t top,
                        const Filter& filter) {
  std::string out;
  write_header(out, name, log);
  if (filter.active())
    out += fmt::format("  lists: {}; totals are of everything\n", filter.in_words());
  write_peaks(out, log);
  write_peak_holders(out, log, top, filter);
  write_live(out, log, top, filter);
  write_calls(out, log, top, filter);
  write_sizes(out, log, top, filter);
  write_spills(out, log);
  write_moves(out, log, top, filter);
  write_failures(out, log, top);
  write_findings(out, log, top);
  write_troubles(out, log, top);
  write_footer(out, log);
  return out;
}

}  // namespace flexlom::tool
