#include "interpose/statistics.h"

#include <fmt/format.h>

namespace flexlom {

namespace {

constexpr size_t kReasons = static_cast<size_t>(pool::GaveUp::count_);

double gbps(uint64_t bytes, uint64_t time_ns) {
  return time_ns == 0 ? 0 : static_cast<double>(bytes) / static_cast<double>(time_ns);
}

}  // namespace

const char* word_of(pool::GaveUp why) noexcept {
  switch (why) {
    case pool::GaveUp::capture:
      return "capture";
    case pool::GaveUp::readers:
      return "readers";
    case pool::GaveUp::work:
      return "work";
    case pool::GaveUp::context:
      return "context";
    case pool::GaveUp::no_memory:
      return "memory";
    case pool::GaveUp::count_:
      break;
  }
  return "other";
}

std::string moves_text(const pool::ResidencyStats& s) {
  const pool::MoveStats& m = s.moves;
  std::string text = fmt::format(
      "promoted_bytes={} demoted_bytes={} demoted_copied_bytes={} clean_pages={} batches={} "
      "beside={} shut_us={} longest_shut_us={} begin_us={} drain_us={} compare_us={} place_us={} "
      "demote_us={} wait_us={} in_place={} in_place_bytes={} promoted_for={} measured={} "
      "arenas={}",
      m.promoted_bytes, m.demoted_bytes, m.demoted_copied_bytes, m.clean_pages, m.batches, m.beside,
      m.shut_ns / 1000, m.longest_shut_ns / 1000, m.begin_ns / 1000, m.drain_ns / 1000,
      m.compare_ns / 1000, m.place_ns / 1000, m.demote_ns / 1000, m.wait_ns / 1000, s.in_place,
      s.in_place_bytes, s.promoted_for, s.measured, s.arenas);
  for (size_t i = 0; i < kReasons; ++i)
    text += fmt::format(" given_up_{}={}", word_of(static_cast<pool::GaveUp>(i)), m.given_up[i]);
  // What crossed the link: a clean page leaves without a copy.
  text +=
      fmt::format(" promoted_pages={} demoted_pages={} promoted_gbps={:.2f} demoted_gbps={:.2f}",
                  m.promoted_pages, m.demoted_pages, gbps(m.promoted_bytes, m.shut_ns),
                  gbps(m.demoted_copied_bytes, m.shut_ns));
  return text;
}

std::string device_text(const pool::PoolStats& s, int device, uint64_t at_ms, uint64_t warnings) {
  return fmt::format(
      "device_peak_bytes={} host_peak_bytes={} spilled_bytes={} allocs={} frees={} ooms={} "
      "budget_bytes={} asked_peak_bytes={} device={} device_held_bytes={} host_held_bytes={} "
      "asked_bytes={} warnings={} at_ms={}",
      s.device_peak_bytes, s.host_peak_bytes, s.spilled_bytes, s.allocs, s.frees, s.ooms,
      s.device_budget_bytes, s.asked_peak_bytes, device, s.device_held_bytes, s.host_held_bytes,
      s.asked_bytes, warnings, at_ms);
}

trace::MoveTotals move_totals(const pool::ResidencyStats& s) {
  const pool::MoveStats& m = s.moves;
  trace::MoveTotals totals;
  totals.promoted_pages = m.promoted_pages;
  totals.promoted_bytes = m.promoted_bytes;
  totals.demoted_pages = m.demoted_pages;
  totals.demoted_bytes = m.demoted_bytes;
  totals.demoted_copied_bytes = m.demoted_copied_bytes;
  totals.clean_pages = m.clean_pages;
  for (const uint64_t times : m.given_up) totals.given_up += times;
  totals.batches = m.batches;
  totals.shut_ns = m.shut_ns;
  totals.longest_shut_ns = m.longest_shut_ns;
  totals.in_place = s.in_place;
  totals.in_place_bytes = s.in_place_bytes;
  return totals;
}

trace::Stats trace_stats(const pool::PoolStats& s, int device) {
  trace::Stats t;
  t.device = device;
  t.budget_bytes = s.device_budget_bytes;
  t.held_bytes = s.device_held_bytes;
  t.peak_held_bytes = s.device_peak_bytes;
  t.host_budget_bytes = s.host_budget_bytes;
  t.host_held_bytes = s.host_held_bytes;
  t.host_peak_held_bytes = s.host_peak_bytes;
  t.live_bytes = s.asked_bytes;
  t.live_count = s.live;
  t.peak_live_bytes = s.asked_peak_bytes;
  t.allocs = s.allocs;
  t.frees = s.frees;
  t.spilled_bytes = s.spilled_bytes;
  t.failures = s.ooms;
  return t;
}

}  // namespace flexlom
