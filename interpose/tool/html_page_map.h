// Where the pages of one device lay, by address and time, as a grid that never grows beyond a
// bound: its rows are blocks of addresses that were ever mapped, its columns begin where something
// changed. When there are too many of either, neighbours are merged and a cell becomes an average.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <unordered_map>
#include <vector>

#include "interpose/trace/moment.h"

namespace flexlom::tool {

// Not thread safe. Times may go back a little: they count as the newest.
class PageMap {
 public:
  static constexpr size_t most_rows = 1024;
  static constexpr size_t most_columns = 1536;

  // `live` holds the allocations that are there already, of any device; it may be read.
  void map(uint64_t at_ns, uint64_t address, uint64_t bytes, bool on_host,
           const trace::LiveAllocations& live = {});
  void unmap(uint64_t at_ns, uint64_t address);
  void move(uint64_t at_ns, uint64_t address, bool to_host);
  // An allocation begins or ends; it counts where there are pages.
  void use(uint64_t at_ns, uint64_t address, uint64_t bytes, bool begins);

  bool empty() const { return rows_.empty(); }

  // The grid until `end_ns`, as JSON for html/map.js, in at most about `most_bytes`. Times are
  // since `first_ns`. Nothing may be added after this.
  std::string json(uint64_t first_ns, uint64_t end_ns, size_t most_bytes);

 private:
  struct Page {
    uint64_t bytes;
    bool on_host;
  };
  struct Cell {  // bytes times nanoseconds; bytes that arrived on the device and on the host
    float device = 0, host = 0, used = 0, up = 0, down = 0;

    void add(const Cell& other);
  };
  // Levels are in floating point because a hostile log may map 2^56 bytes a million times.
  struct Row {
    double device = 0, host = 0, used = 0;  // bytes now
    uint64_t since_ns = 0;                  // until then they are in the cells
    size_t column = 0;                      // that holds since_ns
    std::vector<Cell> cells;                // of the first columns; later ones are empty
  };

  uint64_t advance(uint64_t at_ns);
  void place(uint64_t at_ns, uint64_t address, const Page& page, double sign);
  void make_rows(uint64_t at_ns, uint64_t address, uint64_t bytes,
                 const trace::LiveAllocations& live);
  template <typename Visit>  // (Row&, double overlap_bytes)
  void for_rows(uint64_t address, uint64_t bytes, Visit&& visit);
  void settle(Row& row, uint64_t at_ns);
  void merge_columns(size_t most);
  void merge_rows(uint64_t at_ns);
  uint64_t start_of(uint64_t at_ns) const { return at_ns >> column_shift_ << column_shift_; }
  std::string encode(uint64_t end_ns) const;

  std::unordered_map<uint64_t, Page> pages_;
  std::map<uint64_t, Row> rows_;   // by address >> row_shift_
  std::vector<uint64_t> columns_;  // their beginnings
  unsigned row_shift_ = 21, column_shift_ = 0;
  uint64_t now_ns_ = 0;
};

}  // namespace flexlom::tool
