// Folded stacks ("a;b;c 123") for flamegraph.pl, inferno, speedscope and Perfetto, and speedscope's
// own JSON. Both show sums over a whole log, so they are made at its end.
#include <fmt/format.h>

#include <array>
#include <map>
#include <unordered_map>

#include "interpose/tool/export.h"
#include "interpose/tool/output.h"

namespace flexlom::tool {
namespace {

using trace::Allocation;
using trace::Site;
using trace::SiteId;
using trace::Summary;

// What the width of a frame can stand for.
struct Cost {
  const char* name;
  const char* title;
  bool bytes;
  enum class Of { peak, live, all } of;
  uint64_t (*of_site)(const Site& site);  // for Of::all
};

constexpr std::array costs = {
    Cost{"peak_space", "bytes in use at the peak", true, Cost::Of::peak, nullptr},
    Cost{"peak_objects", "allocations at the peak", false, Cost::Of::peak, nullptr},
    Cost{"inuse_space", "bytes live at the end", true, Cost::Of::live, nullptr},
    Cost{"inuse_objects", "allocations live at the end", false, Cost::Of::live, nullptr},
    Cost{"alloc_space", "bytes allocated in all", true, Cost::Of::all,
         [](const Site& site) { return site.allocated_bytes; }},
    Cost{"alloc_objects", "allocations in all", false, Cost::Of::all,
         [](const Site& site) { return site.allocs; }},
    Cost{"short_lived_objects", "allocations freed within 1 ms", false, Cost::Of::all,
         [](const Site& site) { return site.short_lived; }},
    Cost{"spilled_bytes", "bytes placed on the host when allocated", true, Cost::Of::all,
         [](const Site& site) { return site.spilled_bytes; }},
    Cost{"promoted_bytes", "bytes moved to the device", true, Cost::Of::all,
         [](const Site& site) { return site.promoted_bytes; }},
    Cost{"demoted_bytes", "bytes moved to the host", true, Cost::Of::all,
         [](const Site& site) { return site.demoted_bytes; }},
};

const Cost* find_cost(const std::string& name) {
  for (const Cost& cost : costs) {
    if (name == cost.name) return &cost;
  }
  return nullptr;
}

// Weights by folded frames. Where a moment is shown the innermost frame is the place.
class Stacks {
 public:
  Stacks(const Summary& log, const Filter& filter) : log_(log) {
    for (SiteId id = 0; id < log.sites.size(); id++)
      frames_.push_back(filter.keeps(log, id) ? folded_frames(log, id) : std::string());
  }

  std::map<std::string, uint64_t> of(const Cost& cost) const {
    std::map<std::string, uint64_t> stacks;
    switch (cost.of) {
      case Cost::Of::all:
        for (SiteId id = 0; id < log_.sites.size(); id++)
          add(stacks, id, "", cost.of_site(log_.sites[id]));
        break;
      case Cost::Of::live:
        for (const auto& [address, allocation] : log_.live) add(stacks, allocation, cost.bytes);
        break;
      case Cost::Of::peak:
        for (const auto& [ordinal, device] : log_.devices) {
          for (const Allocation& allocation : device.at_peak.allocations(log_.live, ordinal))
            add(stacks, allocation, cost.bytes);
        }
        break;
    }
    return stacks;
  }

 private:
  void add(std::map<std::string, uint64_t>& stacks, SiteId site, const char* place,
           uint64_t weight) const {
    if (weight != 0 && !frames_[site].empty()) stacks[frames_[site] + place] += weight;
  }

  // An allocation counts as one where the greater part of it lies.
  void add(std::map<std::string, uint64_t>& stacks, const Allocation& allocation,
           bool bytes) const {
    const uint64_t on_device = allocation.given_bytes - allocation.host_bytes;
    const bool mostly_host = allocation.host_bytes > on_device;
    add(stacks, allocation.site, ";on the device", bytes ? on_device : !mostly_host);
    add(stacks, allocation.site, ";on the host", bytes ? allocation.host_bytes : mostly_host);
  }

