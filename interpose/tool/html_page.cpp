#include "interpose/tool/html_page.h"

#include <fmt/format.h>

#include <algorithm>

#include "html_assets.inc"  // made from interpose/tool/html/ when flexlom is built
#include "interpose/tool/html_encode.h"
#include "interpose/tool/html_icicle.h"
#include "interpose/tool/output.h"
#include "interpose/tool/report_text.h"

namespace flexlom::tool {
namespace {

using trace::Kind;
using trace::Record;
using trace::Summary;

constexpr size_t longest_mark = 300;
constexpr size_t longest_report = 512 << 10;
constexpr size_t report_top = 20;
// What all devices together may take of the file.
constexpr size_t most_samples_written = 24'000;
constexpr size_t most_grid_bytes = 1536 << 10;

std::string level_data(const Samples<LevelSample>& samples, uint64_t first_ns) {
  PackedNumbers out;
  LevelSample before;
  uint64_t at_before = 0;
  for (const LevelSample& sample : samples.all()) {
    const uint64_t at_ns = sample.at_ns > first_ns ? sample.at_ns - first_ns : 0;
    out.put_step(at_ns, at_before);
    out.put_step(sample.most.first_bytes, before.most.first_bytes);
    out.put_step(sample.most.second_bytes, before.most.second_bytes);
    out.put_step(sample.held_most, before.held_most);
    // Often the same: steps from the highest, not from the last one's.
    uint64_t from = sample.most.first_bytes;
    out.put_step(sample.last.first_bytes, from);
    from = sample.most.second_bytes;
    out.put_step(sample.last.second_bytes, from);
    from = sample.held_most;
    out.put_step(sample.held_last, from);
  }
  return fmt::format(R"({{"count":{},"interval":{},"values":"{}"}})", samples.all().size(),
                     samples.interval_ns(), out.base64());
}

std::string traffic_data(const Samples<TrafficSample>& samples, uint64_t first_ns) {
  PackedNumbers out;
  uint64_t before = 0;
  for (const TrafficSample& sample : samples.all()) {
    out.put_step(sample.at_ns > first_ns ? sample.at_ns - first_ns : 0, before);
    out.put(sample.promoted_bytes);
    out.put(sample.copied_bytes);
    out.put(sample.clean_bytes);
    out.put(sample.spilled_bytes);
    out.put(sample.spills);
    out.put(sample.given_up);
  }
  return fmt::format(R"({{"count":{},"interval":{},"values":"{}"}})", samples.all().size(),
                     samples.interval_ns(), out.base64());
}

std::string icicle_data(const Summary& log, int ordinal) {
  struct Sum {
    uint64_t bytes = 0, host_bytes = 0, count = 0;
  };
  std::map<trace::SiteId, Sum> sites;
  const auto use = log.devices.find(ordinal);
  if (use != log.devices.end()) {
    for (const trace::Allocation& a : use->second.at_peak.allocations(log.live, ordinal)) {
      Sum& sum = sites[a.site];
      sum.bytes += a.given_bytes;
      sum.host_bytes += a.host_bytes;
      sum.count++;
    }
  }
  Icicle icicle;
  for (const auto& [site, sum] : sites)
    icicle.add(frames_of(log, site), sum.bytes, sum.host_bytes, sum.count);
  return icicle.json();
}

std::string shortened(std::string_view text, size_t most) {
  return text.size() <= most ? std::string(text) : std::string(text.substr(0, most)) + " ...";
}

std::string failures_data(const Summary& log, size_t most) {
  std::string out;
  for (size_t i = 0; i < std::min(most, log.failures.size()); i++) {
    const trace::Failure& f = log.failures[i];
    std::string holders;
    for (size_t h = 0; h < std::min<size_t>(3, f.holders.size()); h++) {
      const trace::Holder& holder = f.holders[h];
      holders += fmt::format(
          "{}{} {}", h == 0 ? "" : ", ", human_bytes(holder.bytes),
          call_and_size(log.sites.call_of(holder.site), log.sites[holder.site].asked_bytes));
    }
    out += fmt::format(
        R"({}{{"at":{},"device":{},"asked":{},"call":{},"note":{},"in_use":{},"holders":{}}})",
        i == 0 ? "" : ",", log.since_start(f.at_ns), f.device, f.asked_bytes,
        html_json_string(printable(shortened(f.call, longest_mark))),
        html_json_string(printable(shortened(f.note, longest_mark))), f.in_use_bytes,
        html_json_string(holders));
  }
  return out;
}

// Puts `page` out with its @NAMES@ replaced.
class Template {
 public:
  void set(std::string_view name, std::string_view text) { parts_[std::string(name)] = text; }
  void put(OutputFile& out, std::string_view page) const {
    for (;;) {
      const size_t at = page.find('@');
      const size_t end = at == page.npos ? at : page.find('@', at + 1);
      if (end == page.npos) return out.put(page);
      const auto part = parts_.find(page.substr(at + 1, end - at - 1));
      if (part == parts_.end()) {  // just a character
        out.put(page.substr(0, at + 1));
        page.remove_prefix(at + 1);
        continue;
      }
      out.put(page.substr(0, at));
      out.put(part->second);
      page.remove_prefix(end + 1);
    }
  }

