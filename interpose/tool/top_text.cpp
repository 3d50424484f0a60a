// flexlom top: the lines of one look.
#include <fmt/format.h>
#include <string.h>
#include <time.h>

#include <algorithm>

#include "interpose/tool/output.h"
#include "interpose/tool/top.h"
#include "interpose/trace/json_text.h"

namespace flexlom::tool::top {
namespace {

// A page is written twice a second; after this long without news the numbers are old.
constexpr uint64_t kNews_ns = 3'000'000'000;

constexpr const char* kTableFormat =
    "{:>7} {:>3} {:>6} {:>6} {:>6} {:>6} {:>6} {:>6} {:>7} {:<5} {:>6} ";

std::string clock_text(int64_t clock_s) {
  const time_t seconds = clock_s;
  tm local{};
  localtime_r(&seconds, &local);
  return fmt::format("{:02}:{:02}:{:02}", local.tm_hour, local.tm_min, local.tm_sec);
}

// "7s", "1:03", "2h05", "12d04": at most six characters.
std::string short_age(uint64_t ns) {
  const uint64_t s = ns / 1'000'000'000;
  if (s < 60) return fmt::format("{}s", s);
  if (s < 3600) return fmt::format("{}:{:02}", s / 60, s % 60);
  if (s < 86400) return fmt::format("{}h{:02}", s / 3600, s / 60 % 60);
  return fmt::format("{}d{:02}", std::min<uint64_t>(s / 86400, 999), s / 3600 % 24);
}

uint64_t since(uint64_t now_ns, uint64_t then_ns) {
  return now_ns > then_ns ? now_ns - then_ns : 0;
}

// By which call: "alloc", "async" or "pitch", five characters of what another version may say.
std::string short_call(const live::Largest& largest) {
  constexpr std::string_view all_begin = "cuMemAlloc";
  std::string_view name(largest.call, strnlen(largest.call, sizeof largest.call));
  if (largest.bytes == 0) return "";
  if (name == all_begin) return "alloc";
  if (name.starts_with(all_begin)) name.remove_prefix(all_begin.size());
  std::string text = fit(name, 5);
  for (char& c : text) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  return text;
}

std::string headings() {
  return fmt::format(kTableFormat, "PID", "DEV", "DEVICE", "BUDGET", "HOST", "UP/s", "DOWN/s",
                     "INPL/s", "LARGEST", "BY", "AGE") +
         "COMMAND";
}

// What is to be known before the command's name.
std::string remark(const live::Process& process, uint64_t now_ns) {
  if (process.state == 'T' || process.state == 't') return "[stopped] ";
  const uint64_t old_ns = since(now_ns, process.reading.sample->now.at_ns);
  return old_ns > kNews_ns ? fmt::format("[no news for {}] ", short_age(old_ns)) : "";
}

void add_process(const live::Process& process, uint64_t now_ns, std::vector<std::string>* out) {
  if (!process.reading.sample) {
    out->push_back(
        fmt::format("{:>7} {}: {}", process.pid, process.command, process.reading.problem));
    return;
  }
  const live::Sample& sample = *process.reading.sample;
  const size_t devices = device_count(sample);
  uint64_t budget = 0;
  for (size_t i = 0; i < devices; ++i) budget += sample.devices[i].budget_bytes;
  const std::optional<Rates> rates = rates_of(sample);
  const auto rate = [&](double Rates::*which) {
    return rates ? short_bytes((*rates).*which) : std::string("-");
  };
  const std::string device = sample.device_count == 1 ? fmt::format("{}", sample.devices[0].ordinal)
                                                      : fmt::format("x{}", sample.device_count);
  const auto bytes = [](uint64_t value) { return short_bytes(static_cast<double>(value)); };
  out->push_back(fmt::format(kTableFormat, process.pid, device, bytes(device_bytes(sample)),
                             bytes(budget), bytes(sample.host_held_bytes), rate(&Rates::promoted),
                             rate(&Rates::demoted), rate(&Rates::in_place),
                             sample.largest.bytes > 0 ? bytes(sample.largest.bytes) : "-",
                             short_call(sample.largest),
                             short_age(since(now_ns, sample.active_since_ns))) +
                 remark(process, now_ns) + process.command);
  if (devices < 2) return;
  for (size_t i = 0; i < devices; ++i) {
    const live::Device& d = sample.devices[i];
    const bool has_largest = sample.largest.bytes > 0 && sample.largest.device == d.ordinal;
    out->push_back(fmt::format(kTableFormat, "", d.ordinal, bytes(d.held_bytes),
                               bytes(d.budget_bytes), "", "", "", "",
                               has_largest ? bytes(sample.largest.bytes) : "",
                               has_largest ? short_call(sample.largest) : "", "") +
                   "  " + d.name);
  }
}

std::string sums(const Look& look) {
  uint64_t device = 0, host = 0;
  double up = 0, down = 0, in_place = 0;
  for (const live::Process& process : look.processes) {
    if (!process.reading.sample) continue;
    device += device_bytes(*process.reading.sample);
    host += process.reading.sample->host_held_bytes;
    if (const auto rates = rates_of(*process.reading.sample)) {
      up += rates->promoted;
      down += rates->demoted;
      in_place += rates->in_place;
    }
  }
  const auto rate = [](double value) { return human_bytes(static_cast<uint64_t>(value)); };
  return fmt::format("{} on devices, {} on the host; per second {} up, {} down, {} in place",
                     human_bytes(device), human_bytes(host), rate(up), rate(down), rate(in_place));
}

std::string keys_line(const Layout& layout) {
  std::string text = "q quit  sort:";
  for (const OrderName& name : order_names) {
    const bool chosen = name.order == layout.order;
    text += fmt::format(" {}{} {}{}", chosen ? "[" : "", name.key, name.word, chosen ? "]" : "");
  }
  return text + "  r reverse  space now";
}

}  // namespace

std::string short_bytes(double bytes) {
  if (!(bytes >= 0.5)) return "0";
  constexpr const char* units = "BKMGTPE";
  size_t unit = 0;
  // 999.6 would print as 1000 of a unit, which is a column more: step up before that.
  for (; bytes >= 999.5 && unit < 6; ++unit) bytes /= 1024;
  if (unit == 0 || bytes >= 99.95) return fmt::format("{:.0f}{}", bytes, units[unit]);
  std::string text = fmt::format("{:.1f}", bytes);
  if (text.ends_with(".0")) text.resize(text.size() - 2);
  return text + units[unit];
}

std::string fit(std::string_view text, size_t columns) {
  std::string out;
  for (size_t used = 0; !text.empty() && used < columns; ++used) {
    const size_t length = trace::utf8_length(text);
    const auto at = [text](size_t i) { return static_cast<unsigned char>(text[i]); };
    if (at(0) < 0x20 || at(0) == 0x7f) {
      out += ' ';
    } else if (length == 0 || (at(0) == 0xc2 && at(1) < 0xa0)) {
      out += '?';  // U+0080 to U+009F are control characters to terminals
    } else {
      out += text.substr(0, length);
    }
    text.remove_prefix(length == 0 ? 1 : length);
  }
  return out;
}

std::vector<std::string> lines(const Look& look, const Layout& layout) {
  const size_t count = look.processes.size();
  std::vector<std::string> all;
  all.push_back(fmt::format("flexlom top: {} {} of user {}, {}", count,
                            count == 1 ? "process" : "processes", look.user,
                            clock_text(look.clock_s)));
  if (layout.keys) all.back() += fmt::format(", every {:g} s", layout.every_s);
  all.push_back(sums(look));
  all.push_back(headings());
  for (const live::Process& process : look.processes) add_process(process, look.now_ns, &all);
  if (count == 0)
    all.push_back("no process of this user has allocated under flexlom: flexlom run -- PROGRAM");
  const size_t room =
      layout.lines > 0 ? layout.lines - std::min<size_t>(layout.lines, layout.keys) : all.size();
  if (all.size() > room) {
    const size_t hidden = all.size() - room + 1;
    all.resize(room);
    if (room > headings_line + 1) all.back() = fmt::format("... and {} more lines", hidden);
  }
  if (layout.keys && layout.lines > 0) {
    all.resize(layout.lines - 1);
    all.push_back(keys_line(layout));
  }
  for (std::string& line : all) {
    line = fit(line, layout.columns > 0 ? layout.columns : std::string::npos);
    while (!line.empty() && line.back() == ' ') line.pop_back();
  }
  return all;
}

}  // namespace flexlom::tool::top
