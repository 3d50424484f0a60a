// One line for each event, as RFC 4180 has it but with LF at the end of lines.
#include <fmt/format.h>

#include <unordered_map>

#include "interpose/tool/export.h"
#include "interpose/tool/output.h"

namespace flexlom::tool {
namespace {

using trace::Kind;
using trace::Record;
using trace::Summary;

constexpr const char* heading =
    "time_s,kind,device,address,asked_bytes,given_bytes,host_bytes,call,stream,tid,seq,code,note,"
    "in_use_bytes,spilled_bytes,device_frames_bytes,host_frames_bytes,stack_id,stack\n";

std::string quoted(std::string_view text) {
  const std::string plain = printable(text);
  if (plain.find_first_of(",\"") == std::string::npos) return plain;
  std::string out = "\"";
  for (char c : plain) {
    if (c == '"') out += '"';
    out += c;
  }
  return out + '"';
}

bool is_event(Kind kind) {
  switch (kind) {
    case Kind::header:
    case Kind::stats:
    case Kind::moves:
    case Kind::drop:
    case Kind::function:
    case Kind::launch:
    case Kind::timed:
    case Kind::wait:
    case Kind::module:
    case Kind::frame:
    case Kind::perf_map:
    case Kind::unknown:
      return false;
    default:
      return true;
  }
}

class CsvExporter : public Exporter {
 public:
  CsvExporter(OutputFile& out, const ExportOptions& options) : out_(out), options_(options) {}

  void record(const Record& record, const Summary& log) override {
    const uint64_t at_ns = log.since_start(log.record_ns());
    if (!is_event(record.kind) || at_ns < options_.begin_ns || at_ns > options_.end_ns) return;
    if (record.asked_bytes.value_or(options_.min_bytes) < options_.min_bytes) return;
    start();
    line_.clear();
    auto out = std::back_inserter(line_);
    fmt::format_to(out, "{}.{:09},{},", at_ns / 1'000'000'000, at_ns % 1'000'000'000,
                   trace::name_of(record.kind));
    if (record.has_device) fmt::format_to(out, "{}", record.device);
    line_ += ',';
    if (record.address) fmt::format_to(out, "{:#x}", *record.address);
    for (const auto& bytes : {record.asked_bytes, record.given_bytes, record.extra_bytes}) {
      line_ += ',';
      if (bytes) fmt::format_to(out, "{}", *bytes);
    }
    line_ += ',' + quoted(record.call) + ',';
    if (record.stream != 0) fmt::format_to(out, "{:#x}", record.stream);
    for (uint64_t number : {record.tid, record.seq}) {
      line_ += ',';
      if (number != 0) fmt::format_to(out, "{}", number);
    }
    line_ += ',';
    if (record.code != 0) fmt::format_to(out, "{}", record.code);
    line_ += ',' + quoted(record.note);
    // How things stand after the event.
    if (auto device = log.devices.find(record.device);
        record.has_device && device != log.devices.end()) {
      fmt::format_to(out, ",{},{},{}", device->second.in_use.now_bytes,
                     device->second.spilled.now_bytes, device->second.held.now_bytes);
    } else {
      line_ += ",,,";
    }
    fmt::format_to(out, ",{},", log.host_held.now_bytes);
    if (const trace::FrameId frame = log.frames.find(record.frame); frame != 0) {
      fmt::format_to(out, "{},{}", frame, stack_of(frame, log));
    } else {
      line_ += ',';
    }
    line_ += '\n';
    out_.put(line_);
  }

  void finish(const Summary&) override { start(); }

 private:
  void start() {
    if (!started_) out_.put(heading);
    started_ = true;
  }

  // Outermost first, joined by ';'. Only once for each stack, unless all are wanted: many rows have
  // the same few, and the names of C++ are long.
  const std::string& stack_of(trace::FrameId frame, const Summary& log) {
    static const std::string written_before;
    auto [place, is_new] = stacks_.try_emplace(frame);
    if (!is_new) return options_.full_stacks ? place->second : written_before;
    const std::vector<trace::FrameLabel> stack = log.frames.stack(frame);
    std::string text;
    for (auto label = stack.rbegin(); label != stack.rend(); ++label)
      text += (text.empty() ? "" : ";") + label->function;
    place->second = quoted(text);
    return place->second;
  }

  OutputFile& out_;
  const ExportOptions& options_;
  std::unordered_map<trace::FrameId, std::string> stacks_;
  std::string line_;
  bool started_ = false;
};

}  // namespace

std::unique_ptr<Exporter> csv_exporter(OutputFile& out, const ExportOptions& options) {
  return std::make_unique<CsvExporter>(out, options);
}

}  // namespace flexlom::tool
