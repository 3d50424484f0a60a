// The part of a report that tells what moved between device and host, and what did not.
#include <fmt/format.h>

#include "interpose/tool/output.h"
#include "interpose/tool/report_text.h"

namespace flexlom::tool {

using trace::Summary;

namespace {

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

// The allocations whose pages went back and forth most: what a bigger budget would help.
std::string moved_allocations(const Summary& log, size_t top, const Filter& filter) {
  std::string text;
  for (const trace::MovedAllocation& moved : moved_most(log, top, filter)) {
    const trace::Allocation& a = moved.allocation;
    text +=
        fmt::format("  {:>10}  {}  {:#x}-{:#x}  {}, up {}, down {}{}\n", human_bytes(a.given_bytes),
                    device_name(a.device), a.address, a.address + a.given_bytes,
                    printable(log.sites.call_of(a.site)), human_bytes(moved.promoted_bytes),
                    human_bytes(moved.demoted_bytes), moved.freed ? ", freed" : "");
  }
  return text.empty() ? text : " moved most, by allocation\n" + text;
}

}  // namespace

// Left out of the report when nothing moved and nothing had to: most programs fit.
void write_moves(std::string& out, const Summary& log, size_t top, const Filter& filter) {
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
  text += moved_allocations(log, top, filter);
  if (!text.empty()) out += "\nmoved between device and host\n" + text;
}

}  // namespace flexlom::tool
