#include "interpose/tool/replay_log.h"

#include <algorithm>
#include <map>

#include "interpose/tool/progress.h"

namespace flexlom::tool {
namespace {

constexpr uint64_t kMostSteps = 50'000'000;
constexpr uint64_t kLargest_bytes = uint64_t{1} << 42;
constexpr uint16_t kMostStreams = 1024;

class Reader {
 public:
  void record(const trace::Record& record) {
    const bool allocates = record.kind == trace::Kind::alloc;
    if (!allocates && record.kind != trace::Kind::free) return;
    Device& d = devices_[record.device];
    const uint64_t bytes = record.asked_bytes.value_or(0);
    const bool bad = allocates && (bytes == 0 || bytes > kLargest_bytes);
    if (bad || !record.address || d.trace.steps.size() >= kMostSteps) {
      ++d.trace.left_out;
      return;
    }
    ReplayStep step;
    step.in_order = record.call.find("Async") != std::string_view::npos;
    step.stream = stream_of(d, record.stream);
    const auto found = d.live.find(*record.address);
    if (found != d.live.end()) {  // of an alloc: its free is not in the log
      step.block = found->second.block;
      d.live_bytes -= found->second.bytes;
      d.live.erase(found);
      d.trace.steps.push_back(step);
    } else if (!allocates) {
      ++d.trace.left_out;
      return;
    }
    if (!allocates) return;
    step.block = d.trace.blocks++;
    step.bytes = bytes;
    d.live[*record.address] = {step.block, bytes};
    d.live_bytes += bytes;
    d.trace.peak_bytes = std::max(d.trace.peak_bytes, d.live_bytes);
    d.trace.steps.push_back(step);
  }

  bool finish(int device, ReplayTrace* trace) {
    Device* best = nullptr;
    for (auto& [number, d] : devices_) {
      if (device >= 0 && number != device) continue;
      if (best == nullptr || d.trace.steps.size() > best->trace.steps.size()) best = &d;
    }
    if (best == nullptr || best->trace.blocks == 0) return false;
    *trace = std::move(best->trace);
    return true;
  }

 private:
  struct Live {
    uint32_t block;
    uint64_t bytes;
  };
  struct Device {
    ReplayTrace trace;
    std::unordered_map<uint64_t, Live> live;
    std::unordered_map<uint64_t, uint16_t> streams;
    uint64_t live_bytes = 0;
  };
  // Streams beyond what anybody would replay share one.
  static uint16_t stream_of(Device& d, uint64_t stream) {
    if (stream == 0) return 0;
    const auto found = d.streams.find(stream);
    if (found != d.streams.end()) return found->second;
    if (d.trace.streams >= kMostStreams) return kMostStreams;
    return d.streams[stream] = ++d.trace.streams;
  }

  std::map<int, Device> devices_;
};

}  // namespace

bool read_replay(const std::string& file, int device, ReplayTrace* trace, std::string* error) {
  Reader reader;
  trace::ReadHooks hooks;
  hooks.record = [&](const trace::Record& record) { reader.record(record); };
  trace::Summary log;
  if (!read_with_progress(file, log, error, hooks)) return false;
  if (!reader.finish(device, trace)) {
    *error = file + ": no allocations to replay";
    return false;
  }
  trace->left_out += log.bad_line_count + log.dropped;
  return true;
}

}  // namespace flexlom::tool
