#include "interpose/trace/summary.h"

#include <algorithm>

#include "interpose/trace/line_reader.h"

namespace flexlom::trace {
namespace {

constexpr size_t most_open_requests = 1 << 16;
constexpr uint64_t most_devices = 1023;  // a damaged record must not make a million of them
constexpr size_t most_reasons = 32;      // the same for reasons, and for their length
constexpr size_t longest_reason = 64;

int device_of(const JsonLine& json) {
  return static_cast<int>(std::min<uint64_t>(json.number("device").value_or(0), most_devices));
}

// A number of bytes that memory could have; a damaged or hostile record may hold any other.
std::optional<uint64_t> bytes_of(const JsonLine& json, std::string_view name) {
  constexpr uint64_t most_bytes = uint64_t{1} << 56;
  std::optional<uint64_t> bytes = json.number(name);
  return bytes && *bytes <= most_bytes ? bytes : std::nullopt;
}

Failure request_of(const JsonLine& json, uint64_t at_ns) {
  Failure failure;
  failure.at_ns = at_ns;
  failure.asked_bytes = json.number("asked_bytes").value_or(0);
  failure.seq = json.number("seq").value_or(0);
  failure.device = device_of(json);
  failure.code = json.integer("code").value_or(0);
  failure.call = json.text("call").value_or("");
  failure.note = json.text("note").value_or("");
  return failure;
}

}  // namespace

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

void Summary::add_line(uint64_t number, std::string_view line, bool cut) {
  line_number_ = number;
  if (!json_.parse(line)) {
    if (cut) {
      cut_short = true;
    } else {
      add_bad_line(number, json_.error());
    }
    return;
  }
  std::optional<std::string> kind = json_.text("kind");
  if (!kind) return add_bad_line(number, "no \"kind\" in the record");

  uint64_t at_ns = json_.number("t").value_or(last_ns);
  if (records++ == 0) first_ns = at_ns;
  last_ns = std::max(last_ns, at_ns);

  if (*kind == "header") return header(json_);
  if (*kind == "alloc") return alloc(json_, at_ns);
  if (*kind == "free") return free(json_);
  if (*kind == "spill") return spill(json_, at_ns);
  if (*kind == "map" || *kind == "unmap") return frame(json_, at_ns, *kind == "map");
  if (*kind == "promote" || *kind == "demote") return move(json_, at_ns, *kind == "demote");
  if (*kind == "gave_up") return gave_up(json_, at_ns);
  if (*kind == "moves") return moves(json_);
  if (*kind == "out_of_memory") return out_of_memory(json_, at_ns);
  if (*kind == "request") {
    Failure request = request_of(json_, at_ns);
    if (open_requests.size() < most_open_requests) open_requests[request.seq] = std::move(request);
  } else if (*kind == "warning") {
    warning_count++;
    if (warnings.size() < most_listed) warnings.push_back(json_.text("text").value_or(""));
  } else if (*kind == "drop") {
    dropped += json_.number("count").value_or(0);
  } else if (*kind == "end") {
    end_reason = json_.text("reason").value_or("");
  } else if (*kind == "stats") {
    host_frames_peak_bytes =
        std::max(host_frames_peak_bytes, bytes_of(json_, "host_peak_held_bytes").value_or(0));
  } else {
    unknown_kinds++;
  }
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
    DeviceUse& use =
        devices[static_cast<int>(std::min(device.number("ordinal").value_or(0), most_devices))];
    use.name = device.text("name").value_or("");
    use.uuid = device.text("uuid").value_or("");
    use.total_bytes = device.number("total_bytes").value_or(0);
    use.budget_bytes = device.number("budget_bytes").value_or(0);
  }
}

void Summary::out_of_memory(const JsonLine& json, uint64_t at_ns) {
  Failure failure = request_of(json, at_ns);
  if (auto request = open_requests.find(failure.seq); request != open_requests.end()) {
    if (failure.asked_bytes == 0) failure.asked_bytes = request->second.asked_bytes;
    if (failure.call.empty()) failure.call = request->second.call;
    open_requests.erase(request);
  }
  failure_count++;
  if (failures.size() < most_listed) failures.push_back(std::move(failure));
}

void Summary::release(const Allocation& allocation) {
  DeviceUse& use = devices[allocation.device];
  use.in_use.sub(allocation.given_bytes);
  use.spilled.sub(allocation.host_bytes);
}

