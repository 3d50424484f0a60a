// flexlom top: what is computed from what was read.
#include <algorithm>

#include "interpose/tool/top.h"

namespace flexlom::tool::top {
namespace {

// Counters only grow; a page that says otherwise is not believed.
double per_second(uint64_t before, uint64_t now, double seconds) {
  return now > before ? static_cast<double>(now - before) / seconds : 0;
}

double key_of(const live::Process& process, Order order) {
  const live::Sample& sample = *process.reading.sample;
  const std::optional<Rates> rates = rates_of(sample);
  switch (order) {
    case Order::device:
      return static_cast<double>(device_bytes(sample));
    case Order::host:
      return static_cast<double>(sample.host_held_bytes);
    case Order::moved:
      return rates ? rates->promoted + rates->demoted : 0;
    case Order::in_place:
      return rates ? rates->in_place : 0;
    case Order::largest:
      return static_cast<double>(sample.largest.bytes);
    case Order::age:
      return -static_cast<double>(sample.active_since_ns);
    case Order::pid:
      break;
  }
  return -static_cast<double>(process.pid);
}

}  // namespace

const std::vector<OrderName> order_names = {
    {Order::device, 'd', "device"},   {Order::host, 'h', "host"},
    {Order::moved, 'm', "moved"},     {Order::in_place, 'i', "in-place"},
    {Order::largest, 'l', "largest"}, {Order::age, 'a', "age"},
    {Order::pid, 'p', "pid"},
};

std::optional<Rates> rates_of(const live::Sample& sample) {
  const live::Totals &now = sample.now, &before = sample.before;
  if (before.at_ns == 0 || now.at_ns <= before.at_ns) return std::nullopt;
  const double seconds = static_cast<double>(now.at_ns - before.at_ns) / 1e9;
  Rates rates;
  rates.window_s = seconds;
  rates.promoted = per_second(before.promoted_bytes, now.promoted_bytes, seconds);
  rates.demoted = per_second(before.demoted_bytes, now.demoted_bytes, seconds);
  rates.demoted_copied = per_second(before.demoted_copied_bytes, now.demoted_copied_bytes, seconds);
  rates.in_place = per_second(before.in_place_bytes, now.in_place_bytes, seconds);
  return rates;
}

size_t device_count(const live::Sample& sample) {
  return static_cast<size_t>(std::min<uint64_t>(sample.device_count, live::kDevices));
}

uint64_t device_bytes(const live::Sample& sample) {
  uint64_t bytes = 0;
  for (size_t i = 0; i < device_count(sample); ++i) bytes += sample.devices[i].held_bytes;
  return bytes;
}

void sort(std::vector<live::Process>* processes, Order order, bool reverse) {
  std::sort(processes->begin(), processes->end(),
            [&](const live::Process& a, const live::Process& b) {
              const bool a_known = a.reading.sample.has_value();
              if (a_known != b.reading.sample.has_value()) return a_known;
              if (a_known) {
                const double left = key_of(a, order), right = key_of(b, order);
                if (left != right) return reverse ? left < right : left > right;
              }
              return reverse ? a.pid > b.pid : a.pid < b.pid;
            });
}

}  // namespace flexlom::tool::top
