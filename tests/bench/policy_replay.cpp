#include "tests/bench/policy_replay.h"

#include <algorithm>
#include <numeric>
#include <set>

namespace flexlom::sim {
namespace {

namespace policy = pool::policy;

// Where pages lie and whether the host has a right copy; counts traffic once told to.
class Device {
 public:
  Device(const Trace& trace) : trace_(trace), pages_(trace.page_bytes.size()) {
    uint64_t address = 0x500000000000;
    for (uint32_t i = 0; i < pages_.size(); ++i) {
      pages_[i].bytes = trace.page_bytes[i];
      pages_[i].address = address;
      pages_[i].id = i;
      address += pages_[i].bytes;
    }
  }

  std::vector<policy::PageView>& pages() { return pages_; }
  bool resident(uint32_t page) const { return pages_[page].resident; }
  uint64_t free_bytes() const { return trace_.budget_bytes - used_; }
  const Traffic& traffic() const { return traffic_; }
  void count(bool on) { counting_ = on; }

  // A page that appears on the device: new memory, nothing to move.
  void place(uint32_t page) {
    pages_[page].resident = true;
    used_ += pages_[page].bytes;
  }
  void promote(uint32_t page) {
    place(page);
    pages_[page].host_copy = true;
    if (counting_) traffic_.in_bytes += pages_[page].bytes, ++traffic_.moves;
  }
  // Without room on the host, copies of pages that `now` says will stay are given up for it.
  void demote(uint32_t page, policy::Tick now = 0) {
    if (!pages_[page].host_copy && host_tight(pages_[page].bytes)) {
      const uint64_t want = host_ + pages_[page].bytes - trace_.host_bytes;
      for (const uint32_t id : policy::copies_to_drop(pages_, want, now)) {
        if (id != page) pages_[id].host_copy = false, host_ -= pages_[id].bytes;
      }
    }
    if (counting_ && !pages_[page].host_copy) traffic_.out_bytes += pages_[page].bytes;
    if (!pages_[page].host_copy) host_ += pages_[page].bytes;
    traffic_.host_peak_bytes = std::max(traffic_.host_peak_bytes, host_);
    pages_[page].resident = false;
    pages_[page].host_copy = true;
    used_ -= pages_[page].bytes;
  }
  bool host_tight(uint64_t more) const {
    return trace_.host_bytes != 0 && host_ + more > trace_.host_bytes;
  }
  void use(const Touch& touch) {
    policy::PageView& page = pages_[touch.page];
    if (!page.resident) {
      if (counting_) (touch.write ? traffic_.out_bytes : traffic_.in_bytes) += page.bytes;
    } else if (touch.write && page.host_copy) {
      page.host_copy = false;  // its frame on the host is stale; the next demotion writes it anew
      host_ -= page.bytes;
    }
  }

