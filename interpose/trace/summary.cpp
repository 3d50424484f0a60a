#include "interpose/trace/summary.h"

#include <algorithm>
#include <tuple>

namespace flexlom::trace {
namespace {

constexpr size_t most_open_requests = 1 << 16;
constexpr size_t longest_text = 512;
constexpr size_t longest_line = 1024;  // of a finding
// Sites looked at for the holders at failures; a program may fail a million times.
constexpr uint64_t most_holder_steps = uint64_t{1} << 27;

Failure failure_of(const Record& record, uint64_t at_ns) {
  Failure failure;
  failure.at_ns = at_ns;
  failure.asked_bytes = record.asked_bytes.value_or(0);
  failure.seq = record.seq;
  failure.device = record.device;
  failure.code = record.code;
  failure.call = record.call.substr(0, longest_text);
  failure.note = record.note.substr(0, longest_text);
  return failure;
}

}  // namespace

bool moved_more(const MovedAllocation& a, const MovedAllocation& b) {
  if (a.moved_bytes() != b.moved_bytes()) return a.moved_bytes() > b.moved_bytes();
  return a.allocation.order < b.allocation.order;
}

void Peak::add(uint64_t bytes, uint64_t at_ns) {
  now_bytes += bytes;
  if (now_bytes <= most_bytes) return;
  most_bytes = now_bytes;
  most_at_ns = at_ns;
}

void Summary::add_bad_line(uint64_t number, std::string why) {
  bad_line_count++;
  if (bad_lines.size() < most_listed) bad_lines.push_back({number, std::move(why)});
}

bool Summary::add_line(uint64_t number, std::string_view line, bool cut) {
  line_number_ = number;
  log_bytes += line.size() + 1;
  released.reset();
  if (!record_.decode(line)) {
    if (cut) {
      cut_short = true;
    } else {
      add_bad_line(number, record_.error());
    }
    return false;
  }
  const uint64_t at_ns = record_.t_ns.value_or(last_ns);
  record_ns_ = at_ns;
  records++;
  // Modules and frames have no time: where the header was lost they may come first.
  if (record_.t_ns && !first_is_known_) {
    first_ns = at_ns;
    first_is_known_ = true;
  }
  last_ns = std::max(last_ns, at_ns);

  switch (record_.kind) {
    case Kind::header:
      header(record_.json());
      break;
    case Kind::alloc:
      complete_alloc();
      alloc(record_, at_ns);
      break;
    case Kind::free:
      complete_free();
      free(record_, at_ns);
      break;
    case Kind::spill:
      spill(record_, at_ns);
      break;
    case Kind::map:
      frame(record_, at_ns, true);
      break;
    case Kind::unmap:
      frame(record_, at_ns, false);
      break;
    case Kind::promote:
      move(record_, at_ns, false);
      break;
    case Kind::demote:
      move(record_, at_ns, true);
      break;
    case Kind::gave_up:
      gave_up(record_, at_ns);
      break;
    case Kind::moves:
      moves(record_.json());
      break;
    case Kind::out_of_memory:
      out_of_memory(record_, at_ns);
      break;
    case Kind::request:
      if (open_requests.size() < most_open_requests)
        open_requests[record_.seq] = {at_ns,          record_.asked_bytes.value_or(0),
                                      record_.stream, record_.tid,
                                      record_.device, sites.call_id(record_.call)};
      break;
    case Kind::warning:
      warning_count++;
      if (warnings.size() < most_listed)
        warnings.push_back(record_.json().text("text").value_or(""));
      break;
    case Kind::guard:
      guard(record_, at_ns);
      break;
    case Kind::drop:
      dropped += record_.json().number("count").value_or(0);
      break;
    case Kind::end:
      end_reason = record_.json().text("reason").value_or("");
      overhead_ns = record_.json().number("overhead_ns").value_or(0);
      break;
    case Kind::stats:
      // The header of a log has only what was asked for, if that.
      if (const auto device = devices.find(record_.device);
          record_.has_device && device != devices.end()) {
        const uint64_t said = record_.json().number("budget_bytes").value_or(0);
        if (said != 0) device->second.budget_bytes = Record::possible(said).value_or(0);
      }
      host_frames_peak_bytes =
          std::max(host_frames_peak_bytes,
                   Record::possible(record_.json().number("host_peak_held_bytes")).value_or(0));
      break;
    case Kind::function:
    case Kind::launch:
    case Kind::timed:
    case Kind::wait:
      break;  // advise_log.h reads those
    case Kind::module:
      if (const char* problem = frames.add_module(record_.json())) add_bad_line(number, problem);
      break;
    case Kind::frame:
      if (const char* problem = frames.add_frame(record_.json())) add_bad_line(number, problem);
      break;
    case Kind::perf_map:
      frames.set_perf_map(record_.json().text("path").value_or("").substr(0, longest_text));
      break;
    case Kind::unknown:
      unknown_kinds++;
      break;
  }
  return true;
}

// Lines without the word belong to the finding before them; a log whose beginning was lost may have
// none.
void Summary::guard(const Record& r, uint64_t at_ns) {
  const auto bug = r.json().text("bug");
  if (bug) finding_count++;
  if (finding_lines_ == most_listed) return;
  finding_lines_++;
  if (bug || findings.empty()) {
    findings.emplace_back();
    findings.back().at_ns = at_ns;
    findings.back().bug = bug.value_or("").substr(0, longest_text);
  }
  findings.back().lines.push_back(
      {r.json().text("text").value_or("").substr(0, longest_line), frames.find(r.frame)});
}

void Summary::complete_alloc() {
  if (!record_.given_bytes) record_.given_bytes = record_.asked_bytes;
  if (!record_.call.empty()) return;
  const auto request = open_requests.find(record_.seq);
  if (request == open_requests.end()) return;
  record_.call = sites.call_name(request->second.call);
  if (record_.stream == 0) record_.stream = request->second.stream;
  if (record_.tid == 0) record_.tid = request->second.tid;
}

void Summary::complete_free() {
  const auto allocation = live.find(record_.address.value_or(0));
  if (allocation == live.end() || record_.asked_bytes || record_.given_bytes) return;
  record_.asked_bytes = allocation->second.asked_bytes;
  record_.given_bytes = allocation->second.given_bytes;
}

void Summary::header(const JsonLine& json) {
  format = static_cast<int>(std::min<uint64_t>(json.number("format").value_or(0), 1 << 30));
  version = json.text("version").value_or("");
  host = json.text("host").value_or("");
  pid = json.number("pid").value_or(0);
  driver_version = json.integer("driver_version").value_or(0);
  host_budget_bytes = json.number("host_budget_bytes").value_or(0);
  wall_ns = json.number("wall_ns").value_or(0);
  command.clear();
  for (std::string_view word : json.elements("command")) {
    if (!command.empty()) command += ' ';
    command += unescape_json(word);
  }
  for (std::string_view element : json.elements("devices")) {
    JsonLine device;
    if (!device.parse(element)) continue;
    DeviceUse& use = devices[static_cast<int>(
        std::min<uint64_t>(device.number("ordinal").value_or(0), Record::most_devices))];
    use.name = device.text("name").value_or("");
    use.uuid = device.text("uuid").value_or("");
    use.total_bytes = device.number("total_bytes").value_or(0);
    use.budget_bytes = device.number("budget_bytes").value_or(0);
  }
}

void Summary::out_of_memory(const Record& record, uint64_t at_ns) {
  Failure failure = failure_of(record, at_ns);
  failure.frame = frames.find(record.frame);
  if (auto request = open_requests.find(failure.seq); request != open_requests.end()) {
    if (failure.asked_bytes == 0) failure.asked_bytes = request->second.asked_bytes;
    if (failure.call.empty()) failure.call = sites.call_name(request->second.call);
    open_requests.erase(request);
  }
  failure_count++;
  if (failures.size() >= most_listed) return;
  if (auto device = devices.find(failure.device); device != devices.end()) {
    failure.in_use_bytes = device->second.in_use.now_bytes;
    failure.spilled_bytes = device->second.spilled.now_bytes;
  }
  failure.device_held_bytes = Record::possible(record.given_bytes).value_or(0);
  failure.host_held_bytes = Record::possible(record.extra_bytes).value_or(0);
  failure.holders = holders_now(failure.device);
  failures.push_back(std::move(failure));
}

std::vector<Holder> Summary::holders_now(int device) {
  std::vector<Holder> holders;
  if (holder_steps_ + sites.size() > most_holder_steps) return holders;
  holder_steps_ += sites.size();
  std::map<std::tuple<uint32_t, uint64_t, FrameId>, Holder> by_call_and_size;
  for (SiteId id = 0; id < sites.size(); id++) {
    const Site& site = sites[id];
    if (site.device != device || site.live_count == 0) continue;
    Holder& holder = by_call_and_size[{site.call, site.asked_bytes, site.frame}];
    holder.site = id;
    holder.count += site.live_count;
    holder.bytes += site.live_bytes;
  }
  for (const auto& [key, holder] : by_call_and_size) holders.push_back(holder);
  const size_t kept = std::min(holders.size(), most_holders);
  std::partial_sort(holders.begin(), holders.begin() + static_cast<ptrdiff_t>(kept), holders.end(),
                    [](const Holder& a, const Holder& b) {
                      return a.bytes != b.bytes ? a.bytes > b.bytes : a.site < b.site;
                    });
  holders.resize(kept);
  return holders;
}

void Summary::release(const Allocation& allocation) {
  DeviceUse& use = devices[allocation.device];
  use.at_peak.before_free(allocation);
  use.in_use.sub(allocation.given_bytes);
  use.spilled.sub(allocation.host_bytes);
  Site& site = sites[allocation.site];
  site.live_count--;
  site.live_bytes -= allocation.given_bytes;
  released = allocation;

  auto moved = moved_.find(allocation.address);
  if (moved == moved_.end()) return;
  moved->second.allocation = allocation;
  moved->second.freed = true;
  moved_and_freed_.push_back(moved->second);
  moved_.erase(moved);
  if (moved_and_freed_.size() < 2 * most_listed) return;
  auto last = moved_and_freed_.begin() + static_cast<ptrdiff_t>(most_listed);
  std::nth_element(moved_and_freed_.begin(), last, moved_and_freed_.end(), moved_more);
  moved_and_freed_.erase(last, moved_and_freed_.end());
}

void Summary::alloc(const Record& record, uint64_t at_ns) {
  const std::optional<uint64_t> asked = Record::possible(record.asked_bytes);
  if (!record.address || !asked)
    return add_bad_line(line_number_, "an alloc without an address or a possible size");
  Allocation allocation;
  allocation.device = static_cast<int16_t>(record.device);
  allocation.address = *record.address;
  allocation.asked_bytes = *asked;
  allocation.given_bytes = Record::possible(record.given_bytes).value_or(*asked);
  allocation.host_bytes = Record::possible(record.extra_bytes).value_or(0);
  allocation.seq = record.seq;
  allocation.at_ns = at_ns;
  allocation.order = ++allocs;
  allocation.site = sites.find_or_add(record.device, record.call, record.stream, *asked,
                                      frames.find(record.frame));
  open_requests.erase(allocation.seq);

  if (auto early = early_spills_.find(allocation.seq); early != early_spills_.end()) {
    allocation.host_bytes = std::max(allocation.host_bytes, early->second);
    early_spills_.erase(early);
  }
  allocation.host_bytes = std::min(allocation.host_bytes, allocation.given_bytes);
  if (auto old = live.find(allocation.address); old != live.end()) {
    replaced++;  // its free was dropped, or the log is of a program that ends in a fork
    release(old->second);
    live.erase(old);
  }

  Site& site = sites[allocation.site];
  site.allocs++;
  site.allocated_bytes += allocation.given_bytes;
  site.live_count++;
  site.live_bytes += allocation.given_bytes;
  if (allocation.host_bytes != 0) {
    site.spilled_count++;
    site.spilled_bytes += allocation.host_bytes;
  }
  DeviceUse& use = devices[allocation.device];
  const uint64_t before = use.in_use.most_bytes;
  use.spilled.add(allocation.host_bytes, at_ns);
  use.in_use.add(allocation.given_bytes, at_ns);
  if (use.in_use.most_bytes != before) {
    use.host_at_peak_bytes = use.spilled.now_bytes;
    use.at_peak.set(allocation.order);
  }
  live.emplace(allocation.address, allocation);
}

void Summary::free(const Record& record, uint64_t at_ns) {
  frees++;
  auto found = live.find(record.address.value_or(0));
  if (found == live.end()) {
    unmatched_frees++;
    return;
  }
  const uint64_t lived_ns = at_ns > found->second.at_ns ? at_ns - found->second.at_ns : 0;
  Site& site = sites[found->second.site];
  site.lifetime_ns += lived_ns;
  if (lived_ns < Sites::short_life_ns) site.short_lived++;
  if (record.call == "context end") {
    site.context_end_count++;
    site.context_end_bytes += found->second.given_bytes;
  }
  release(found->second);
  live.erase(found);
}

}  // namespace flexlom::trace
