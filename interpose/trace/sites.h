// Allocations grouped by what their records have in common: who asked, where, and for how much.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "interpose/trace/frames.h"

namespace flexlom::trace {

using SiteId = uint32_t;

// What the allocations of one site add up to over the whole log.
struct Site {
  int device = 0;
  uint32_t call = 0;  // Sites::call_name()
  uint64_t stream = 0;
  uint64_t asked_bytes = 0;  // of each; 0 in the site that takes what no site is left for
  FrameId frame = 0;         // who called; 0: not known

  uint64_t allocs = 0, allocated_bytes = 0;       // given, over all allocations
  uint64_t live_count = 0, live_bytes = 0;        // at the end of what has been read
  uint64_t short_lived = 0;                       // freed within short_life_ns
  uint64_t lifetime_ns = 0;                       // of those that were freed, together
  uint64_t spilled_count = 0, spilled_bytes = 0;  // placed on the host when allocated
  uint64_t promoted_bytes = 0, demoted_bytes = 0;
  uint64_t context_end_count = 0, context_end_bytes = 0;  // never freed: their context ended
};

// Bounded, whatever the log holds. Not thread safe.
class Sites {
 public:
  static constexpr size_t most_sites = 1 << 16;
  static constexpr size_t most_calls = 256;
  static constexpr size_t longest_call = 64;
  static constexpr uint64_t short_life_ns = 1'000'000;

  Sites();

  SiteId find_or_add(int device, std::string_view call, uint64_t stream, uint64_t asked_bytes,
                     FrameId frame = 0);
  Site& operator[](SiteId id) { return sites_[id]; }
  const Site& operator[](SiteId id) const { return sites_[id]; }
  size_t size() const { return sites_.size(); }

  uint32_t call_id(std::string_view call);  // of a name that is remembered from now on
  const std::string& call_name(uint32_t call) const { return calls_[call]; }
  const std::string& call_of(SiteId id) const { return calls_[sites_[id].call]; }

  // Allocations that found no site of their own because there were too many.
  uint64_t crowded_out() const { return crowded_out_; }

 private:
  struct Key {
    int device;
    uint32_t call;
    uint64_t stream, asked_bytes;
    FrameId frame;
    bool operator==(const Key&) const = default;
  };
  struct Hash {
    size_t operator()(const Key& key) const;
  };
  std::vector<Site> sites_;
  std::unordered_map<Key, SiteId, Hash> ids_;
  std::vector<std::string> calls_;  // [0] is "", the last one that fits is "other calls"
  std::map<std::string, uint32_t, std::less<>> call_ids_;
  uint64_t crowded_out_ = 0;
};

}  // namespace flexlom::trace
