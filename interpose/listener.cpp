#include "interpose/listener.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cstring>

#include "interpose/doors/gate.h"
#include "interpose/doors/originals.h"
#include "interpose/heat/range.h"
#include "interpose/statistics.h"

namespace flexlom {

namespace {

using pool::AllocationInfo;
using pool::Request;

// A message that would be said again and again is said this often.
constexpr unsigned kMostExplanations = 3;
constexpr size_t kHolders = 5;

// The request whose failure is to be explained once the pool's locks are free; and the sequence
// number that ties the log's records of one request together. Plain data of the thread.
thread_local pool::OutOfMemory last_oom __attribute__((tls_model("initial-exec")));
thread_local bool oom_to_explain __attribute__((tls_model("initial-exec"))) = false;
thread_local uint64_t request_seq __attribute__((tls_model("initial-exec"))) = 0;
thread_local uint64_t request_ns __attribute__((tls_model("initial-exec"))) = 0;
std::atomic<uint64_t> next_seq{0};

std::string human(uint64_t bytes) {
  if (bytes >= uint64_t{1} << 30)
    return fmt::format("{:.2f} GiB", static_cast<double>(bytes) / (1u << 30));
  if (bytes >= 1u << 20) return fmt::format("{:.1f} MiB", static_cast<double>(bytes) / (1u << 20));
  return fmt::format("{} bytes", bytes);
}

trace::Event event_of(const char* call, const AllocationInfo& a, uint64_t stream) {
  trace::Event e;
  e.call = call;
  e.device = a.device;
  e.stream = stream;
  e.address = a.base;
  e.asked_bytes = a.asked_bytes;
  e.given_bytes = a.given_bytes;
  e.extra_bytes = a.spilled_bytes;
  e.frame = stacks::here();
  return e;
}

trace::Event event_of(int device, CUdeviceptr address, size_t bytes, pool::Where where) {
  trace::Event e;
  e.device = device;
  e.address = address;
  e.given_bytes = bytes;
  e.note = where == pool::Where::device ? "device" : "host";
  e.frame = stacks::here();
  return e;
}

}  // namespace

namespace {

std::unique_ptr<trace::Writer> open_log(const Options& options, std::string* error) {
  if (options.trace.empty()) return nullptr;
  const trace::Warn silence = [](const char*) noexcept {};
  return trace::Writer::open(options.trace, error, options.quiet ? silence : nullptr);
}

// Stacks are taken only where something is recorded with them.
StackMode stack_mode(const Options& options, bool has_log) {
  const bool wanted = has_log || options.leak_check || options.guard;
  if (options.stacks != StackMode::automatic) return wanted ? options.stacks : StackMode::off;
  if (options.leak_check) return StackMode::dwarf;
  return options.guard ? StackMode::fp : StackMode::off;
}

}  // namespace

Listener::Listener(const Options& options) : Listener(options, {}) {}

Listener::Listener(const Options& options, std::string error)
    : options_(options),
      quiet_(options.quiet),
      writer_(open_log(options, &error)),
      leaks_(options.leak_check),
      stacks_(stack_mode(options, writer_ != nullptr), options.stack_depth.frames,
              writer_ != nullptr ? this : nullptr),
      since_ns_(pool::ThreadSync::now_ns()) {
  if (!error.empty()) say("warning", fmt::format("no trace: {}", error));
  if (stacks_.problem() != nullptr)
    say("warning",
        fmt::format("stacks by dwarf: {}; frame pointers are followed instead", stacks_.problem()));
}

bool Listener::module(const stacks::Module& module) noexcept {
  return writer_->module({module.path, module.build_id, module.base, module.begin, module.end});
}

bool Listener::frame(stacks::NodeId id, const stacks::Node& node) noexcept {
  return writer_->frame(id, node.parent, node.address);
}

bool Listener::perf_map(const char* path) noexcept { return writer_->perf_map(path); }

void Listener::opened(pool::Pool& pool) noexcept { pool_ = &pool; }

void Listener::request(const Request& request) noexcept {
  if (writer_ == nullptr) return;
  request_seq = next_seq.fetch_add(1, std::memory_order_relaxed) + 1;
  trace::Event e;
  e.call = request.call;
  e.device = request.device;
  e.stream = request.stream;
  e.seq = request_seq;
  e.asked_bytes = request.bytes;
  e.t_ns = request_ns = trace::Writer::now_ns();
  writer_->request(e);
}

void Listener::allocated(const Request& request, const AllocationInfo& a, bool at_once) noexcept {
  if (other_ != nullptr) other_->allocated(request, a, at_once);
  if (leaks_.on()) leaks_.allocated(request, a, stacks::here());
  if (writer_ == nullptr) return;
  trace::Event e = event_of(request.call, a, request.stream);
  e.seq = request_seq;
  if (at_once) e.t_ns = request_ns;  // reading the clock is much of what a record costs
  writer_->alloc(e);
}

void Listener::freed(const char* call, const AllocationInfo& a, pool::StreamKey stream) noexcept {
  if (other_ != nullptr) other_->freed(call, a, stream);
  if (leaks_.on()) leaks_.freed(call, a.base);
  if (writer_ != nullptr) writer_->free(event_of(call, a, stream));
}

void Listener::retiring(const AllocationInfo& a) noexcept {
  if (other_ != nullptr) other_->retiring(a);
}

void Listener::spilled(int device, CUdeviceptr address, size_t bytes) noexcept {
  if (writer_ == nullptr) return;
  trace::Event e;
  e.device = device;
  e.seq = request_seq;
  e.address = address;
  e.extra_bytes = bytes;
  writer_->spill(e);
}

void Listener::mapped(int device, CUdeviceptr address, size_t bytes, pool::Where where) noexcept {
  if (writer_ != nullptr) writer_->map(event_of(device, address, bytes, where));
}

void Listener::unmapped(int device, CUdeviceptr address, size_t bytes, pool::Where where) noexcept {
  if (writer_ != nullptr) writer_->unmap(event_of(device, address, bytes, where));
}

// The first statistics of a device say its budget, which is not known before when it depends on
// what is free.
void Listener::device_opened(int device, CUdeviceptr base, size_t bytes,
                             uint64_t budget_bytes) noexcept {
  heat::note_range(base, bytes);
  if (writer_ == nullptr || pool_ == nullptr) return;
  trace::Stats s;
  s.device = device;
  s.budget_bytes = budget_bytes;
  const pool::Budget& host = pool_->host_budget();
  s.host_budget_bytes = host.limit();
  s.host_held_bytes = host.held();
  s.host_peak_held_bytes = host.peak();
  writer_->stats(s);
}

void Listener::moved(const pool::Moved& m) noexcept {
  if (writer_ == nullptr) return;
  trace::Event e;
  e.device = m.device;
  e.address = m.address;
  e.given_bytes = m.bytes;
  e.note = m.copied ? "copied" : "clean";
  if (m.to == pool::Where::device) {
    writer_->promote(e);
  } else {
    writer_->demote(e);
  }
}

void Listener::gave_up(int device, pool::GaveUp why) noexcept {
  if (writer_ == nullptr) return;
  trace::Event e;
  e.device = device;
  e.note = word_of(why);
  writer_->gave_up(e);
}

void Listener::out_of_memory(const pool::OutOfMemory& oom) noexcept {
  if (writer_ != nullptr) {
    trace::Event e;
    e.call = oom.request.call;
    e.device = oom.request.device;
    e.seq = request_seq;
    e.asked_bytes = oom.request.bytes;
    e.given_bytes = oom.device_held_bytes;
    e.extra_bytes = oom.host_held_bytes;
    e.note = oom.soft ? "refused once so that the program frees its cache" : "over both budgets";
    e.code = CUDA_ERROR_OUT_OF_MEMORY;
    e.frame = stacks::here();
    writer_->out_of_memory(e);
  }
  if (oom.soft) return;
  last_oom = oom;
  oom_to_explain = true;
}

void Listener::explain_last_oom() noexcept {
  if (!oom_to_explain) return;
  oom_to_explain = false;
  const unsigned times = explained_.fetch_add(1, std::memory_order_relaxed);
  if (times >= kMostExplanations) return;
  try {
    const pool::OutOfMemory& o = last_oom;
    std::string text = fmt::format(
        "out of memory: {} asked for {} on device {}; device frames {} of {} held, host frames {} "
        "of {} held",
        o.request.call, human(o.request.bytes), o.request.device, human(o.device_held_bytes),
        human(o.device_budget_bytes), human(o.host_held_bytes), human(o.host_budget_bytes));
    pool::DevicePool* device = pool_ != nullptr ? pool_->device(o.request.device) : nullptr;
    if (device != nullptr) {
      const auto holders = device->live(kHolders);
      if (!holders.empty()) text += "; largest holders:";
      for (const AllocationInfo& h : holders)
        text += fmt::format(" {} at {:#x},", human(h.asked_bytes), h.base);
      if (text.back() == ',') text.pop_back();
    }
    text += "; try a larger FLEXLOM_HOST_LIMIT or FLEXLOM_DEVICE_LIMIT, or a smaller batch";
    if (times + 1 == kMostExplanations) text += " (further messages like this are left out)";
    say("error", text);
  } catch (...) {
  }
}

void Listener::warned(std::string_view text) noexcept {
  if (first_time(text)) say("warning", text);
  if (writer_ == nullptr) return;
  char line[256];
  const size_t n = std::min(text.size(), sizeof line - 1);
  std::memcpy(line, text.data(), n);
  line[n] = '\0';
  writer_->warning(line);
}

void Listener::finding(const char* bug, std::string_view text, stacks::NodeId stack) noexcept {
  if (writer_ != nullptr) writer_->guard(bug, text, stack);
}

void Listener::flush_log() noexcept {
  if (writer_ != nullptr) writer_->flush_now();
}

// A degradation that goes on is said once; the log has every time.
bool Listener::first_time(std::string_view text) noexcept {
  warnings_.fetch_add(1, std::memory_order_relaxed);
  const size_t hash = std::hash<std::string_view>{}(text);
  std::lock_guard lock(warned_mutex_);
  for (size_t i = 0; i < warned_count_; ++i) {
    if (warned_[i] == hash) return false;
  }
  if (warned_count_ == warned_.size()) return false;
  warned_[warned_count_++] = hash;
  return true;
}

void Listener::say(std::string_view level, std::string_view text) noexcept {
  if (quiet_ && level != "stats" && level != "coverage") return;
  try {
    // One write, so that lines of several processes do not mix.
    const std::string line = fmt::format("flexlom[{}]: {}: {}\n", getpid(), level, text);
    [[maybe_unused]] const ssize_t written = write(STDERR_FILENO, line.data(), line.size());
  } catch (...) {
  }
}

void Listener::statistics(bool print) noexcept {
  if (pool_ == nullptr) return;
  try {
    if (pool::Residency* residency = pool_->residency()) {
      const pool::ResidencyStats s = residency->stats();
      const trace::MoveTotals totals = move_totals(s);
      if (s.touched > 0 || totals.batches > 0 || totals.given_up > 0) {
        if (writer_ != nullptr) writer_->moves(totals);
        if (print) say("stats", moves_text(s));
      }
    }
    const uint64_t at_ms = (pool::ThreadSync::now_ns() - since_ns_) / 1'000'000;
    const uint64_t warnings = warnings_.load(std::memory_order_relaxed);
    pool_->each_device([&](const pool::DevicePool& device) {
      const pool::PoolStats s = device.stats();
      if (writer_ != nullptr) writer_->stats(trace_stats(s, device.device()));
      if (print) say("stats", device_text(s, device.device(), at_ms, warnings));
    });
  } catch (...) {
    // Out of host memory: the numbers of this moment are left out.
  }
}

void Listener::freed_too_late(CUdeviceptr address) noexcept {
  if (leaks_.on()) leaks_.freed("too late", address);
}

bool Listener::leaks() noexcept { return leaks_.on() && leaks_.report(stacks_, options_); }

void Listener::coverage() noexcept {
  try {
    std::string line;
    for (unsigned i = 0; i < doors::kEntryCount; ++i) {
      if (doors::entry_info[i].kind == doors::DoorKind::pass) continue;
      const uint64_t calls = doors::calls_of(static_cast<doors::Entry>(i));
      if (calls > 0) line += fmt::format(" {}={}", doors::entry_info[i].name, calls);
    }
    const doors::UnknownAddresses unknown = doors::unknown_addresses();
    line += fmt::format(" unknown_addresses={}", unknown.count);
    if (unknown.last_name != nullptr) line += fmt::format(" last_unknown={}", unknown.last_name);
    say("coverage", line.substr(1));
  } catch (...) {
  }
}

}  // namespace flexlom
