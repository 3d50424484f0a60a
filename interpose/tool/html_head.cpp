// The head of the page is plain HTML, so that it is there without a script as well.
#include <fmt/format.h>

#include <algorithm>
#include <ctime>

#include "interpose/tool/html_encode.h"
#include "interpose/tool/html_page.h"
#include "interpose/tool/output.h"
#include "interpose/tool/report_text.h"

namespace flexlom::tool {
namespace {

using trace::Summary;

constexpr size_t longest_command = 1000;
constexpr size_t longest_name = 200;
constexpr size_t most_cards = 8;  // of devices

std::string shown(std::string_view text, size_t most) {
  std::string out = printable(text.substr(0, most));
  if (text.size() > most) out += " ...";
  return html_text(out);
}

std::string card(std::string_view name, const std::string& value, const std::string& detail,
                 std::string_view kind = "") {
  return fmt::format(
      "<div class=\"card{}{}\"><dt>{}</dt><dd>{}</dd><dd class=\"detail\">{}</dd></div>\n",
      kind.empty() ? "" : " ", kind, name, html_text(value), html_text(detail));
}

std::string started(uint64_t wall_ns) {
  const time_t seconds = static_cast<time_t>(wall_ns / 1'000'000'000);
  tm parts{};
  char text[64];
  if (wall_ns == 0 || gmtime_r(&seconds, &parts) == nullptr ||
      strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S UTC", &parts) == 0)
    return {};
  return text;
}

void device_cards(std::string& out, const Summary& log) {
  const bool several = std::count_if(log.devices.begin(), log.devices.end(), [](const auto& d) {
                         return d.second.in_use.most_bytes != 0;
                       }) > 1;
  size_t cards = 0;
  for (const auto& [ordinal, device] : log.devices) {
    if (device.in_use.most_bytes + device.held.most_bytes == 0 || cards++ == most_cards) continue;
    const std::string of = several ? fmt::format(", device {}", ordinal) : "";
    const uint64_t host = std::min(device.host_at_peak_bytes, device.in_use.most_bytes);
    out += card("peak in use" + of, human_bytes(device.in_use.most_bytes),
                fmt::format("at {}: {} on the device, {} on the host",
                            human_time(log.since_start(device.in_use.most_at_ns)),
                            human_bytes(device.in_use.most_bytes - host), human_bytes(host)));
    if (device.held.most_bytes != 0)
      out += card("device memory held" + of, human_bytes(device.held.most_bytes),
                  device.budget_bytes == 0
                      ? std::string("at most")
                      : fmt::format("at most; the budget is {}", human_bytes(device.budget_bytes)));
  }
}

void process_cards(std::string& out, const Summary& log) {
  if (log.host_held.most_bytes != 0)
    out += card("host memory held", human_bytes(log.host_held.most_bytes),
                log.host_budget_bytes == 0
                    ? std::string("at most")
                    : fmt::format("at most; the budget is {}", human_bytes(log.host_budget_bytes)));
  uint64_t promoted = 0, demoted = 0, clean = 0;
  for (const auto& [ordinal, device] : log.devices) {
    promoted += device.moves.promoted_bytes;
    demoted += device.moves.demoted_bytes;
    clean += device.moves.clean_bytes;
  }
  if (promoted + demoted != 0)
    out +=
        card("moved", human_bytes(promoted + demoted),
             fmt::format(
                 "{} to the device, {} to the host{}", human_bytes(promoted), human_bytes(demoted),
                 clean == 0 ? "" : fmt::format(", {} of it without a copy", human_bytes(clean))));
  out += card(
      "failed requests", fmt::format("{}", log.failure_count),
      log.failure_count == 0
          ? std::string("nothing ran out of memory")
          : fmt::format(
                "the first at {}",
                human_time(log.failures.empty() ? 0 : log.since_start(log.failures.front().at_ns))),
      log.failure_count == 0 ? "" : "bad");
  out += card("run time", human_time(log.since_start(log.last_ns)),
              fmt::format("{}, {}", count_of(log.allocs, "allocation", "allocations"),
                          count_of(log.frees, "free", "frees")));
}

// What makes the pictures less than the truth.
void notes(std::string& out, const Summary& log) {
  std::string list;
  auto note = [&list](const std::string& text) { list += "<li>" + html_text(text) + "</li>\n"; };
  if (log.bad_line_count != 0)
    note(fmt::format("{} of the log could not be read and {} left out; the first is line {}: {}",
                     count_of(log.bad_line_count, "line", "lines"),
                     log.bad_line_count == 1 ? "is" : "are", log.bad_lines.front().number,
                     log.bad_lines.front().why));
  if (log.dropped != 0)
    note(count_of(log.dropped, "record was", "records were") +
         " dropped when the log was written, because the disk was too slow");
  if (log.cut_short) note("the last line of the log is incomplete");
  if (!log.end_reason)
    note("the log has no end record: the program was killed, or is still running");
  if (log.format == 0) note("the log has no header: who wrote it, and when, is not known");
  if (!list.empty()) out += "<ul class=\"notes\">\n" + list + "</ul>\n";
}

}  // namespace

std::string html_title(const Summary& log, const HtmlOptions& options) {
  if (!options.title.empty()) return printable(options.title);
  std::string title = printable(log.command.substr(0, 80));
  return title.empty() ? printable(options.name) : title;
}

std::string html_head(const Summary& log, const HtmlOptions& options) {
  std::string out;
  if (log.format != 0) {
    out += "<p class=\"origin\">";
    if (!log.command.empty() && printable(log.command) != html_title(log, options))
      out += "<code>" + shown(log.command, longest_command) + "</code><br>\n";
    out +=
        fmt::format("pid {} on {}, driver {}, flexlom {}", log.pid, shown(log.host, longest_name),
                    driver_release(log.driver_version), shown(log.version, longest_name));
    if (const std::string when = started(log.wall_ns); !when.empty()) out += ", started " + when;
    std::vector<std::string> names;
    for (const auto& [ordinal, device] : log.devices) {
      if (device.total_bytes == 0 || names.size() == most_cards) continue;
      names.push_back(fmt::format("device {}: {}, {}", ordinal, shown(device.name, longest_name),
                                  human_bytes(device.total_bytes)));
    }
    if (!names.empty()) out += fmt::format("<br>\n{}", fmt::join(names, "; "));
    out += "</p>\n";
  }
  out += "<dl class=\"cards\">\n";
  device_cards(out, log);
  process_cards(out, log);
  out += "</dl>\n";
  notes(out, log);
  return out;
}

}  // namespace flexlom::tool