 private:
  const Trace& trace_;
  std::vector<policy::PageView> pages_;
  uint64_t used_ = 0, host_ = 0;
  Traffic traffic_;
  bool counting_ = false;
};

// The program allocates everything in order, before it uses any of it.
void build(Device& device, policy::Kind kind) {
  policy::Context context;
  context.kind = kind;
  for (uint32_t i = 0; i < device.pages().size(); ++i) {
    const uint64_t bytes = device.pages()[i].bytes;
    if (device.free_bytes() < bytes) {
      const auto present = std::span(device.pages()).first(i);
      for (const uint32_t id : policy::victims(present, bytes - device.free_bytes(), 0, context)) {
        device.demote(id);
      }
    }
    if (device.free_bytes() >= bytes) device.place(i);
  }
  for (policy::PageView& page : device.pages()) page.host_copy = page.host_copy || !page.resident;
}

template <class Before, class After>
Traffic replay(const Trace& trace, Device& device, Before&& before, After&& after) {
  std::vector<uint32_t> missing;
  for (uint32_t s = 0; s < trace.submissions(); ++s) {
    device.count(s >= trace.counted_from);
    missing.clear();
    for (uint32_t t = trace.starts[s]; t < trace.end_of(s); ++t) {
      const uint32_t page = trace.touches[t].page;
      if (!device.resident(page)) missing.push_back(page);
    }
    std::sort(missing.begin(), missing.end());
    missing.erase(std::unique(missing.begin(), missing.end()), missing.end());
    before(s, missing);
    for (uint32_t t = trace.starts[s]; t < trace.end_of(s); ++t) device.use(trace.touches[t]);
    after(s, missing);
  }
  return device.traffic();
}

void apply(Device& device, const policy::Plan& plan, policy::Tick now) {
  for (const uint32_t id : plan.demote) device.demote(id, now);
  for (const uint32_t id : plan.promote) {
    if (device.free_bytes() >= device.pages()[id].bytes) device.promote(id);
  }
}

// By page, submissions at which it is touched.
std::vector<std::vector<uint32_t>> uses_of(const Trace& trace) {
  std::vector<std::vector<uint32_t>> uses(trace.page_bytes.size());
  for (uint32_t s = 0; s < trace.submissions(); ++s) {
    for (uint32_t t = trace.starts[s]; t < trace.end_of(s); ++t) {
      auto& of_page = uses[trace.touches[t].page];
      if (of_page.empty() || of_page.back() != s) of_page.push_back(s);
    }
  }
  return uses;
}

constexpr uint32_t kNever = ~uint32_t{0};

}  // namespace

Traffic replay_promoting(const Trace& trace, policy::Kind kind, uint64_t batch_bytes) {
  Device device(trace);
  build(device, kind);
  std::vector<policy::PageView>& pages = device.pages();
  const auto mark = [&](uint32_t s, bool needed) {
    for (uint32_t t = trace.starts[s]; t < trace.end_of(s); ++t) {
      pages[trace.touches[t].page].needed = needed;
    }
  };
  return replay(
      trace, device,
      [&](uint32_t s, const std::vector<uint32_t>& missing) {
        const policy::Tick now = s + 1;
        if (!missing.empty()) {
          mark(s, true);
          policy::Context context;
          context.kind = kind;
          context.free_bytes = device.free_bytes();
          apply(device, policy::plan(pages, batch_bytes, now, context), now);
          mark(s, false);
        }
        for (uint32_t t = trace.starts[s]; t < trace.end_of(s); ++t) {
          policy::touch(pages[trace.touches[t].page].history, now);
        }
      },
      [](uint32_t, const std::vector<uint32_t>&) {});
}

Traffic replay_in_place(const Trace& trace, policy::Kind kind, uint64_t batch_bytes) {
  Device device(trace);
  build(device, policy::Kind::automatic);
  std::vector<policy::PageView>& pages = device.pages();
  uint32_t looked = 0;
  return replay(
      trace, device, [](uint32_t, const std::vector<uint32_t>&) {},
      [&](uint32_t s, const std::vector<uint32_t>& missing) {
        const policy::Tick now = s + 1;
        for (uint32_t t = trace.starts[s]; t < trace.end_of(s); ++t) {
          policy::touch(pages[trace.touches[t].page].history, now);
        }
        if (missing.empty() || s - looked < 16) return;
        looked = s;
        policy::Context context;
        context.kind = kind;
        context.free_bytes = device.free_bytes();
        apply(device, policy::exchanges(pages, batch_bytes, now, context), now);
      });
}

Traffic replay_min(const Trace& trace, bool bypass) {
  Device device(trace);
  build(device, policy::Kind::pin);
  const auto uses = uses_of(trace);
  std::vector<uint32_t> position(uses.size(), 0), next(uses.size());
  std::set<std::pair<uint32_t, uint32_t>> order;  // next use, page; resident ones
  for (uint32_t i = 0; i < uses.size(); ++i) {
    next[i] = uses[i].empty() ? kNever : uses[i][0];
    if (device.resident(i)) order.insert({next[i], i});
  }
  const auto used = [&](uint32_t s) {
    for (uint32_t t = trace.starts[s]; t < trace.end_of(s); ++t) {
      const uint32_t page = trace.touches[t].page;
      if (next[page] != s) continue;
      ++position[page];
      const bool there = order.erase({s, page}) != 0;
      next[page] = position[page] < uses[page].size() ? uses[page][position[page]] : kNever;
      if (there) order.insert({next[page], page});
    }
  };
  return replay(
      trace, device,
      [&](uint32_t s, const std::vector<uint32_t>& missing) {
        used(s);
        const auto touched = [&](uint32_t page) {
          return position[page] > 0 && uses[page][position[page] - 1] == s;
        };
        for (const uint32_t page : missing) {
          const uint64_t bytes = device.pages()[page].bytes;
          std::vector<uint32_t> out;
          uint64_t got = device.free_bytes();
          for (auto it = order.rbegin(); got < bytes && it != order.rend(); ++it) {
            if (bypass ? it->first <= next[page] : touched(it->second)) {
              if (bypass) break;
              continue;
            }
            got += device.pages()[it->second].bytes;
            out.push_back(it->second);
          }
          if (got < bytes) continue;  // read in place
          for (const uint32_t gone : out) {
            order.erase({next[gone], gone});
            device.demote(gone);
          }
          device.promote(page);
          order.insert({next[page], page});
        }
      },
      [](uint32_t, const std::vector<uint32_t>&) {});
}

Traffic best_static(const Trace& trace, bool stream) {
  Device device(trace);
  std::vector<double> weight(trace.page_bytes.size(), 0);
  uint64_t largest = 0;
  for (uint32_t s = 0; s < trace.submissions(); ++s) {
    uint64_t bytes = 0;
    for (uint32_t t = trace.starts[s]; t < trace.end_of(s); ++t) {
      const uint32_t page = trace.touches[t].page;
      bytes += trace.page_bytes[page];
      if (s >= trace.counted_from) weight[page] += 1;
    }
    largest = std::max(largest, bytes);
  }
  if (!trace.odds.empty()) weight = trace.odds;
  std::vector<uint32_t> by_weight(weight.size());
  std::iota(by_weight.begin(), by_weight.end(), 0u);
  std::stable_sort(by_weight.begin(), by_weight.end(),
                   [&](uint32_t a, uint32_t b) { return weight[a] > weight[b]; });
  const uint64_t room = stream ? std::min(largest, trace.budget_bytes) : 0;
  std::vector<bool> pinned(weight.size(), false);
  for (const uint32_t page : by_weight) {
    if (device.free_bytes() < device.pages()[page].bytes + room) continue;
    device.place(page);
    pinned[page] = true;
  }
  for (policy::PageView& page : device.pages()) page.host_copy = !page.resident;
  std::vector<uint32_t> passing;  // in the room for streaming, oldest first
  return replay(
      trace, device,
      [&](uint32_t s, const std::vector<uint32_t>& missing) {
        if (!stream) return;
        const auto needed = [&](uint32_t page) {
          for (uint32_t t = trace.starts[s]; t < trace.end_of(s); ++t) {
            if (trace.touches[t].page == page) return true;
          }
          return false;
        };
        for (const uint32_t page : missing) {
          for (auto it = passing.begin();
               device.free_bytes() < device.pages()[page].bytes && it != passing.end();) {
            if (needed(*it)) {
              ++it;
              continue;
            }
            device.demote(*it);
            it = passing.erase(it);
          }
          if (device.free_bytes() < device.pages()[page].bytes) continue;
          device.promote(page);
          passing.push_back(page);
        }
      },
      [](uint32_t, const std::vector<uint32_t>&) {});
}

}  // namespace flexlom::sim
