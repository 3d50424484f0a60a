#include "interpose/tool/report_text.h"

#include <fmt/format.h>

#include <algorithm>

#include "interpose/tool/output.h"

namespace flexlom::tool {

using trace::Allocation;
using trace::Failure;
using trace::SizeUse;
using trace::Summary;

std::vector<Allocation> biggest_live(const Summary& summary, size_t top) {
  std::vector<Allocation> live;
  for (const auto& [address, allocation] : summary.live) live.push_back(allocation);
  std::sort(live.begin(), live.end(), [](const Allocation& a, const Allocation& b) {
    if (a.given_bytes != b.given_bytes) return a.given_bytes > b.given_bytes;
    return a.at_ns != b.at_ns ? a.at_ns < b.at_ns : a.address < b.address;
  });
  if (live.size() > top) live.resize(top);
  return live;
}

std::vector<std::pair<uint64_t, SizeUse>> biggest_sizes(const Summary& summary, size_t top) {
  std::vector<std::pair<uint64_t, SizeUse>> sizes(summary.sizes.begin(), summary.sizes.end());
  // In floating point, because a hostile log may ask for 2^64 bytes a million times.
  auto weight = [](const auto& size) {
    return static_cast<double>(size.first) * static_cast<double>(size.second.count);
  };
  std::sort(sizes.begin(), sizes.end(), [&](const auto& a, const auto& b) {
    return weight(a) != weight(b) ? weight(a) > weight(b) : a.first > b.first;
  });
  if (sizes.size() > top) sizes.resize(top);
  return sizes;
}

namespace {

std::string device_name(int device) {
  return device < 0 ? std::string("no device") : fmt::format("device {}", device);
}

std::string count_of(uint64_t count, std::string_view one, std::string_view many) {
  return fmt::format("{} {}", count, count == 1 ? one : many);
}

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
    out += fmt::format("  {}: {}, {}, budget {}\n", device_name(ordinal), printable(device.name),
                       human_bytes(device.total_bytes), human_bytes(device.budget_bytes));
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

void write_live(std::string& out, const Summary& log, size_t top) {
  uint64_t bytes = 0;
  for (const auto& [address, allocation] : log.live) bytes += allocation.given_bytes;
  out += fmt::format("\nlive at the end: {}, {}\n",
                     count_of(log.live.size(), "allocation", "allocations"), human_bytes(bytes));
  for (const Allocation& a : biggest_live(log, top)) {
    out += fmt::format("  {:>10}  {}  {:#x}  since {}  {}", human_bytes(a.given_bytes),
                       device_name(a.device), a.address, human_time(log.since_start(a.at_ns)),
                       printable(a.call));
    if (a.host_bytes != 0) out += fmt::format("  ({} on the host)", human_bytes(a.host_bytes));
    out += "\n";
  }
  if (log.live.size() > top) out += fmt::format("  and {} more\n", log.live.size() - top);
}

void write_sizes(std::string& out, const Summary& log, size_t top) {
  out += "\nbiggest sizes (bytes asked for, all requests together)\n";
  for (const auto& [bytes, use] : biggest_sizes(log, top)) {
    out += fmt::format("  {:>10}  x {}", human_bytes(bytes), use.count);
    if (use.spilled_count != 0) out += fmt::format("  ({} spilled)", use.spilled_count);
    out += "\n";
  }
  if (log.sizes.empty()) out += "  none\n";
  if (log.sizes.size() > top)
    out += fmt::format("  and {}\n", count_of(log.sizes.size() - top, "other size", "other sizes"));
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

std::string reason_in_words(const std::string& why) {
  if (why == "capture") return "a stream capture was open";
  if (why == "readers") return "a thread stayed inside a call";
  if (why == "work") return "work kept running";
  if (why == "context") return "the context had no stream for it";
  if (why == "memory") return "no frame to move to";
  return why.empty() ? "no reason given" : printable(why);
}

std::string rate(uint64_t bytes, uint64_t time_ns) {
  return fmt::format("{:.1f} GB/s", static_cast<double>(bytes) / static_cast<double>(time_ns));
}

void write_device_moves(std::string& out, const Summary& log, int ordinal,
                        const trace::Moves& moves) {
  const std::string name = device_name(ordinal);
  if (moves.promoted_pages != 0)
    out += fmt::format("  {}: {} promoted to the device, {}\n", name,
                       human_bytes(moves.promoted_bytes),
                       count_of(moves.promoted_pages, "page", "pages"));
  if (moves.demoted_pages != 0)
    out += fmt::format(
        "  {}: {} demoted to the host, {}{}\n", name, human_bytes(moves.demoted_bytes),
        count_of(moves.demoted_pages, "page", "pages"),
        moves.clean_pages != 0 ? fmt::format(", {} of them unchanged ({} not copied)",
                                             moves.clean_pages, human_bytes(moves.clean_bytes))
                               : "");
  if (moves.given_up_count != 0) {
    out +=
        fmt::format("  {}: {} given up", name, count_of(moves.given_up_count, "batch", "batches"));
    const char* before = ": ";
    for (const auto& [why, count] : moves.given_up) {
      out += fmt::format("{}{} ({})", before, reason_in_words(why), count);
      before = ", ";
    }
    out += "\n";
  }
  out += fmt::format("  {}: first at {}, last at {}\n", name,
                     human_time(log.since_start(moves.first_ns)),
                     human_time(log.since_start(moves.last_ns)));
}

// Left out of the report when nothing moved and nothing had to: most programs fit.
void write_moves(std::string& out, const Summary& log) {
  std::string text;
  for (const auto& [ordinal, device] : log.devices) {
    if (device.moves.any()) write_device_moves(text, log, ordinal, device.moves);
  }
  if (text.empty() && log.move_totals) text = "  nothing\n";
  if (log.move_totals) {
    const trace::MoveTotals& totals = *log.move_totals;
    if (totals.batches != 0) {
      text += fmt::format("  submissions held back {}, {} in all, {} at most",
                          count_of(totals.batches, "time", "times"), human_time(totals.shut_ns),
                          human_time(totals.longest_shut_ns));
      if (totals.shut_ns != 0)
        text +=
            fmt::format("; meanwhile {} up, {} down", rate(totals.promoted_bytes, totals.shut_ns),
                        rate(totals.demoted_copied_bytes, totals.shut_ns));
      text += "\n";
    }
    if (totals.in_place != 0)
      text += fmt::format("  {} used spilled memory in place, at most {} of it\n",
                          count_of(totals.in_place, "submission", "submissions"),
                          human_bytes(totals.in_place_bytes));
  }
  if (!text.empty()) out += "\nmoved between device and host\n" + text;
}

void write_failures(std::string& out, const Summary& log, size_t top) {
  out += fmt::format("\nfailed requests: {}\n", log.failure_count);
  size_t shown = std::min(top, log.failures.size());
  for (size_t i = 0; i < shown; i++) {
    const Failure& f = log.failures[i];
    out += fmt::format(
        "  at {}  {} asked for {} on {}: error {}{}{}\n", human_time(log.since_start(f.at_ns)),
        f.call.empty() ? "a call" : printable(f.call), human_bytes(f.asked_bytes),
        device_name(f.device), f.code, f.note.empty() ? "" : ", ", printable(f.note));
  }
  if (log.failure_count > shown) out += fmt::format("  and {} more\n", log.failure_count - shown);
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
    const Failure* last = nullptr;
    for (const auto& [seq, request] : log.open_requests) {
      if (last == nullptr || seq > last->seq) last = &request;
    }
    if (last != nullptr)
      notes += fmt::format("  the last request without an answer: {} of {} on {}, at {}\n",
                           printable(last->call), human_bytes(last->asked_bytes),
                           device_name(last->device), human_time(log.since_start(last->at_ns)));
  }
  if (!notes.empty()) out += "\nnotes\n" + notes;
}

}  // namespace

std::string report_text(const std::string& name, const Summary& log, size_t top) {
  std::string out;
  write_header(out, name, log);
  write_peaks(out, log);
  write_live(out, log, top);
  write_sizes(out, log, top);
  write_spills(out, log);
  write_moves(out, log);
  write_failures(out, log, top);
  write_troubles(out, log, top);
  out += fmt::format(
      "\nrun time {}, {}, {}, {} mapped, {} unmapped\n", human_time(log.since_start(log.last_ns)),
      count_of(log.allocs, "allocation", "allocations"), count_of(log.frees, "free", "frees"),
      count_of(log.maps, "frame", "frames"), log.unmaps);
  return out;
}

}  // namespace flexlom::tool