 private:
  std::map<std::string, std::string, std::less<>> parts_;
};

}  // namespace

HtmlPage::Device* HtmlPage::device(int ordinal) {
  auto found = devices_.find(ordinal);
  if (found != devices_.end()) return &found->second;
  if (devices_.size() >= most_devices) {
    devices_left_out_ = true;
    return nullptr;
  }
  return &devices_[ordinal];
}

void HtmlPage::record(const Record& record, const Summary& log) {
  const uint64_t at_ns = log.record_ns();
  if (record.kind == Kind::header) return;
  // Of a finding its first line.
  const bool told = record.kind == Kind::warning ||
                    (record.kind == Kind::guard && record.json().text("bug").has_value());
  if (told && warnings_.size() < most_marks)
    warnings_.push_back(
        {log.since_start(at_ns),
         printable(shortened(record.json().text("text").value_or(""), longest_mark))});
  if (!log.devices.contains(record.device)) return;
  follow_pages(record, log, at_ns);
  note_levels(record, log, at_ns);
}

void HtmlPage::follow_pages(const Record& record, const Summary& log, uint64_t at_ns) {
  if (log.released) {
    const trace::Allocation& gone = *log.released;
    if (Device* d = device(gone.device)) d->pages.use(at_ns, gone.address, gone.given_bytes, false);
  }
  Device* d = device(record.device);
  if (d == nullptr) return;
  count_traffic(record, *d, at_ns);
  if (!record.address) return;
  const std::optional<uint64_t> given = Record::possible(record.given_bytes);
  switch (record.kind) {
    case Kind::alloc:
      if (const auto asked = Record::possible(record.asked_bytes))
        d->pages.use(at_ns, *record.address, given.value_or(*asked), true);
      break;
    case Kind::map:
      if (given) d->pages.map(at_ns, *record.address, *given, record.note == "host", log.live);
      break;
    case Kind::unmap:
      d->pages.unmap(at_ns, *record.address);
      break;
    case Kind::promote:
    case Kind::demote:
      d->pages.move(at_ns, *record.address, record.kind == Kind::demote);
      break;
    default:
      break;
  }
}

void HtmlPage::count_traffic(const Record& record, Device& d, uint64_t at_ns) {
  const uint64_t given = Record::possible(record.given_bytes).value_or(0);
  if (record.kind == Kind::promote) {
    d.traffic.at(at_ns).promoted_bytes += given;
  } else if (record.kind == Kind::demote) {
    TrafficSample& sample = d.traffic.at(at_ns);
    (record.note == "clean" ? sample.clean_bytes : sample.copied_bytes) += given;
  } else if (record.kind == Kind::spill) {
    TrafficSample& sample = d.traffic.at(at_ns);
    sample.spills++;
    sample.spilled_bytes += Record::possible(record.extra_bytes).value_or(given);
  } else if (record.kind == Kind::gave_up) {
    d.traffic.at(at_ns).given_up++;
  }
}

void HtmlPage::note_levels(const Record& record, const Summary& log, uint64_t at_ns) {
  auto found = log.devices.find(record.device);
  Device* d = device(record.device);
  if (d == nullptr) return;
  const trace::DeviceUse& use = found->second;
  const uint64_t in_use = use.in_use.now_bytes;
  const uint64_t host = std::min(use.spilled.now_bytes, in_use);
  const Levels now{in_use - host, host};
  const uint64_t held = use.held.now_bytes;
  if (now != d->now || held != d->held_bytes) {
    d->levels.at(at_ns).note(now, held);
    in_use_bytes_ += now.sum() - d->now.sum();
    device_held_bytes_ += held - d->held_bytes;
    d->now = now;
    d->held_bytes = held;
  }
  const uint64_t all_held = device_held_bytes_ + log.host_held.now_bytes;
  if (in_use_bytes_ > peak_in_use_bytes_) {
    peak_in_use_bytes_ = in_use_bytes_;
    peak_held_bytes_ = all_held;
    peak_at_ns_ = at_ns;
  }
  const Levels total{in_use_bytes_, all_held - std::min(all_held, in_use_bytes_)};
  const bool same = !totals_.empty() && totals_.all().back().last == total &&
                    totals_.all().back().held_last == log.host_held.now_bytes;
  if (!same && all_held + in_use_bytes_ != 0)
    totals_.at(at_ns).note(total, log.host_held.now_bytes);
}

std::string HtmlPage::device_data(const Summary& log, int ordinal, Device& d) {
  const auto found = log.devices.find(ordinal);
  const trace::DeviceUse& use = found->second;
  const size_t share = std::max<size_t>(1, devices_.size());
  d.levels.thin_to(most_samples_written / share);
  d.traffic.thin_to(most_samples_written / share);
  return fmt::format(
      R"({{"ordinal":{},"name":{},"budget":{},"peak":{},"peak_at":{},"peak_host":{},)"
      "\n"
      R"("levels":{},)"
      "\n"
      R"("traffic":{},)"
      "\n"
      R"("map":{},)"
      "\n"
      R"("icicle":{}}})",
      ordinal, html_json_string(printable(shortened(use.name, longest_mark))), use.budget_bytes,
      use.in_use.most_bytes, log.since_start(use.in_use.most_at_ns),
      std::min(use.host_at_peak_bytes, use.in_use.most_bytes), level_data(d.levels, log.first_ns),
      traffic_data(d.traffic, log.first_ns),
      d.pages.json(log.first_ns, log.last_ns, most_grid_bytes / share), icicle_data(log, ordinal));
}

std::string HtmlPage::data(const Summary& log) {
  std::string devices;
  for (auto& [ordinal, d] : devices_) {
    if (d.levels.empty() && d.traffic.empty() && d.pages.empty()) continue;
    devices += (devices.empty() ? "" : ",\n") + device_data(log, ordinal, d);
  }
  std::string warnings;
  for (const Warning& warning : warnings_)
    warnings += fmt::format(R"({}{{"at":{},"text":{}}})", warnings.empty() ? "" : ",",
                            warning.at_ns, html_json_string(warning.text));
  return fmt::format(R"({{"duration":{},"host_budget":{},"devices_left_out":{},"devices":[{}],)"
                     "\n"
                     R"("totals":{},"peak":{{"in_use":{},"held":{},"at":{}}},)"
                     "\n"
                     R"("failure_count":{},"failures":[{}],"warning_count":{},"warnings":[{}]}})",
                     log.since_start(log.last_ns), log.host_budget_bytes,
                     devices_left_out_ ? "true" : "false", devices,
                     level_data(totals_, log.first_ns), peak_in_use_bytes_, peak_held_bytes_,
                     log.since_start(peak_at_ns_), log.failure_count,
                     failures_data(log, most_marks), log.warning_count, warnings);
}

void HtmlPage::finish(const Summary& log) {
  Template page;
  page.set("TITLE", html_text(html_title(log, options_)));
  page.set("HEAD", html_head(log, options_));
  page.set("REPORT", html_text(shortened(report_text(printable(options_.name), log, report_top),
                                         longest_report)));
  page.set("DATA", data(log));
  page.set("VERSION", FLEXLOM_VERSION);
  page.set("STYLE", html_style);
  page.set("SCRIPT", html_script);
  page.set("STYLE_HASH", html_style_hash);
  page.set("SCRIPT_HASH", html_script_hash);
  page.put(out_, html_page);
}

}  // namespace flexlom::tool
