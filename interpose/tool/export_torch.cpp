// A memory snapshot as torch.cuda.memory._dump_snapshot() writes it, for pytorch.org/memory_viz and
// _memory_viz.py, of the memory of the whole process. See torch_memory.h for what is what.
#include <fmt/format.h>

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
      memory_.out_of_memory(record.device, asked, budget > held ? budget - held : 0, time_us);
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
    write_frames(log);

    pickle_.begin();
    pickle_.dict();
    pickle_.mark();
    pickle_.text("segments");
    pickle_.list();
    pickle_.mark();
    memory_.each_segment([this](const TorchMemory::Segment& segment) { write(segment); });
    pickle_.append_all();
    pickle_.text("device_traces");
    pickle_.list();
    pickle_.mark();
    for (int place = 0; place < places_; place++) write_trace(place);
    write_trace(TorchMemory::host);
    pickle_.append_all();
    pickle_.text("allocator_settings");
    pickle_.dict();
    pickle_.text("external_annotations");
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

  // The frames of a site, pickled once, leaf first.
  void write_frames(const Summary& log) {
    for (SiteId id = 0; id < log.sites.size(); id++) {
      const trace::Site& site = log.sites[id];
      const std::string call = printable(log.sites.call_name(site.call));
      std::string frames;
      Pickle pickle(frames);
      pickle.list();
      pickle.mark();
      frame(pickle, call.empty() ? "unknown call" : call, "libcuda.so.1");
      for (const trace::FrameLabel& label : log.frames.stack(site.frame))
        frame(pickle, printable(label.function), printable(label.file), label.line);
      frame(pickle,
            site.asked_bytes == 0
                ? std::string("other sizes")
                : fmt::format("{} ({} bytes)", human_bytes(site.asked_bytes), site.asked_bytes),
            "size asked for");
      pickle.append_all();
      frames_.push_back(std::move(frames));
    }
  }

  static void frame(Pickle& pickle, const std::string& name, const std::string& file,
                    uint64_t line = 0) {
    pickle.dict();
    pickle.mark();
    pickle.item("name", name);
    pickle.item("filename", file);
    pickle.item("line", line);
    pickle.set_all();
  }

  void write(const TorchMemory::Segment& segment) {
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
    pickle_.item("segment_type", "large");
    pickle_.text("is_expandable");
    pickle_.yes();
    no_frames();
    pickle_.text("blocks");
    pickle_.list();
    pickle_.mark();
    for (const TorchMemory::Block& block : segment.blocks) {
      pickle_.dict();
      pickle_.mark();
      pickle_.item("address", block.address);
      pickle_.item("size", block.size);
      pickle_.item("requested_size", block.requested);
      pickle_.item("state", block.requested == 0 ? "inactive" : "active_allocated");
      if (block.requested == 0) {
        no_frames();
      } else {
        frames(block.site);
      }
      pickle_.set_all();
    }
    pickle_.append_all();
    pickle_.set_all();
    put();
  }

  void no_frames() {
    pickle_.text("frames");
    pickle_.list();
  }

  void frames(SiteId site) {
    pickle_.text("frames");
    text_ += frames_[site];
  }

  void write_trace(int place) {
    pickle_.list();
    const auto events = memory_.events().find(place);
    if (events == memory_.events().end()) return;
    pickle_.mark();
    for (const TorchEvent& event : events->second) {
      switch (event.action) {
        case TorchAction::alloc:
          write(event, "alloc");
          break;
        case TorchAction::free:  // readers expect the pair
          write(event, "free_requested");
          write(event, "free_completed");
          break;
        case TorchAction::map:
          write(event, "segment_map");
          break;
        case TorchAction::unmap:
          write(event, "segment_unmap");
          break;
        case TorchAction::oom:
          write(event, "oom");
          break;
      }
      put();
    }
    pickle_.append_all();
  }

  void write(const TorchEvent& event, std::string_view action) {
    const bool of_block = event.action == TorchAction::alloc || event.action == TorchAction::free;
    pickle_.dict();
    pickle_.mark();
    pickle_.item("action", action);
    pickle_.item(event.action == TorchAction::oom ? "device_free" : "addr", event.address);
    pickle_.item("size", event.size);
    pickle_.item("stream", of_block ? event.stream : 0);
    pickle_.item("time_us", start_us_ + event.time_us);
    if (of_block) {
      frames(event.site);
    } else {
      no_frames();
    }
    pickle_.set_all();
  }

  OutputFile& out_;
  TorchMemory memory_;
  std::string text_;
  Pickle pickle_{text_};
  int places_ = 1;
  uint64_t start_us_ = 0;
  std::vector<std::string> frames_;  // by site
};

}  // namespace

std::unique_ptr<Exporter> torch_exporter(OutputFile& out, const ExportOptions& options) {
  return std::make_unique<TorchExporter>(out, options);
}

}  // namespace flexlom::tool