void Summary::alloc(const JsonLine& json, uint64_t at_ns) {
  std::optional<uint64_t> address = json.hex("address"), asked = bytes_of(json, "asked_bytes");
  if (!address || !asked)
    return add_bad_line(line_number_, "an alloc without an address or a possible size");
  Allocation allocation;
  allocation.device = device_of(json);
  allocation.address = *address;
  allocation.asked_bytes = *asked;
  allocation.given_bytes = bytes_of(json, "given_bytes").value_or(*asked);
  allocation.host_bytes = bytes_of(json, "extra_bytes").value_or(0);
  allocation.seq = json.number("seq").value_or(0);
  allocation.at_ns = at_ns;
  allocation.call = json.text("call").value_or("");
  allocs++;
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

  DeviceUse& use = devices[allocation.device];
  uint64_t before = use.in_use.most_bytes;
  use.spilled.add(allocation.host_bytes, at_ns);
  use.in_use.add(allocation.given_bytes, at_ns);
  if (use.in_use.most_bytes != before) use.host_at_peak_bytes = use.spilled.now_bytes;

  auto size = sizes.find(allocation.asked_bytes);
  if (size == sizes.end() && sizes.size() < most_sizes)
    size = sizes.emplace(allocation.asked_bytes, SizeUse{}).first;
  if (size == sizes.end()) {
    other_sizes_count++;
  } else {
    size->second.count++;
    if (allocation.host_bytes != 0) size->second.spilled_count++;
  }
  live.emplace(allocation.address, std::move(allocation));
}

void Summary::free(const JsonLine& json) {
  frees++;
  auto found = live.find(json.hex("address").value_or(0));
  if (found == live.end()) {
    unmatched_frees++;
    return;
  }
  release(found->second);
  live.erase(found);
}

// A spill either belongs to a live allocation (pages moved down later) or announces its alloc.
void Summary::spill(const JsonLine& json, uint64_t at_ns) {
  std::optional<uint64_t> placed = bytes_of(json, "extra_bytes");
  uint64_t bytes = placed ? *placed : bytes_of(json, "given_bytes").value_or(0);
  uint64_t seq = json.number("seq").value_or(0);
  spills++;
  spilled_bytes += bytes;
  auto found = live.find(json.hex("address").value_or(0));
  bool matches = found != live.end() && (seq == 0 || found->second.seq == seq);
  if (!matches) {
    if (seq != 0 && early_spills_.size() < most_open_requests) early_spills_[seq] = bytes;
    return;
  }
  Allocation& allocation = found->second;
  uint64_t host_bytes = std::min(bytes, allocation.given_bytes);
  if (host_bytes <= allocation.host_bytes) return;
  DeviceUse& use = devices[allocation.device];
  use.spilled.add(host_bytes - allocation.host_bytes, at_ns);
  if (use.in_use.most_at_ns == allocation.at_ns) use.host_at_peak_bytes = use.spilled.now_bytes;
  allocation.host_bytes = host_bytes;
}

void Summary::frame(const JsonLine& json, uint64_t at_ns, bool mapped) {
  std::optional<uint64_t> bytes = bytes_of(json, "given_bytes");
  if (!bytes) return add_bad_line(line_number_, "a frame without a possible size");
  (mapped ? maps : unmaps)++;
  std::optional<uint64_t> address = json.hex("address");
  PageUse page{device_of(json), *bytes, json.text("note") == "host"};
  auto known = address ? pages_.find(*address) : pages_.end();
  if (known != pages_.end()) {
    // Where the page was last said to be, which may not be where it was mapped. A second map of an
    // address: the unmap between them was dropped.
    held(known->second.device, known->second.on_host).sub(known->second.bytes);
    pages_.erase(known);
  } else if (!mapped) {
    held(page.device, page.on_host).sub(page.bytes);
  }
  if (!mapped) return;
  held(page.device, page.on_host).add(page.bytes, at_ns);
  if (address) pages_.emplace(*address, page);
}

