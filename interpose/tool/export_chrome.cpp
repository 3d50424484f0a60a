// The Trace Event Format, for ui.perfetto.dev and chrome://tracing: times are microseconds since
// the start of the log, ids are local to the process (so that traces of several processes can be
// opened together), and there is no displayTimeUnit, by which some readers would rescale the times.
#include <fmt/format.h>

#include <map>
#include <unordered_map>

#include "interpose/tool/export.h"
#include "interpose/tool/output.h"
#include "interpose/tool/short_names.h"

namespace flexlom::tool {
namespace {

using trace::Allocation;
using trace::Kind;
using trace::Record;
using trace::SiteId;
using trace::Summary;

std::string microseconds(uint64_t ns) { return fmt::format("{}.{:03}", ns / 1000, ns % 1000); }

// Two levels over time, thinned out: no more than the last of 100 us, and the highest before it.
class Counter {
 public:
  struct Sample {
    uint64_t at_ns = 0, first = 0, second = 0;

    uint64_t sum() const { return first + second; }
    bool same(const Sample& other) const { return first == other.first && second == other.second; }
  };

  template <typename Emit>
  void note(const Sample& sample, Emit&& emit) {
    constexpr uint64_t interval_ns = 100'000;
    if (any_ && sample.same(waiting_ ? last_ : emitted_)) return;
    if (any_ && sample.at_ns < emitted_.at_ns + interval_ns) {
      if (!waiting_ || sample.sum() > highest_.sum()) highest_ = sample;
      last_ = sample;
      waiting_ = true;
      return;
    }
    flush(emit);
    emit(sample);
    emitted_ = sample;
    any_ = true;
  }

  template <typename Emit>
  void flush(Emit&& emit) {
    if (!waiting_) return;
    waiting_ = false;
    if (highest_.sum() > last_.sum() && highest_.sum() > emitted_.sum()) emit(highest_);
    emit(last_);
    emitted_ = last_;
  }

 private:
  bool any_ = false, waiting_ = false;
  Sample emitted_, highest_, last_;
};

class ChromeExporter : public Exporter {
 public:
  ChromeExporter(OutputFile& out, const ExportOptions& options) : out_(out), options_(options) {}

  void record(const Record& record, const Summary& log) override {
    const uint64_t at_ns = log.since_start(log.record_ns());
    if (at_ns < options_.begin_ns || at_ns > options_.end_ns) return;
    if (!started_) start(log);
    if (!options_.counters_only) {
      switch (record.kind) {
        case Kind::alloc:
          began(record, log, at_ns);
          break;
        case Kind::free:
          ended(record, at_ns);
          break;
        case Kind::promote:
        case Kind::demote:
        case Kind::gave_up:
          moved(record, at_ns);
          break;
        default:
          break;
      }
    }
    if (record.kind == Kind::out_of_memory) failed(record, log, at_ns);
    if (record.kind == Kind::warning || record.kind == Kind::guard) warned(record, at_ns);
    count(record, log, at_ns);
  }

  void finish(const Summary& log) override {
    if (!started_) start(log);
    for (auto& [device, counters] : counters_) flush(device, counters);
    std::string command = json_string(log.command);
    out_.put(
        fmt::format("\n],\"metadata\":{{\"writer\":\"flexlom {}\",\"command\":{},\"host\":{}}}}}\n",
                    FLEXLOM_VERSION, command, json_string(log.host)));
  }

 private:
  struct Open {  // an allocation that has begun and not ended
    uint64_t order, at_ns, tid;
    SiteId site;
    std::string name;
  };
  struct Counters {
    Counter use, frames, moves;
  };
  static constexpr int host = -1;  // among counters_
  // Beyond the greatest thread id of Linux: rows of ours among the program's threads.
  static constexpr uint64_t first_made_up_tid = (1 << 22) + 1;
  static constexpr uint64_t stacks_tid = first_made_up_tid + Record::most_devices + 1;

  void event(const std::string& text) {
    out_.put(first_ ? "\n" : ",\n");
    first_ = false;
    out_.put(text);
  }

  void start(const Summary& log) {
    started_ = true;
    pid_ = log.pid == 0 ? 1 : log.pid;
    out_.put("{\"traceEvents\":[");
    std::string name = log.command.substr(0, log.command.find(' '));
    name = name.substr(name.rfind('/') + 1);
    event(fmt::format(
        R"({{"ph":"M","pid":{0},"tid":{0},"name":"process_name","args":{{"name":{1}}}}})", pid_,
        json_string(name.empty() ? "flexlom" : name)));
    if (options_.begin_ns == 0 || options_.counters_only) return;
    // What was already there when the part that is shown begins.
    for (const auto& [address, allocation] : log.live) {
      if (log.since_start(allocation.at_ns) < options_.begin_ns)
        begin(allocation, log, 0, options_.begin_ns);
    }
  }

