#include <fmt/format.h>

#include <algorithm>

#include "interpose/tool/json_builder.h"
#include "interpose/tool/output.h"
#include "interpose/tool/report_text.h"

namespace flexlom::tool {
namespace {

using trace::Peak;
using trace::Summary;

std::string hex_string(uint64_t address) { return fmt::format("{:#x}", address); }

void add_peak(Json& json, const Summary& log, const std::string& name, const Peak& peak) {
  json.number("peak_" + name + "_bytes", peak.most_bytes);
  json.number("peak_" + name + "_at_ns", log.since_start(peak.most_at_ns));
}

std::string moves(const Summary& log, const trace::Moves& moves) {
  Json reasons('{');
  for (const auto& [why, count] : moves.given_up) reasons.number(why.empty() ? "?" : why, count);
  Json json('{');
  json.number("promoted_pages", moves.promoted_pages);
  json.number("promoted_bytes", moves.promoted_bytes);
  json.number("demoted_pages", moves.demoted_pages).number("demoted_bytes", moves.demoted_bytes);
  json.number("clean_pages", moves.clean_pages).number("clean_bytes", moves.clean_bytes);
  json.number("first_at_ns", log.since_start(moves.first_ns));
  json.number("last_at_ns", log.since_start(moves.last_ns));
  json.number("given_up_count", moves.given_up_count).raw("given_up", reasons.end());
  return json.end();
}

// The program's own count, null when the log has none.
std::string move_totals(const Summary& log) {
  if (!log.move_totals) return "null";
  const trace::MoveTotals& totals = *log.move_totals;
  Json json('{');
  json.number("promoted_pages", totals.promoted_pages);
  json.number("promoted_bytes", totals.promoted_bytes);
  json.number("demoted_pages", totals.demoted_pages).number("demoted_bytes", totals.demoted_bytes);
  json.number("demoted_copied_bytes", totals.demoted_copied_bytes);
  json.number("clean_pages", totals.clean_pages).number("given_up", totals.given_up);
  json.number("batches", totals.batches).number("shut_ns", totals.shut_ns);
  json.number("longest_shut_ns", totals.longest_shut_ns);
  json.number("in_place", totals.in_place).number("in_place_bytes", totals.in_place_bytes);
  return json.end();
}

std::string findings(const Summary& log, size_t top) {
  Json list('[');
  for (size_t i = 0; i < std::min(top, log.findings.size()); i++) {
    const trace::Finding& finding = log.findings[i];
    Json lines('[');
    for (const auto& [text, frame] : finding.lines) {
      Json line('{');
      line.text("text", text);
      if (frame != 0) add_stack(line, log, frame);
      lines.raw("", line.end());
    }
    Json json('{');
    json.number("at_ns", log.since_start(finding.at_ns)).text("bug", finding.bug);
    json.raw("lines", lines.end());
    list.raw("", json.end());
  }
  return list.end();
}

std::string live(const Summary& log, size_t top, const Filter& filter) {
  Json list('[');
  for (const trace::Allocation& a : biggest_live(log, top, filter)) {
    Json json('{');
    json.raw("device", std::to_string(a.device)).text("address", hex_string(a.address));
    json.number("asked_bytes", a.asked_bytes).number("given_bytes", a.given_bytes);
    json.number("host_bytes", a.host_bytes)
        .number("seq", a.seq)
        .text("call", log.sites.call_of(a.site));
    json.number("at_ns", log.since_start(a.at_ns));
    add_stack(json, log, log.sites[a.site].frame);
    list.raw("", json.end());
  }
  return list.end();
}

std::string sizes(const Summary& log, size_t top, const Filter& filter) {
  Json list('[');
  const auto all = sizes_of(log, filter);
  for (size_t i = 0; i < std::min(top, all.size()); i++) {
    const auto& [bytes, use] = all[i];
    Json json('{');
    json.number("asked_bytes", bytes).number("count", use.count);
    json.number("spilled_count", use.spilled_count);
    list.raw("", json.end());
  }
  return list.end();
}

// Of groups at one moment: what they held.
std::string holders(const Summary& log, const std::vector<Group>& groups, size_t top) {
  Json list('[');
  for (const Group& group : top_groups(groups, top, [](const Group& g) { return g.bytes; })) {
    Json json('{');
    json.raw("device", std::to_string(group.device)).text("call", group.call);
    json.number("asked_bytes", group.asked_bytes).number("count", group.count);
    json.number("bytes", group.bytes).number("host_bytes", group.host_bytes);
    json.text("lowest_address", hex_string(group.lowest)).text("end", hex_string(group.end));
    add_stack(json, log, group.frame);
    list.raw("", json.end());
  }
  return list.end();
}

std::string devices(const Summary& log, size_t top, const Filter& filter) {
  Json list('[');
  for (const auto& [ordinal, device] : log.devices) {
    Json json('{');
    json.raw("ordinal", std::to_string(ordinal)).text("name", device.name);
    json.text("uuid", device.uuid).number("total_bytes", device.total_bytes);
    json.number("budget_bytes", device.budget_bytes);
    add_peak(json, log, "in_use", device.in_use);
    json.number("peak_in_use_host_bytes",
                std::min(device.host_at_peak_bytes, device.in_use.most_bytes));
    add_peak(json, log, "spilled", device.spilled);
    add_peak(json, log, "held", device.held);
    json.raw("moves", moves(log, device.moves));
    json.raw("held_at_peak", holders(log, peak_groups(log, ordinal, filter), top));
    list.raw("", json.end());
  }
  return list.end();
}

// Of groups over the whole log: what they did.
std::string calls(const Summary& log, const std::vector<Group>& groups, size_t top,
                  uint64_t (*value)(const Group& group)) {
  Json list('[');
  for (const Group& group : top_groups(groups, top, value)) {
    Json json('{');
    json.raw("device", std::to_string(group.device)).text("call", group.call);
    json.number("asked_bytes", group.asked_bytes).number("count", group.count);
    json.number("bytes", group.bytes).number("freed", group.freed);
    json.number("short_lived", group.short_lived).number("lifetime_ns", group.lifetime_ns);
    json.number("spilled_count", group.spilled_count).number("spilled_bytes", group.spilled_bytes);
    json.number("promoted_bytes", group.promoted_bytes);
    json.number("demoted_bytes", group.demoted_bytes);
    add_stack(json, log, group.frame);
    list.raw("", json.end());
  }
  return list.end();
}

std::string moved(const Summary& log, size_t top, const Filter& filter) {
  Json list('[');
  for (const trace::MovedAllocation& moved : moved_most(log, top, filter)) {
    const trace::Allocation& a = moved.allocation;
    Json json('{');
    json.raw("device", std::to_string(a.device)).text("address", hex_string(a.address));
    json.number("asked_bytes", a.asked_bytes).number("given_bytes", a.given_bytes);
    json.text("call", log.sites.call_of(a.site)).number("at_ns", log.since_start(a.at_ns));
    json.number("promoted_pages", moved.promoted_pages);
    json.number("promoted_bytes", moved.promoted_bytes);
    json.number("demoted_pages", moved.demoted_pages);
    json.number("demoted_bytes", moved.demoted_bytes);
    json.raw("freed", moved.freed ? "true" : "false");
    list.raw("", json.end());
  }
  return list.end();
}

std::string failure_holders(const Summary& log, const trace::Failure& failure, size_t top) {
  Json list('[');
  for (size_t i = 0; i < std::min(top, failure.holders.size()); i++) {
    const trace::Holder& holder = failure.holders[i];
    Json json('{');
    json.text("call", log.sites.call_of(holder.site));
    json.number("asked_bytes", log.sites[holder.site].asked_bytes);
    json.number("count", holder.count).number("bytes", holder.bytes);
    add_stack(json, log, log.sites[holder.site].frame);
    list.raw("", json.end());
  }
  return list.end();
}

std::string failures(const Summary& log, size_t top) {
  Json list('[');
  for (size_t i = 0; i < std::min(top, log.failures.size()); i++) {
    const trace::Failure& f = log.failures[i];
    Json json('{');
    json.number("at_ns", log.since_start(f.at_ns)).raw("device", std::to_string(f.device));
    json.text("call", f.call).number("asked_bytes", f.asked_bytes).number("seq", f.seq);
    json.raw("code", std::to_string(f.code)).text("note", f.note);
    json.number("in_use_bytes", f.in_use_bytes).number("spilled_bytes", f.spilled_bytes);
    json.number("device_held_bytes", f.device_held_bytes);
    json.number("host_held_bytes", f.host_held_bytes);
    add_stack(json, log, f.frame);
    json.raw("holders", failure_holders(log, f, top));
    list.raw("", json.end());
  }
  return list.end();
}

std::string bad_lines(const Summary& log, size_t top) {
  Json list('[');
  for (size_t i = 0; i < std::min(top, log.bad_lines.size()); i++) {
    Json json('{');
    json.number("line", log.bad_lines[i].number).text("why", log.bad_lines[i].why);
    list.raw("", json.end());
  }
  return list.end();
}

}  // namespace

void add_stack(Json& json, const Summary& log, trace::FrameId frame) {
  if (log.frames.size() == 0) return;
  Json list('[');
  for (const trace::FrameLabel& label : log.frames.stack(frame)) {
    Json one('{');
    one.text("function", label.function);
    if (!label.file.empty()) one.text("file", label.file);
    if (label.line != 0) one.number("line", label.line);
    list.raw("", one.end());
  }
  json.raw("stack", list.end());
}

std::string report_json(const std::string& name, const Summary& log, size_t top,
                        const Filter& filter) {
  uint64_t live_bytes = 0;
  for (const auto& [address, allocation] : log.live) live_bytes += allocation.given_bytes;

  Json json('{');
  json.text("file", name).number("format", static_cast<uint64_t>(log.format));
  json.text("version", log.version).raw("driver_version", std::to_string(log.driver_version));
  json.number("pid", log.pid).text("host", log.host).text("command", log.command);
  json.number("wall_ns", log.wall_ns).number("run_time_ns", log.since_start(log.last_ns));
  json.number("host_budget_bytes", log.host_budget_bytes);
  add_peak(json, log, "host_held", log.host_held);
  json.number("host_frames_peak_bytes", log.host_frames_peak_bytes);
  json.raw("devices", devices(log, top, filter)).raw("move_totals", move_totals(log));
  json.number("live_count", log.live.size()).number("live_bytes", live_bytes);
  const std::vector<Group> all = all_groups(log, filter);
  uint64_t short_lived = 0;
  for (trace::SiteId id = 0; id < log.sites.size(); id++) short_lived += log.sites[id].short_lived;
  json.raw("live", live(log, top, filter))
      .raw("live_groups", holders(log, live_groups(log, filter), top));
  json.raw("sizes", sizes(log, top, filter));
  json.raw("most_calls", calls(log, all, top, [](const Group& g) { return g.count; }));
  json.number("short_lived_count", short_lived);
  json.raw("short_lived", calls(log, all, top, [](const Group& g) { return g.short_lived; }));
  json.raw("moved_most", moved(log, top, filter));
  json.number("spills", log.spills).number("spilled_bytes", log.spilled_bytes);
  json.number("failure_count", log.failure_count).raw("failures", failures(log, top));
  json.number("finding_count", log.finding_count).raw("findings", findings(log, top));
  json.number("warning_count", log.warning_count);
  json.number("allocs", log.allocs).number("frees", log.frees);
  json.number("maps", log.maps).number("unmaps", log.unmaps);
  json.number("dropped", log.dropped).number("unmatched_frees", log.unmatched_frees);
  json.number("replaced", log.replaced).number("unknown_kinds", log.unknown_kinds);
  json.number("bad_line_count", log.bad_line_count).raw("bad_lines", bad_lines(log, top));
  json.number("records", log.records).number("log_bytes", log.log_bytes);
  json.number("overhead_ns", log.overhead_ns);
  json.raw("cut_short", log.cut_short ? "true" : "false");
  json.raw("end_reason", log.end_reason ? json_string(*log.end_reason) : "null");
  return json.end() + "\n";
}

}  // namespace flexlom::tool