// A page keeps its address and its size and has another frame behind it.
void Summary::move(const JsonLine& json, uint64_t at_ns, bool to_host) {
  std::optional<uint64_t> address = json.hex("address"), bytes = bytes_of(json, "given_bytes");
  if (!address || !bytes)
    return add_bad_line(line_number_, "a move without an address or a possible size");
  Moves& moves = devices[device_of(json)].moves;
  if (!moves.any()) moves.first_ns = at_ns;
  moves.last_ns = std::max(moves.last_ns, at_ns);
  (to_host ? moves.demoted_pages : moves.promoted_pages)++;
  (to_host ? moves.demoted_bytes : moves.promoted_bytes) += *bytes;
  if (to_host && json.text("note") == "clean") {
    moves.clean_pages++;
    moves.clean_bytes += *bytes;
  }

  // Unknown: its map record was dropped, or another thread unmapped it before this was logged.
  auto page = pages_.find(*address);
  if (page == pages_.end() || page->second.on_host == to_host) return;
  held(page->second.device, !to_host).sub(page->second.bytes);
  held(page->second.device, to_host).add(page->second.bytes, at_ns);
  page->second.on_host = to_host;

  auto after = live.upper_bound(*address);
  if (after == live.begin()) return;  // of memory that is only cached
  Allocation& allocation = std::prev(after)->second;
  if (*address - allocation.address >= allocation.given_bytes) return;
  Peak& spilled = devices[allocation.device].spilled;
  const uint64_t most =
      to_host ? allocation.given_bytes - allocation.host_bytes : allocation.host_bytes;
  const uint64_t moved = std::min(page->second.bytes, most);
  if (to_host) {
    allocation.host_bytes += moved;
    spilled.add(moved, at_ns);
  } else {
    allocation.host_bytes -= moved;
    spilled.sub(moved);
  }
}

void Summary::gave_up(const JsonLine& json, uint64_t at_ns) {
  Moves& moves = devices[device_of(json)].moves;
  if (!moves.any()) moves.first_ns = at_ns;
  moves.last_ns = std::max(moves.last_ns, at_ns);
  moves.given_up_count++;
  std::string why = json.text("note").value_or("").substr(0, longest_reason);
  if (!moves.given_up.contains(why) && moves.given_up.size() >= most_reasons) why = "other";
  moves.given_up[why]++;
}

void Summary::moves(const JsonLine& json) {
  auto number = [&json](std::string_view name) { return json.number(name).value_or(0); };
  MoveTotals totals;
  totals.promoted_pages = number("promoted_pages");
  totals.promoted_bytes = number("promoted_bytes");
  totals.demoted_pages = number("demoted_pages");
  totals.demoted_bytes = number("demoted_bytes");
  totals.demoted_copied_bytes = number("demoted_copied_bytes");
  totals.clean_pages = number("clean_pages");
  totals.given_up = number("given_up");
  totals.batches = number("batches");
  totals.shut_ns = number("shut_ns");
  totals.longest_shut_ns = number("longest_shut_ns");
  totals.in_place = number("in_place");
  totals.in_place_bytes = number("in_place_bytes");
  move_totals = totals;
}

bool read_log(const std::string& path, Summary& summary, std::string* error) {
  auto fail = [&](const std::string& message) {
    if (error != nullptr) *error = path + ": " + message;
    return false;
  };
  LineReader reader;
  if (!reader.open(path, error)) return false;
  // A file that is no log at all should be refused at its beginning, not read for an hour.
  constexpr uint64_t lines_to_convince = 1000;
  for (;;) {
    LineReader::Line line = reader.next();
    if (line == LineReader::Line::end) break;
    if (line == LineReader::Line::too_long) {
      summary.add_bad_line(reader.number(), "longer than 1 MiB");
    } else {
      summary.add_line(reader.number(), reader.text(), line == LineReader::Line::unended);
    }
    if (summary.format > format_version) {
      return fail("log format " + std::to_string(summary.format) + ", written by flexlom " +
                  summary.version + "; this one reads up to format " +
                  std::to_string(format_version) + ". Use the newer flexlom to read it.");
    }
    if (summary.records == 0 && reader.number() == lines_to_convince) break;
  }
  if (summary.records == 0) {
    if (!reader.read_error().empty()) return fail(reader.read_error());
    return fail(reader.number() == 0 ? "an empty file" : "not a flexlom trace log");
  }
  if (!reader.read_error().empty())
    summary.add_bad_line(reader.number() + 1, "cannot be read: " + reader.read_error());
  return true;
}

}  // namespace flexlom::trace
