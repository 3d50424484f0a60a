// Device memory in the terms of PyTorch's memory snapshots, where a block lies in a mapped segment
// or does not exist. A page of ours may leave for the host under a live allocation, so every
// allocation is cut into one block for each page, and a block lives while its page is in one place:
// a demotion frees the blocks in the page and unmaps it from the device, a promotion maps it and
// allocates them again. Pages on the host are a device of their own.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <vector>

#include "interpose/trace/sites.h"

namespace flexlom::tool {

enum class TorchAction : uint8_t { alloc, free, map, unmap, oom };

struct TorchEvent {
  uint64_t address = 0;  // oom: bytes that were free on the device
  uint64_t size = 0, stream = 0, time_us = 0;
  trace::SiteId site = 0;    // of allocations
  trace::FrameId frame = 0;  // oom: who asked
  TorchAction action{};
};

// Holds, whatever it is told: pages never overlap, allocations never overlap, and every block that
// an event names lies in a page that is mapped at that moment. Not thread safe.
class TorchMemory {
 public:
  static constexpr int host = -1;  // a place like a device ordinal

  // `limit`: the last events of each place are kept, 0: all.
  explicit TorchMemory(uint64_t limit) : limit_(limit) {}

  void map(int place, uint64_t address, uint64_t size, uint64_t time_us);
  void unmap(uint64_t address, uint64_t time_us);
  void move(uint64_t address, int place, uint64_t time_us);  // of a page that is known
  void alloc(int device, uint64_t address, uint64_t asked, uint64_t given, trace::SiteId site,
             uint64_t stream, uint64_t time_us);
  void free(uint64_t address, uint64_t time_us);
  void out_of_memory(int device, uint64_t asked, uint64_t free_bytes, trace::FrameId frame,
                     uint64_t time_us);

  struct Block {
    uint64_t address = 0, size = 0;
    uint64_t requested = 0;  // 0: a gap
    trace::SiteId site = 0;
  };
  struct Segment {
    int place = 0;
    uint64_t address = 0, size = 0;
    std::vector<Block> blocks;  // which tile it
  };
  // As things are now: runs of pages that lie side by side in the same place, by address.
  void each_segment(const std::function<void(const Segment&)>& take) const;

  const std::map<int, std::deque<TorchEvent>>& events() const { return events_; }
  uint64_t dropped() const { return dropped_; }  // events before the last `limit`

 private:
  struct Page {
    uint64_t size;
    int place;
    bool made_up;  // for an allocation in memory whose mapping the log does not tell
  };
  struct Live {
    uint64_t asked, given, stream;
    trace::SiteId site;
  };
  using Pages = std::map<uint64_t, Page>;
  using Lives = std::map<uint64_t, Live>;

  void emit(int place, TorchEvent event);
  void emit_block(TorchAction action, const Pages::value_type& page, const Lives::value_type& live,
                  uint64_t time_us);
  Pages::iterator first_page(uint64_t address);  // that ends after the address
  Lives::const_iterator first_live(uint64_t address) const;
  void blocks_in(const Pages::value_type& page, TorchAction action, uint64_t time_us);
  Pages::iterator drop_page(Pages::iterator page, uint64_t time_us);
  void put_page(uint64_t address, const Page& page, uint64_t time_us);

  const uint64_t limit_;
  Pages pages_;
  Lives lives_;
  std::map<int, std::deque<TorchEvent>> events_;
  uint64_t dropped_ = 0;
};

}  // namespace flexlom::tool
