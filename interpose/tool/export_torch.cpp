// A memory snapshot as torch.cuda.memory._dump_snapshot() writes it, for pytorch.org/memory_viz and
// _memory_viz.py, of the memory of the whole process. See torch_memory.h for what is what.
#include <fmt/format.h>

#include <unordered_map>

#include "interpose/tool/export.h"
#include "interpose/tool/output.h"
#include "interpose/tool/pickle.h"
#include "interpose/tool/torch_memory.h"

namespace flexlom::tool {
namespace {

using trace::Kind;
using trace::Record;
using trace::SiteId;
using trace::Summary;

class TorchExporter : public Exporter {
 public:
  TorchExporter(OutputFile& out, const ExportOptions& options)
      : out_(out), memory_(options.limit) {}

  void record(const Record& record, const Summary& log) override {
    const uint64_t time_us = log.since_start(log.record_ns()) / 1000;
    if (record.kind == Kind::out_of_memory) {
      const auto device = log.devices.find(record.device);
      const uint64_t budget = device == log.devices.end() ? 0 : device->second.budget_bytes;
      const uint64_t held = record.given_bytes.value_or(0);
      uint64_t asked = record.asked_bytes.value_or(0);
      if (log.failure_count == log.failures.size()) asked = log.failures.back().asked_bytes;
      memory_.out_of_memory(record.device, asked, budget > held ? budget - held : 0,
                            log.frames.find(record.frame), time_us);
    }
    if (!record.address) return;
    const uint64_t address = *record.address;
    const uint64_t given = Record::possible(record.given_bytes).value_or(0);
    switch (record.kind) {
      case Kind::alloc: {
        const auto allocation = log.live.find(address);
        if (allocation == log.live.end() || allocation->second.order != log.allocs) return;
        memory_.alloc(record.device, address, allocation->second.asked_bytes, given,
                      allocation->second.site, record.stream, time_us);
        break;
      }
      case Kind::free:
        memory_.free(address, time_us);
        break;
      case Kind::map:
        memory_.map(record.note == "host" ? TorchMemory::host : record.device, address, given,
                    time_us);
        break;
      case Kind::unmap:
        memory_.unmap(address, time_us);
        break;
      case Kind::promote:
        memory_.move(address, record.device, time_us);
        break;
      case Kind::demote:
        memory_.move(address, TorchMemory::host, time_us);
        break;
      default:
        break;
    }
  }

  void finish(const Summary& log) override {
    // Traces are found by their index; the host comes after the last device.
    places_ = log.devices.empty() ? 1 : log.devices.rbegin()->first + 1;
    for (const auto& [place, events] : memory_.events()) places_ = std::max(places_, place + 1);
    start_us_ = log.wall_ns / 1000;
    memo_of_site_.resize(log.sites.size());

    pickle_.begin();
    pickle_.dict();
    pickle_.mark();
    pickle_.word("segments");
    PickleList segments(pickle_);
    memory_.each_segment([&](const TorchMemory::Segment& segment) {
      segments.next();
      write(segment, log);
    });
    segments.end();
    pickle_.word("device_traces");
    PickleList traces(pickle_);
    for (int place = 0; place < places_; place++) {
      traces.next();
      write_trace(place, log);
    }
    traces.next();
    write_trace(TorchMemory::host, log);
    traces.end();
    pickle_.word("allocator_settings");
    pickle_.dict();
    pickle_.word("external_annotations");
    pickle_.list();
    pickle_.set_all();
    pickle_.stop();
    put();
  }

 private:
  void put() {
    out_.put(text_);
    text_.clear();
  }

  int index_of(int place) const { return place == TorchMemory::host ? places_ : place; }

  // The frames of an allocation, leaf first. Most of a snapshot would be the same frames again.
  void frames(SiteId id, const Summary& log) {
    pickle_.word("frames");
    uint32_t& memo = memo_of_site_[id];
    if (memo != 0) return pickle_.recall(memo);
    const trace::Site& site = log.sites[id];
    const std::string call = printable(log.sites.call_name(site.call));
    PickleList list(pickle_);
    list.next();
    frame(call.empty() ? "unknown call" : call, "libcuda.so.1");
    callers(list, site.frame, log);
    list.next();
    frame(site.asked_bytes == 0
              ? std::string("other sizes")
              : fmt::format("{} ({} bytes)", human_bytes(site.asked_bytes), site.asked_bytes),
          "size asked for");
    list.end();
    memo = pickle_.remember();  // never 0: the word "frames" has been remembered before
  }

  void callers(PickleList& list, trace::FrameId innermost, const Summary& log) {
    for (const trace::FrameLabel& label : log.frames.stack(innermost)) {
      list.next();
      frame(printable(label.function), printable(label.file), label.line);
    }
  }

