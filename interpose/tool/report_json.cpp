#include <fmt/format.h>

#include <algorithm>

#include "interpose/tool/output.h"
#include "interpose/tool/report_text.h"

namespace flexlom::tool {
namespace {

using trace::Peak;
using trace::Summary;

// Collects the members of one JSON object or the elements of one array.
class Json {
 public:
  explicit Json(char open) : text_(1, open) {}

  Json& raw(std::string_view name, std::string_view json) {
    if (text_.size() > 1) text_ += ',';
    if (!name.empty()) text_ += json_string(name) + ":";
    text_ += json;
    return *this;
  }
  Json& number(std::string_view name, uint64_t value) { return raw(name, std::to_string(value)); }
  Json& text(std::string_view name, std::string_view value) {
    return raw(name, json_string(value));
  }
  std::string end() const { return text_ + (text_[0] == '{' ? '}' : ']'); }

 private:
  std::string text_;
};

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

std::string devices(const Summary& log) {
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
    list.raw("", json.end());
  }
  return list.end();
}

std::string live(const Summary& log, size_t top) {
  Json list('[');
  for (const trace::Allocation& a : biggest_live(log, top)) {
    Json json('{');
    json.raw("device", std::to_string(a.device)).text("address", hex_string(a.address));
    json.number("asked_bytes", a.asked_bytes).number("given_bytes", a.given_bytes);
    json.number("host_bytes", a.host_bytes).number("seq", a.seq).text("call", a.call);
    json.number("at_ns", log.since_start(a.at_ns));
    list.raw("", json.end());
  }
  return list.end();
}

std::string sizes(const Summary& log, size_t top) {
  Json list('[');
  for (const auto& [bytes, use] : biggest_sizes(log, top)) {
    Json json('{');
    json.number("asked_bytes", bytes).number("count", use.count);
    json.number("spilled_count", use.spilled_count);
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

std::string report_json(const std::string& name, const Summary& log, size_t top) {
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
  json.raw("devices", devices(log)).raw("move_totals", move_totals(log));
  json.number("live_count", log.live.size()).number("live_bytes", live_bytes);
  json.raw("live", live(log, top)).raw("sizes", sizes(log, top));
  json.number("spills", log.spills).number("spilled_bytes", log.spilled_bytes);
  json.number("failure_count", log.failure_count).raw("failures", failures(log, top));
  json.number("warning_count", log.warning_count);
  json.number("allocs", log.allocs).number("frees", log.frees);
  json.number("maps", log.maps).number("unmaps", log.unmaps);
  json.number("dropped", log.dropped).number("unmatched_frees", log.unmatched_frees);
  json.number("replaced", log.replaced).number("unknown_kinds", log.unknown_kinds);
  json.number("bad_line_count", log.bad_line_count).raw("bad_lines", bad_lines(log, top));
  json.raw("cut_short", log.cut_short ? "true" : "false");
  json.raw("end_reason", log.end_reason ? json_string(*log.end_reason) : "null");
  return json.end() + "\n";
}

}  // namespace flexlom::tool
