#include "interpose/tool/advise_log.h"

#include <algorithm>
#include <cmath>
#include <iterator>

#include "pool/types.h"

namespace flexlom::tool {
namespace {

using trace::Kind;
using trace::Record;

// A call that waited from about its own launch on: its queue was full.
constexpr uint64_t kSameCall_ns = 100'000;
// The gap that two events leave around nothing at all.
constexpr double kEventGap_ns = 1500;

uint64_t granules_bytes(uint64_t bytes) {
  return (bytes + pool::kGranule - 1) & ~(uint64_t{pool::kGranule} - 1);
}

// "2800001,280000d": numbers of granules. Returns false at anything else.
template <class F>
bool each_base(std::string_view list, F&& f) {
  uint64_t value = 0;
  unsigned digits = 0;
  for (size_t i = 0; i <= list.size(); ++i) {
    if (i == list.size() || list[i] == ',') {
      if (digits == 0) return false;
      f(value << pool::kGranuleShift);
      value = digits = 0;
      continue;
    }
    const char c = list[i];
    const int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
    if (digit < 0 || ++digits > 11) return false;
    value = value * 16 + static_cast<uint64_t>(digit);
  }
  return true;
}

int size_of(uint64_t bytes) {
  return static_cast<int>(std::lround(2 * std::log2(static_cast<double>(bytes) + 1)));
}

}  // namespace

float AdviseFunction::in_place_rate() const {
  if (in_place_rates.empty()) return 0;
  std::vector<float> sorted = in_place_rates;
  const auto middle = sorted.begin() + static_cast<std::ptrdiff_t>((sorted.size() - 1) / 2);
  std::nth_element(sorted.begin(), middle, sorted.end());
  return *middle;
}

double AdviseFunction::resident_ns_of(uint64_t touched_bytes) const {
  if (resident_ns_by_size.empty()) return resident_ns;
  const int size = size_of(touched_bytes);
  const auto above = resident_ns_by_size.lower_bound(size);
  if (above == resident_ns_by_size.begin()) return above->second;
  const auto below = std::prev(above);
  if (above == resident_ns_by_size.end()) return below->second;
  return above->first - size <= size - below->first ? above->second : below->second;
}

void AdviseReader::record(const Record& record, const trace::Summary& log) {
  const uint64_t at_ns = log.record_ns();
  switch (record.kind) {
    case Kind::alloc:
      return alloc(record, at_ns);
    case Kind::free:
      return free(record, at_ns);
    case Kind::launch:
      return launch(record, at_ns);
    case Kind::wait:
      return wait(record, at_ns);
    case Kind::timed:
      return timed(record);
    case Kind::function:
      return function(record);
    case Kind::spill:
    case Kind::demote:
      ++devices_[record.device].job.spilled_records;
      return;
    default:
      return;
  }
}

void AdviseReader::alloc(const Record& record, uint64_t at_ns) {
  const uint64_t given = record.given_bytes.value_or(record.asked_bytes.value_or(0));
  Device& d = devices_[record.device];
  if (!record.address || given == 0 || given > kLargestAllocation_bytes ||
      d.large_bytes + given > kMostLive_bytes || d.job.events.size() >= 2 * kMostLaunches) {
    ++d.job.left_out;
    return;
  }
  if (d.live.count(*record.address) > 0) free(record, at_ns);  // its free is not in the log
  AdviseAllocation a;
  a.base = *record.address;
  a.large = given >= pool::kSmallLimit;
  a.bytes = a.large ? granules_bytes(given) : given;
  (a.large ? d.large_bytes : d.small_bytes) += a.bytes;
  d.job.peak_bytes = std::max(d.job.peak_bytes, d.large_bytes + granules_bytes(d.small_bytes));
  const auto index = static_cast<uint32_t>(d.job.allocations.size());
  d.job.allocations.push_back(a);
  d.live[a.base] = index;
  AdviseEvent event;
  event.kind = AdviseEvent::Kind::alloc;
  event.index = index;
  event.at_ns = at_ns;
  d.job.events.push_back(event);
}

void AdviseReader::free(const Record& record, uint64_t at_ns) {
  Device& d = devices_[record.device];
  if (!record.address) return;
  const auto found = d.live.find(*record.address);
  if (found == d.live.end()) return;
  const AdviseAllocation& a = d.job.allocations[found->second];
  (a.large ? d.large_bytes : d.small_bytes) -= a.bytes;
  AdviseEvent event;
  event.kind = AdviseEvent::Kind::free;
  event.index = found->second;
  event.at_ns = at_ns;
  d.job.events.push_back(event);
  d.live.erase(found);
}

void AdviseReader::launch(const Record& record, uint64_t at_ns) {
  Device& d = devices_[record.device];
  const uint64_t number = record.json().number("fn").value_or(0);
  const auto list = record.json().text("on");
  if (number == 0 || number > UINT32_MAX || !list || d.job.launches >= kMostLaunches) {
    ++d.job.left_out;
    return;
  }
  const auto fn = static_cast<uint32_t>(number);
  AdviseFunction& f = functions_[fn];
  // The rest of a list that did not fit one line.
  const bool more = d.job.launches > 0 && d.launch_t_ns == at_ns && d.launch_function == fn &&
                    !d.job.events.empty() && d.job.events.back().kind == AdviseEvent::Kind::launch;
  if (!more) {
    AdviseEvent event;
    event.kind = AdviseEvent::Kind::launch;
    event.index = fn;
    event.first = static_cast<uint32_t>(d.job.touches.size());
    event.at_ns = at_ns;
    d.job.events.push_back(event);
    if (d.job.launches++ == 0) d.job.first_launch_ns = at_ns;
    if (f.recent.empty() && functions_.size() <= kMostKernels)
      f.recent.resize(AdviseFunction::kRecent);
    ++f.launches;
    if (!f.recent.empty()) f.recent[f.launches % AdviseFunction::kRecent] = {f.launches, 0};
    last_was_kernel_ = f.kernel;
  }
  AdviseEvent& event = d.job.events.back();
  uint64_t touched = 0;
  const bool good = each_base(*list, [&](uint64_t base) {
    const auto found = d.live.find(base);
    if (found == d.live.end()) {
      ++d.job.unknown_touches;
    } else if (d.job.touches.size() < UINT32_MAX) {
      d.job.touches.push_back(found->second);
      touched += d.job.allocations[found->second].bytes;
      ++event.count;
    }
  });
  if (!good) ++d.job.left_out;
  if (!f.recent.empty()) f.recent[f.launches % AdviseFunction::kRecent].touched_bytes += touched;
  d.launch_t_ns = last_launch_ns_ = at_ns;
  d.launch_function = fn;
  d.job.last_ns = std::max(d.job.last_ns, at_ns);
  last_device_ = record.device;
}

void AdviseReader::wait(const Record& record, uint64_t at_ns) {
  Device& d = devices_[last_device_];
  AdviseEvent event;
  event.kind = AdviseEvent::Kind::wait;
  event.at_ns = at_ns;
  event.wait_ns = std::min(record.json().number("ns").value_or(0), at_ns);
  const uint64_t began = at_ns - event.wait_ns;
  event.count = last_was_kernel_ && began < last_launch_ns_ + kSameCall_ns ? 1 : 0;
  d.job.events.push_back(event);
  if (d.job.launches > 0) d.job.last_ns = std::max(d.job.last_ns, at_ns);
}

void AdviseReader::timed(const Record& record) {
  const uint64_t number = record.json().number("fn").value_or(0);
  const uint64_t ns = record.json().number("ns").value_or(0);
  const uint64_t spilled = record.json().number("spilled_bytes").value_or(0);
  if (number == 0 || number > UINT32_MAX || ns == 0) return;
  AdviseFunction& f = functions_[static_cast<uint32_t>(number)];
  if (spilled > 0) {
    if (f.in_place_rates.size() < 64)
      f.in_place_rates.push_back(static_cast<float>(ns) / static_cast<float>(spilled));
    return;
  }
  // While the device was idle the time includes how long the program took to submit; what is left
  // is then the work itself. The shortest of several is the one with least of that.
  const auto elapsed = static_cast<double>(ns);
  const auto host = static_cast<double>(record.json().number("host_ns").value_or(0));
  const double work = std::max({elapsed - host - kEventGap_ns, elapsed * 0.3, 500.0});
  const auto least = [work](double& known) { known = known == 0 ? work : std::min(known, work); };
  least(f.resident_ns);
  const uint64_t launch = record.json().number("launch").value_or(0);
  if (launch == 0 || f.recent.empty()) return;
  const AdviseFunction::Recent& found = f.recent[launch % AdviseFunction::kRecent];
  if (found.launch == launch && found.touched_bytes > 0)
    least(f.resident_ns_by_size[size_of(found.touched_bytes)]);
}

void AdviseReader::function(const Record& record) {
  const uint64_t number = record.json().number("fn").value_or(0);
  if (number == 0 || number > UINT32_MAX) return;
  AdviseFunction& f = functions_[static_cast<uint32_t>(number)];
  if (const auto call = record.json().text("call")) {
    f.name = *call;
    f.kernel = false;
  } else {
    f.name = record.json().text("name").value_or("");
  }
}

bool AdviseReader::finish(const trace::Summary& log, int device, AdviseJob* out) {
  Device* best = nullptr;
  int ordinal = device;
  for (auto& [number, d] : devices_) {
    if (device >= 0 ? number == device : best == nullptr || d.job.launches > best->job.launches) {
      best = &d;
      ordinal = number;
    }
  }
  if (best == nullptr || best->job.launches == 0) return false;
  *out = std::move(best->job);
  out->device = ordinal;
  out->functions = std::move(functions_);
  if (const auto found = log.devices.find(ordinal); found != log.devices.end()) {
    out->device_name = found->second.name;
    out->total_bytes = found->second.total_bytes;
  }
  return true;
}

}  // namespace flexlom::tool
