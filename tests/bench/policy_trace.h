// What a program touches, submission by submission: made up after the shapes of real work, or read
// from a file. Text format, one item a line, '#' starts a comment:
//
//   budget BYTES          of device frames
//   page BYTES            the next page, numbered from 0
//   touch ID ID! ...      one submission; '!' after the pages that it writes
//   count                 from here on traffic counts: what is above is warming up
#pragma once

#include <cstdint>
#include <istream>
#include <string>
#include <vector>

namespace flexlom::sim {

struct Touch {
  uint32_t page;
  bool write;
};

struct Trace {
  std::string name;
  std::vector<uint64_t> page_bytes;
  std::vector<Touch> touches;
  std::vector<uint32_t> starts;  // of each submission's touches in `touches`
  uint64_t budget_bytes = 0;
  uint64_t host_bytes = 0;    // host frames to be had, for spilled pages and copies; 0: enough
  uint32_t counted_from = 0;  // submission
  // By page, where uses are drawn: how likely it is. What static pinning goes by then, for counts
  // of a finite trace would let it know the future. Empty: it goes by counts.
  std::vector<double> odds;
  // What the policy must reach, as a factor over MIN. 0: shown only.
  double target = 0;

  uint32_t submissions() const { return static_cast<uint32_t>(starts.size()); }
  uint32_t end_of(uint32_t submission) const {
    return submission + 1 < starts.size() ? starts[submission + 1]
                                          : static_cast<uint32_t>(touches.size());
  }
  uint64_t bytes() const;

  uint32_t add_page(uint64_t bytes);
  // The pages of an allocation of `bytes`, as the pool cuts it: 64 MiB and descending powers of
  // two.
  std::vector<uint32_t> add_allocation(uint64_t bytes);
  void begin() { starts.push_back(static_cast<uint32_t>(touches.size())); }
  void touch(uint32_t page, bool write = false) { touches.push_back({page, write}); }
  void touch(const std::vector<uint32_t>& pages, bool write = false) {
    for (const uint32_t page : pages) touch(page, write);
  }
  void count_from_here() { counted_from = submissions(); }
};

// The made-up ones, the same in every run.
std::vector<Trace> made_up_traces();

// Throws std::runtime_error that names the line.
Trace read_trace(std::istream& in, std::string name);

}  // namespace flexlom::sim
