// flexlom top: what processes under flexlom show of themselves (interpose/live), as lines and as
// JSON. Pure functions of what was read; the clock is handed in.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "interpose/live/read.h"

namespace flexlom::tool::top {

// What a look at the machine found.
struct Look {
  std::vector<live::Process> processes;
  uint64_t now_ns = 0;  // CLOCK_MONOTONIC
  int64_t clock_s = 0;  // since 1970
  uint32_t user = 0;
};

// Bytes per second over the last seconds before a sample; nothing when it is too early for any.
struct Rates {
  double window_s = 0;
  double promoted = 0, demoted = 0, demoted_copied = 0, in_place = 0;
};
std::optional<Rates> rates_of(const live::Sample& sample);

// How many of sample.devices are filled.
size_t device_count(const live::Sample& sample);
uint64_t device_bytes(const live::Sample& sample);  // held, of all devices

enum class Order : uint8_t { device, host, moved, in_place, largest, age, pid };

// The key and the word of each order, for keys, --sort and help.
struct OrderName {
  Order order;
  char key;
  std::string_view word;
};
extern const std::vector<OrderName> order_names;

// Most first, pid lowest first; `reverse` turns it round. Those without numbers come last.
void sort(std::vector<live::Process>* processes, Order order, bool reverse);

struct Layout {
  size_t columns = 0;  // 0: lines may be as long as they are
  size_t lines = 0;    // 0: as many as there are
  bool keys = false;   // the last line names the keys
  Order order = Order::device;
  bool reverse = false;
  double every_s = 2;
};

// The first line says what this is, the third, `headings_line`, heads the table. No control
// characters and no invalid UTF-8 are in them, whatever the processes are called.
constexpr size_t headings_line = 2;
std::vector<std::string> lines(const Look& look, const Layout& layout);

std::string json(const Look& look);  // one object, one line

// "0", "512B", "9.8M", "144M", "22.1G": at most six characters.
std::string short_bytes(double bytes);
// Text of unknown origin as at most `columns` characters of valid UTF-8.
std::string fit(std::string_view text, size_t columns);

}  // namespace flexlom::tool::top