  const Summary& log_;
  std::vector<std::string> frames_;  // by site, empty: left out
};

class FoldedExporter : public Exporter {
 public:
  FoldedExporter(OutputFile& out, const ExportOptions& options) : out_(out), options_(options) {}

  void finish(const Summary& log) override {
    const Cost* cost = find_cost(options_.cost);
    if (cost == nullptr) return;
    for (const auto& [frames, weight] : Stacks(log, options_.filter).of(*cost))
      out_.put(fmt::format("{} {}\n", frames, weight));
  }

 private:
  OutputFile& out_;
  const ExportOptions& options_;
};

// https://www.speedscope.app/file-format-schema.json: one "sampled" profile for each cost.
class SpeedscopeExporter : public Exporter {
 public:
  SpeedscopeExporter(OutputFile& out, const ExportOptions& options)
      : out_(out), options_(options) {}

  void finish(const Summary& log) override {
    const Stacks stacks(log, options_.filter);
    std::string profiles;
    for (const Cost& cost : costs) {
      const auto weights = stacks.of(cost);
      if (weights.empty()) continue;
      if (!profiles.empty()) profiles += ",\n";
      profiles += profile(cost, weights);
    }
    if (profiles.empty()) profiles = profile(costs[0], {});  // a file without one is refused
    std::string frames;
    for (const std::string& name : names_) {
      if (!frames.empty()) frames += ',';
      frames += "{\"name\":" + json_string(name) + "}";
    }
    out_.put(
        fmt::format("{{\"$schema\":\"https://www.speedscope.app/file-format-schema.json\",\n"
                    "\"name\":{},\"activeProfileIndex\":0,\"exporter\":\"flexlom@{}\",\n"
                    "\"shared\":{{\"frames\":[{}]}},\n\"profiles\":[\n{}\n]}}\n",
                    json_string(options_.name), FLEXLOM_VERSION, frames, profiles));
  }

 private:
  size_t frame(const std::string& name) {
    auto [place, is_new] = ids_.try_emplace(name, names_.size());
    if (is_new) names_.push_back(name);
    return place->second;
  }

  std::string profile(const Cost& cost, const std::map<std::string, uint64_t>& stacks) {
    std::string samples, weights;
    uint64_t sum = 0;
    for (const auto& [frames, weight] : stacks) {
      if (!samples.empty()) samples += ',';
      samples += '[';
      for (size_t begin = 0; begin <= frames.size();) {
        const size_t end = std::min(frames.find(';', begin), frames.size());
        if (begin != 0) samples += ',';
        samples += std::to_string(frame(frames.substr(begin, end - begin)));
        begin = end + 1;
      }
      samples += ']';
      weights += (weights.empty() ? "" : ",") + std::to_string(weight);
      sum += weight;
    }
    return fmt::format(
        "{{\"type\":\"sampled\",\"name\":{},\"unit\":\"{}\",\"startValue\":0,\"endValue\":{},"
        "\"samples\":[{}],\"weights\":[{}]}}",
        json_string(cost.title), cost.bytes ? "bytes" : "none", sum, samples, weights);
  }

  OutputFile& out_;
  const ExportOptions& options_;
  std::vector<std::string> names_;
  std::unordered_map<std::string, size_t> ids_;
};

}  // namespace

bool is_cost(const std::string& name) { return find_cost(name) != nullptr; }

std::string cost_names() {
  std::string names;
  for (const Cost& cost : costs) names += (names.empty() ? "" : ", ") + std::string(cost.name);
  return names;
}

std::unique_ptr<Exporter> folded_exporter(OutputFile& out, const ExportOptions& options) {
  return std::make_unique<FoldedExporter>(out, options);
}

std::unique_ptr<Exporter> speedscope_exporter(OutputFile& out, const ExportOptions& options) {
  return std::make_unique<SpeedscopeExporter>(out, options);
}

}  // namespace flexlom::tool