  // The viewer takes memory without frames for older than the recording.
  void own_frame(const char* what) {
    pickle_.word("frames");
    PickleList list(pickle_);
    list.next();
    frame(what, "flexlom");
    list.end();
  }

  void frame(const std::string& name, const std::string& file, uint64_t line = 0) {
    const std::string key = fmt::format("{}\n{}\n{}", name, file, line);
    if (const auto known = memo_of_frame_.find(key); known != memo_of_frame_.end())
      return pickle_.recall(known->second);
    pickle_.dict();
    pickle_.mark();
    pickle_.item("name", name);
    pickle_.item("filename", file);
    pickle_.item("line", line);
    pickle_.set_all();
    memo_of_frame_.emplace(key, pickle_.remember());
  }

  void write(const TorchMemory::Segment& segment, const Summary& log) {
    uint64_t allocated = 0, requested = 0;
    for (const TorchMemory::Block& block : segment.blocks) {
      if (block.requested != 0) allocated += block.size;
      requested += block.requested;
    }
    pickle_.dict();
    pickle_.mark();
    pickle_.item("device", static_cast<uint64_t>(index_of(segment.place)));
    pickle_.item("address", segment.address);
    pickle_.item("total_size", segment.size);
    pickle_.item("allocated_size", allocated);
    pickle_.item("active_size", allocated);
    pickle_.item("requested_size", requested);
    pickle_.item("stream", 0);
    pickle_.word("segment_type");
    pickle_.word("large");
    pickle_.word("is_expandable");
    pickle_.yes();
    own_frame("pages side by side");
    pickle_.word("blocks");
    PickleList blocks(pickle_);
    for (const TorchMemory::Block& block : segment.blocks) {
      blocks.next();
      pickle_.dict();
      pickle_.mark();
      pickle_.item("address", block.address);
      pickle_.item("size", block.size);
      pickle_.item("requested_size", block.requested);
      pickle_.word("state");
      pickle_.word(block.requested == 0 ? "inactive" : "active_allocated");
      if (block.requested == 0) {
        pickle_.word("frames");
        pickle_.list();
      } else {
        frames(block.site, log);
      }
      pickle_.set_all();
    }
    blocks.end();
    pickle_.set_all();
    put();
  }

  void write_trace(int place, const Summary& log) {
    PickleList list(pickle_);
    const auto events = memory_.events().find(place);
    if (events == memory_.events().end()) return;
    auto write_next = [&](const TorchEvent& event, std::string_view action) {
      list.next();
      write(event, action, log);
    };
    for (const TorchEvent& event : events->second) {
      switch (event.action) {
        case TorchAction::alloc:
          write_next(event, "alloc");
          break;
        case TorchAction::free:  // readers expect the pair
          write_next(event, "free_requested");
          write_next(event, "free_completed");
          break;
        case TorchAction::map:
          write_next(event, "segment_map");
          break;
        case TorchAction::unmap:
          write_next(event, "segment_unmap");
          break;
        case TorchAction::oom:
          write_next(event, "oom");
          break;
      }
      put();
    }
    list.end();
  }

  void write(const TorchEvent& event, std::string_view action, const Summary& log) {
    const bool of_block = event.action == TorchAction::alloc || event.action == TorchAction::free;
    pickle_.dict();
    pickle_.mark();
    pickle_.word("action");
    pickle_.word(action);
    pickle_.item(event.action == TorchAction::oom ? "device_free" : "addr", event.address);
    pickle_.item("size", event.size);
    pickle_.item("stream", of_block ? event.stream : 0);
    pickle_.item("time_us", start_us_ + event.time_us);
    if (of_block) {
      frames(event.site, log);
    } else if (event.action == TorchAction::oom) {
      pickle_.word("frames");
      PickleList list(pickle_);
      list.next();
      frame("a request that failed", "flexlom");
      callers(list, event.frame, log);
      list.end();
    } else {
      own_frame(event.action == TorchAction::map ? "page mapped" : "page unmapped");
    }
    pickle_.set_all();
  }

  OutputFile& out_;
  TorchMemory memory_;
  std::string text_;
  Pickle pickle_{text_};
  int places_ = 1;
  uint64_t start_us_ = 0;
  // What frames() and frame() can recall.
  std::vector<uint32_t> memo_of_site_;  // 0: not yet
  std::unordered_map<std::string, uint32_t> memo_of_frame_;
};

}  // namespace

std::unique_ptr<Exporter> torch_exporter(OutputFile& out, const ExportOptions& options) {
  return std::make_unique<TorchExporter>(out, options);
}

}  // namespace flexlom::tool
