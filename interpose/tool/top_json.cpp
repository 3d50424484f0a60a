// flexlom top --json: everything that the pages hold. The manual page describes it.
#include <fmt/format.h>

#include "interpose/tool/json_builder.h"
#include "interpose/tool/top.h"

namespace flexlom::tool::top {
namespace {

constexpr uint64_t kJsonFormat = 1;

std::string uuid_text(const uint8_t (&bytes)[16]) {
  std::string text;
  for (size_t i = 0; i < sizeof bytes; ++i) {
    if (i == 4 || i == 6 || i == 8 || i == 10) text += '-';
    text += fmt::format("{:02x}", bytes[i]);
  }
  return text;
}

std::string seconds(uint64_t ns) { return fmt::format("{:.3f}", static_cast<double>(ns) / 1e9); }

std::string device_json(const live::Device& d) {
  return Json('{')
      .number("device", d.ordinal)
      .text("uuid", uuid_text(d.uuid))
      .text("name", d.name)
      .number("budget_bytes", d.budget_bytes)
      .number("held_bytes", d.held_bytes)
      .number("peak_bytes", d.peak_bytes)
      .number("asked_bytes", d.asked_bytes)
      .number("live", d.live)
      .number("allocs", d.allocs)
      .number("frees", d.frees)
      .number("failures", d.failures)
      .end();
}

std::string moves_json(const live::Sample& sample) {
  Json moves('{');
  moves.number("promoted_bytes", sample.now.promoted_bytes)
      .number("demoted_bytes", sample.now.demoted_bytes)
      .number("demoted_copied_bytes", sample.now.demoted_copied_bytes)
      .number("in_place_bytes", sample.now.in_place_bytes);
  if (const auto rates = rates_of(sample)) {
    const auto rate = [](double value) { return fmt::format("{:.0f}", value); };
    moves.raw("per_second", Json('{')
                                .raw("window_s", fmt::format("{:.3f}", rates->window_s))
                                .raw("promoted_bytes", rate(rates->promoted))
                                .raw("demoted_bytes", rate(rates->demoted))
                                .raw("demoted_copied_bytes", rate(rates->demoted_copied))
                                .raw("in_place_bytes", rate(rates->in_place))
                                .end());
  }
  return moves.end();
}

std::string process_json(const live::Process& process, uint64_t now_ns) {
  Json out('{');
  out.number("pid", static_cast<uint64_t>(process.pid))
      .text("command", process.command)
      .text("state", std::string(1, process.state))
      .text("version", process.reading.head.version);
  if (!process.reading.sample) return out.text("problem", process.reading.problem).end();
  const live::Sample& sample = *process.reading.sample;
  const auto ago = [&](uint64_t then_ns) { return now_ns > then_ns ? now_ns - then_ns : 0; };
  Json devices('[');
  for (size_t i = 0; i < device_count(sample); ++i) devices.raw("", device_json(sample.devices[i]));
  out.raw("age_s", seconds(ago(sample.active_since_ns)))
      .raw("updated_s_ago", seconds(ago(sample.now.at_ns)))
      .raw("devices", devices.end())
      .raw("host", Json('{')
                       .number("budget_bytes", sample.host_budget_bytes)
                       .number("held_bytes", sample.host_held_bytes)
                       .number("peak_bytes", sample.host_peak_bytes)
                       .end())
      .raw("moves", moves_json(sample));
  if (sample.largest.bytes > 0) {
    const live::Largest& l = sample.largest;
    out.raw("largest", Json('{')
                           .number("device", l.device)
                           .text("address", fmt::format("{:#x}", l.address))
                           .number("bytes", l.bytes)
                           .number("host_bytes", l.host_bytes)
                           .text("call", l.call)
                           .end());
  }
  return out.end();
}

}  // namespace

std::string json(const Look& look) {
  Json processes('[');
  for (const live::Process& process : look.processes)
    processes.raw("", process_json(process, look.now_ns));
  return Json('{')
      .number("format", kJsonFormat)
      .raw("clock_s", fmt::format("{}", look.clock_s))
      .number("user", look.user)
      .raw("processes", processes.end())
      .end();
}

}  // namespace flexlom::tool::top
