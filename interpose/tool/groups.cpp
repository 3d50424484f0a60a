#include "interpose/tool/groups.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <map>
#include <tuple>

#include "interpose/tool/output.h"

namespace flexlom::tool {

using trace::Allocation;
using trace::Site;
using trace::SiteId;
using trace::Summary;

std::string size_class(uint64_t bytes) {
  constexpr uint64_t smallest = 512;
  if (bytes == 0) return "other sizes";
  if (bytes <= smallest) return "up to " + human_bytes(smallest);
  if (bytes > uint64_t{1} << 62) return "more than " + human_bytes(uint64_t{1} << 62);
  const uint64_t end = std::bit_ceil(bytes);
  return human_bytes(end / 2) + " to " + human_bytes(end);
}

namespace {

// Neither a ';' nor a control character may be part of a frame; names come from the log.
std::string frame_text(std::string_view name) {
  std::string text = printable(name);
  std::replace(text.begin(), text.end(), ';', ':');
  return text;
}

}  // namespace

std::vector<std::string> frames_of(const Summary& log, SiteId id) {
  const Site& site = log.sites[id];
  std::vector<std::string> frames = {fmt::format("gpu{}", site.device)};
  const std::vector<trace::FrameLabel> stack = log.frames.stack(site.frame);
  for (auto label = stack.rbegin(); label != stack.rend(); ++label)
    frames.push_back(frame_text(label->function));
  const std::string call = frame_text(log.sites.call_name(site.call));
  frames.push_back(call.empty() ? "unknown call" : call);
  if (site.stream != 0) frames.push_back(fmt::format("stream {:#x}", site.stream));
  frames.push_back(size_class(site.asked_bytes));
  return frames;
}

std::string folded_frames(const Summary& log, SiteId site) {
  std::string folded;
  for (const std::string& frame : frames_of(log, site)) {
    if (!folded.empty()) folded += ';';
    folded += frame;
  }
  return folded;
}

void Filter::Free::operator()(regex_t* pattern) const {
  regfree(pattern);
  delete pattern;
}

bool Filter::compile(const std::string& text, Pattern& pattern, std::string* error) {
  auto* compiled = new regex_t;
  const int problem = regcomp(compiled, text.c_str(), REG_EXTENDED | REG_NOSUB);
  if (problem == 0) {
    pattern.reset(compiled);
    return true;
  }
  char reason[128];
  regerror(problem, compiled, reason, sizeof reason);
  delete compiled;
  if (error != nullptr) *error = fmt::format("'{}' is no regular expression: {}", text, reason);
  return false;
}

bool Filter::focus(const std::string& pattern, std::string* error) {
  focus_text_ = pattern;
  return compile(pattern, focus_, error);
}

bool Filter::ignore(const std::string& pattern, std::string* error) {
  ignore_text_ = pattern;
  return compile(pattern, ignore_, error);
}

bool Filter::keeps(const Summary& log, SiteId site) const {
  if (!active()) return true;
  const std::string frames = folded_frames(log, site);
  auto matches = [&frames](const Pattern& pattern) {
    return regexec(pattern.get(), frames.c_str(), 0, nullptr, 0) == 0;
  };
  return (focus_ == nullptr || matches(focus_)) && (ignore_ == nullptr || !matches(ignore_));
}

std::string Filter::in_words() const {
  std::string words;
  if (focus_ != nullptr) words = "only what matches '" + printable(focus_text_) + "'";
  if (ignore_ != nullptr)
    words += (words.empty() ? "" : ", ") + ("without '" + printable(ignore_text_) + "'");
  return words;
}

namespace {

class Grouping {
 public:
  Grouping(const Summary& log, const Filter& filter, By by)
      : log_(log), by_stack_(by == By::stack && log.frames.size() != 0), kept_(log.sites.size()) {
    for (SiteId id = 0; id < log.sites.size(); id++) kept_[id] = filter.keeps(log, id);
  }

  // The group of a site, null when the filter leaves it out.
  Group* of(SiteId id) {
    if (!kept_[id]) return nullptr;
    const Site& site = log_.sites[id];
    auto [place, is_new] = groups_.try_emplace(std::tuple(
        site.device, site.call, by_stack_ ? 0 : site.asked_bytes, by_stack_ ? site.frame : 0));
    Group& group = place->second;
    if (is_new) {
      group.device = site.device;
      group.call = log_.sites.call_name(site.call);
      group.asked_bytes = group.smallest = group.largest = site.asked_bytes;
      if (by_stack_) group.frame = site.frame;
    }
    group.smallest = std::min(group.smallest, site.asked_bytes);
    group.largest = std::max(group.largest, site.asked_bytes);
    if (group.smallest != group.largest) group.asked_bytes = 0;
    return &group;
  }

  void add(const Allocation& allocation) {
    Group* group = of(allocation.site);
    if (group == nullptr) return;
    const uint64_t end = allocation.address + allocation.given_bytes;
    group->lowest =
        group->count == 0 ? allocation.address : std::min(group->lowest, allocation.address);
    group->end = std::max(group->end, end);
    group->count++;
    group->bytes += allocation.given_bytes;
    group->host_bytes += allocation.host_bytes;
  }

  std::vector<Group> take() {
    std::vector<Group> list;
    for (auto& [key, group] : groups_) list.push_back(std::move(group));
    return list;
  }

 private:
  const Summary& log_;
  const bool by_stack_;
  std::vector<char> kept_;
  std::map<std::tuple<int, uint32_t, uint64_t, trace::FrameId>, Group> groups_;
};

}  // namespace

std::vector<Group> peak_groups(const Summary& log, int device, const Filter& filter, By by) {
  Grouping grouping(log, filter, by);
  auto use = log.devices.find(device);
  if (use == log.devices.end()) return {};
  for (const Allocation& allocation : use->second.at_peak.allocations(log.live, device))
    grouping.add(allocation);
  return grouping.take();
}

std::vector<Group> live_groups(const Summary& log, const Filter& filter, By by) {
  Grouping grouping(log, filter, by);
  for (const auto& [address, allocation] : log.live) grouping.add(allocation);
  return grouping.take();
}

std::vector<Group> all_groups(const Summary& log, const Filter& filter, By by) {
  Grouping grouping(log, filter, by);
  for (SiteId id = 0; id < log.sites.size(); id++) {
    Group* group = grouping.of(id);
    if (group == nullptr) continue;
    const Site& site = log.sites[id];
    group->count += site.allocs;
    group->bytes += site.allocated_bytes;
    group->short_lived += site.short_lived;
    group->freed += site.allocs - site.live_count;
    group->lifetime_ns += site.lifetime_ns;
    group->spilled_count += site.spilled_count;
    group->spilled_bytes += site.spilled_bytes;
    group->promoted_bytes += site.promoted_bytes;
    group->demoted_bytes += site.demoted_bytes;
  }
  return grouping.take();
}

std::vector<Group> top_groups(std::vector<Group> groups, size_t top,
                              uint64_t (*value)(const Group&)) {
  std::erase_if(groups, [value](const Group& group) { return value(group) == 0; });
  std::sort(groups.begin(), groups.end(), [value](const Group& a, const Group& b) {
    if (value(a) != value(b)) return value(a) > value(b);
    return std::tie(a.device, a.asked_bytes, a.call, a.frame) <
           std::tie(b.device, b.asked_bytes, b.call, b.frame);
  });
  if (groups.size() > top) groups.resize(top);
  return groups;
}

}  // namespace flexlom::tool
