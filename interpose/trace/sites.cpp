#include "interpose/trace/sites.h"

namespace flexlom::trace {

Sites::Sites() {
  calls_.emplace_back();
  call_ids_.emplace("", 0);
}

size_t Sites::Hash::operator()(const Key& key) const {
  uint64_t hash = key.asked_bytes * 0x9e3779b97f4a7c15u;
  hash ^= key.frame * 0xd6e8feb86659fd93u;
  hash ^= (key.stream + (static_cast<uint64_t>(key.call) << 40) +
           (static_cast<uint64_t>(key.device) << 52)) *
          0xbf58476d1ce4e5b9u;
  return static_cast<size_t>(hash ^ hash >> 31);
}

uint32_t Sites::call_id(std::string_view call) {
  call = call.substr(0, longest_call);
  if (auto known = call_ids_.find(call); known != call_ids_.end()) return known->second;
  if (calls_.size() >= most_calls) return most_calls - 1;
  const auto id = static_cast<uint32_t>(calls_.size());
  calls_.emplace_back(id + 1 == most_calls ? "other calls" : call);
  call_ids_.emplace(call, id);
  return id;
}

SiteId Sites::find_or_add(int device, std::string_view call, uint64_t stream, uint64_t asked_bytes,
                          FrameId frame) {
  Key key{device, call_id(call), stream, asked_bytes, frame};
  if (auto known = ids_.find(key); known != ids_.end()) return known->second;
  if (sites_.size() >= most_sites) {
    // One more site for each device, and there are at most 1024 of those.
    crowded_out_++;
    key = {device, 0, 0, 0, 0};
    if (auto known = ids_.find(key); known != ids_.end()) return known->second;
  }
  Site site;
  site.device = key.device;
  site.call = key.call;
  site.stream = key.stream;
  site.asked_bytes = key.asked_bytes;
  site.frame = key.frame;
  sites_.push_back(site);
  const auto id = static_cast<SiteId>(sites_.size() - 1);
  ids_.emplace(key, id);
  return id;
}

}  // namespace flexlom::trace