  void begin(const Allocation& a, const Summary& log, uint64_t tid, uint64_t at_ns) {
    if (a.given_bytes < options_.min_bytes || !keeps(log, a.site)) return;
    const trace::Site& site = log.sites[a.site];
    std::string call = printable(log.sites.call_name(site.call));
    Open open{a.order, at_ns, tid == 0 ? pid_ : tid, a.site,
              json_string(call.empty() ? "unknown call" : call)};
    std::string text = async('b', open, at_ns);
    text += fmt::format(R"(,"args":{{"address":"{:#x}","bytes":{},"given":{},"on_host":{},)"
                        R"("device":{},"size":"{}")",
                        a.address, a.asked_bytes, a.given_bytes, a.host_bytes, a.device,
                        size_class(a.asked_bytes));
    if (site.stream != 0) text += fmt::format(R"(,"stream":"{:#x}")", site.stream);
    if (site.frame != 0) {
      if (options_.full_stacks) {
        text += R"(,"stack":)" + whole_stack(log, site.frame);
      } else {
        text +=
            fmt::format(R"(,"stack_id":{},"stack":{})", site.frame, stack(log, site.frame, at_ns));
      }
    }
    event(text + "}}");
    open_.insert_or_assign(a.address, std::move(open));
  }

  // As JSON, innermost first.
  const std::string& whole_stack(const Summary& log, trace::FrameId frame) {
    auto [place, is_new] = stacks_.try_emplace(frame);
    if (!is_new) return place->second;
    std::string text;
    for (const trace::FrameLabel& label : log.frames.stack(frame)) {
      text += (text.empty() ? "" : " < ") + printable(label.function);
      if (!label.file.empty()) text += fmt::format(" ({}:{})", printable(label.file), label.line);
    }
    place->second = json_string(text);
    return place->second;
  }

  // The same, short. When a stack comes for the first time its whole text is put on a row of its
  // own: with every allocation that has it, it would be most of a file that viewers can just take.
  const std::string& stack(const Summary& log, trace::FrameId frame, uint64_t at_ns) {
    auto [place, is_new] = short_stacks_.try_emplace(frame);
    if (!is_new) return place->second;
    if (short_stacks_.size() == 1) name_row(stacks_tid, "call stacks");
    event(fmt::format(R"({{"ph":"i","s":"t","pid":{},"tid":{},"ts":{},"name":"stack {}",)"
                      R"("args":{{"stack_id":{},"stack":{}}}}})",
                      pid_, stacks_tid, microseconds(at_ns), frame, frame,
                      whole_stack(log, frame)));
    stacks_.erase(frame);
    place->second = json_string(short_stack(log.frames.stack(frame)));
    return place->second;
  }

  void name_row(uint64_t tid, std::string_view name) {
    event(
        fmt::format(R"({{"ph":"M","pid":{},"tid":{},"name":"thread_name","args":{{"name":"{}"}}}})",
                    pid_, tid, name));
  }

  void began(const Record& record, const Summary& log, uint64_t at_ns) {
    if (!record.address) return;
    ended(record, at_ns);  // of an allocation whose free was dropped
    auto allocation = log.live.find(*record.address);
    if (allocation == log.live.end() || allocation->second.order != log.allocs) return;
    begin(allocation->second, log, record.tid, at_ns);
  }

  // The end repeats name, category and id of the beginning, and must not come before it.
  void ended(const Record& record, uint64_t at_ns) {
    auto open = open_.find(record.address.value_or(0));
    if (open == open_.end()) return;
    event(async('e', open->second, std::max(at_ns, open->second.at_ns)) + "}");
    open_.erase(open);
  }

  std::string async(char phase, const Open& open, uint64_t at_ns) const {
    return fmt::format(R"({{"ph":"{}","pid":{},"tid":{},"ts":{},"cat":"alloc",)"
                       R"("id2":{{"local":"{:#x}"}},"name":{})",
                       phase, pid_, open.tid, microseconds(at_ns), open.order, open.name);
  }

  bool keeps(const Summary& log, SiteId site) {
    if (!options_.filter.active()) return true;
    while (kept_.size() <= site)
      kept_.push_back(options_.filter.keeps(log, static_cast<SiteId>(kept_.size())));
    return kept_[site];
  }

  void moved(const Record& record, uint64_t at_ns) {
    const uint64_t tid = first_made_up_tid + static_cast<uint64_t>(record.device);
    if (!move_rows_[record.device]) {
      move_rows_[record.device] = true;
      name_row(tid, fmt::format("gpu{} moves", record.device));
    }
    std::string text =
        fmt::format(R"({{"ph":"i","s":"t","pid":{},"tid":{},"ts":{},"name":"{}","args":{{)", pid_,
                    tid, microseconds(at_ns),
                    record.kind == Kind::gave_up ? "gave up" : trace::name_of(record.kind));
    if (record.kind == Kind::gave_up) {
      text += "\"reason\":" + json_string(printable(record.note));
    } else {
      text += fmt::format(R"("address":"{:#x}","bytes":{},"how":{})", record.address.value_or(0),
                          record.given_bytes.value_or(0), json_string(printable(record.note)));
    }
    event(text + "}}");
  }

  void failed(const Record& record, const Summary& log, uint64_t at_ns) {
    uint64_t asked = record.asked_bytes.value_or(0);
    std::string holders;
    if (!log.failures.empty() && log.failure_count == log.failures.size()) {
      asked = log.failures.back().asked_bytes;
      for (const trace::Holder& holder : log.failures.back().holders) {
        if (!holders.empty()) holders += ", ";
        holders += fmt::format("{} {}", human_bytes(holder.bytes),
                               printable(log.sites.call_of(holder.site)));
      }
    }
    event(fmt::format(R"({{"ph":"i","s":"p","pid":{},"tid":{},"ts":{},"name":"out of memory",)"
                      R"("args":{{"device":{},"requested":{},"call":{},"held by":{}}}}})",
                      pid_, record.tid == 0 ? pid_ : record.tid, microseconds(at_ns), record.device,
                      asked, json_string(printable(record.call)), json_string(holders)));
  }

  void warned(const Record& record, uint64_t at_ns) {
    event(fmt::format(
        R"({{"ph":"i","s":"p","pid":{},"tid":{},"ts":{},"name":"{}","args":{{"text":{}}}}})", pid_,
        record.tid == 0 ? pid_ : record.tid, microseconds(at_ns), name_of(record.kind),
        json_string(printable(record.json().text("text").value_or("")))));
  }

  // Each member of args is a track of its own, named after the event and the member.
  void sample(const std::string& name, const char* first, const char* second,
              const Counter::Sample& sample) {
    std::string text = fmt::format(R"({{"ph":"C","pid":{},"ts":{},"name":"{}","args":{{"{}":{})",
                                   pid_, microseconds(sample.at_ns), name, first, sample.first);
    if (second != nullptr) text += fmt::format(R"(,"{}":{})", second, sample.second);
    event(text + "}}");
  }
  auto use_of(int device) {
    return [this, device](const Counter::Sample& s) {
      sample(fmt::format("gpu{} bytes", device), "device", "host", s);
    };
  }
  auto frames_of(int device) {
    return [this, device](const Counter::Sample& s) {
      sample(device == host ? "host frames" : fmt::format("gpu{} frames", device), "held", nullptr,
             s);
    };
  }
  auto moves_of(int device) {
    return [this, device](const Counter::Sample& s) {
      sample(fmt::format("gpu{} moved so far", device), "to device", "to host", s);
    };
  }

  void count(const Record& record, const Summary& log, uint64_t at_ns) {
    auto device = log.devices.find(record.device);
    if (device == log.devices.end() || record.kind == Kind::header) return;
    const trace::DeviceUse& use = device->second;
    Counters& counters = counters_[record.device];
    const uint64_t spilled = std::min(use.spilled.now_bytes, use.in_use.now_bytes);
    counters.use.note({at_ns, use.in_use.now_bytes - spilled, spilled}, use_of(record.device));
    counters.frames.note({at_ns, use.held.now_bytes, 0}, frames_of(record.device));
    if (use.moves.any())
      counters.moves.note({at_ns, use.moves.promoted_bytes, use.moves.demoted_bytes},
                          moves_of(record.device));
    if (log.host_held.most_bytes != 0)
      counters_[host].frames.note({at_ns, log.host_held.now_bytes, 0}, frames_of(host));
  }

  void flush(int device, Counters& counters) {
    counters.use.flush(use_of(device));
    counters.frames.flush(frames_of(device));
    counters.moves.flush(moves_of(device));
  }

  OutputFile& out_;
  const ExportOptions& options_;
  bool started_ = false, first_ = true;
  uint64_t pid_ = 1;
  std::unordered_map<trace::FrameId, std::string> stacks_, short_stacks_;  // as JSON
  std::unordered_map<uint64_t, Open> open_;                                // by address
  std::map<int, Counters> counters_;
  std::map<int, bool> move_rows_;
  std::vector<char> kept_;  // by site
};

}  // namespace

std::unique_ptr<Exporter> chrome_exporter(OutputFile& out, const ExportOptions& options) {
  return std::make_unique<ChromeExporter>(out, options);
}

}  // namespace flexlom::tool
