#include "interpose/tool/html_page_map.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "interpose/tool/html_encode.h"

namespace flexlom::tool {
namespace {

uint64_t last_of(uint64_t address, uint64_t bytes) {
  return bytes == 0 || address + (bytes - 1) < address ? ~uint64_t{0} : address + (bytes - 1);
}

// Of eight levels; what is there at all is at least the first.
unsigned level_of(double share) {
  if (!(share > 0)) return 0;
  return static_cast<unsigned>(std::clamp(std::lround(share * 7), 1L, 7L));
}

// Bytes of allocations between two addresses, both included. An alloc is usually written after the
// map of its pages, but not always.
double overlap_of(const trace::LiveAllocations& live, uint64_t begin, uint64_t last) {
  double bytes = 0;
  auto allocation = live.upper_bound(begin);
  if (allocation != live.begin()) --allocation;
  for (; allocation != live.end() && allocation->first <= last; ++allocation) {
    const trace::Allocation& a = allocation->second;
    if (a.given_bytes == 0) continue;
    const uint64_t from = std::max(begin, a.address);
    const uint64_t to = std::min(last, last_of(a.address, a.given_bytes));
    if (from <= to) bytes += static_cast<double>(to - from) + 1;
  }
  return bytes;
}

}  // namespace

void PageMap::Cell::add(const Cell& other) {
  device += other.device;
  host += other.host;
  used += other.used;
  up += other.up;
  down += other.down;
}

template <typename Visit>
void PageMap::for_rows(uint64_t address, uint64_t bytes, Visit&& visit) {
  const uint64_t last = last_of(address, bytes);
  const uint64_t size = uint64_t{1} << row_shift_;
  for (auto row = rows_.lower_bound(address >> row_shift_);
       row != rows_.end() && row->first <= last >> row_shift_; ++row) {
    const uint64_t begin = std::max(address, row->first << row_shift_);
    const uint64_t end = std::min(last, (row->first << row_shift_) + (size - 1));
    visit(row->second, static_cast<double>(end - begin) + 1);
  }
}

// Time goes on to `at_ns`, and there is a column that holds it.
uint64_t PageMap::advance(uint64_t at_ns) {
  now_ns_ = std::max(now_ns_, at_ns);
  if (!columns_.empty() && start_of(now_ns_) <= columns_.back()) return now_ns_;
  if (columns_.size() >= most_columns) merge_columns(most_columns / 2);
  if (columns_.empty() || start_of(now_ns_) > columns_.back())
    columns_.push_back(start_of(now_ns_));
  return now_ns_;
}

void PageMap::map(uint64_t at_ns, uint64_t address, uint64_t bytes, bool on_host,
                  const trace::LiveAllocations& live) {
  if (bytes == 0) return;
  at_ns = advance(at_ns);
  unmap(at_ns, address);  // a second map of an address: the unmap between them was dropped
  make_rows(at_ns, address, bytes, live);
  const Page page{bytes, on_host};
  pages_.emplace(address, page);
  place(at_ns, address, page, 1);
}

void PageMap::unmap(uint64_t at_ns, uint64_t address) {
  auto page = pages_.find(address);
  if (page == pages_.end()) return;
  place(advance(at_ns), address, page->second, -1);
  pages_.erase(page);
}

void PageMap::move(uint64_t at_ns, uint64_t address, bool to_host) {
  auto found = pages_.find(address);
  if (found == pages_.end()) return;
  Page& page = found->second;
  at_ns = advance(at_ns);
  place(at_ns, address, page, -1);
  page.on_host = to_host;
  place(at_ns, address, page, 1);
  for_rows(address, page.bytes, [&](Row& row, double overlap) {
    settle(row, at_ns);
    if (row.cells.size() <= row.column) row.cells.resize(row.column + 1);
    Cell& cell = row.cells[row.column];
    (to_host ? cell.down : cell.up) += static_cast<float>(overlap);
  });
}

void PageMap::use(uint64_t at_ns, uint64_t address, uint64_t bytes, bool begins) {
  if (bytes == 0 || rows_.empty()) return;
  at_ns = advance(at_ns);
  for_rows(address, bytes, [&](Row& row, double overlap) {
    settle(row, at_ns);
    row.used = std::max(0.0, row.used + (begins ? overlap : -overlap));
  });
}

void PageMap::place(uint64_t at_ns, uint64_t address, const Page& page, double sign) {
  for_rows(address, page.bytes, [&](Row& row, double overlap) {
    settle(row, at_ns);
    double& level = page.on_host ? row.host : row.device;
    level = std::max(0.0, level + sign * overlap);
  });
}

void PageMap::make_rows(uint64_t at_ns, uint64_t address, uint64_t bytes,
                        const trace::LiveAllocations& live) {
  const uint64_t last = last_of(address, bytes);
  for (;;) {
    const uint64_t first_block = address >> row_shift_, last_block = last >> row_shift_;
    const uint64_t count = last_block - first_block + 1;
    if (count <= most_rows / 2) {
      const auto known =
          std::distance(rows_.lower_bound(first_block), rows_.upper_bound(last_block));
      if (rows_.size() + count - static_cast<uint64_t>(known) <= most_rows) break;
    }
    merge_rows(at_ns);
  }
  for (uint64_t block = address >> row_shift_; block <= last >> row_shift_; block++) {
    auto [row, is_new] = rows_.try_emplace(block);
    if (!is_new) continue;
    row->second.since_ns = at_ns;
    row->second.column = columns_.size() - 1;
    row->second.used = overlap_of(live, block << row_shift_,
                                  (block << row_shift_) + ((uint64_t{1} << row_shift_) - 1));
  }
}

// Brings the cells of a row up to `at_ns`, which has a column.
void PageMap::settle(Row& row, uint64_t at_ns) {
  if (at_ns <= row.since_ns) return;
  const bool idle = row.device == 0 && row.host == 0;
  while (row.since_ns < at_ns) {
    const bool newest = row.column + 1 >= columns_.size();
    const uint64_t end = newest ? at_ns : std::min(at_ns, columns_[row.column + 1]);
    if (!idle && end > row.since_ns) {
      if (row.cells.size() <= row.column) row.cells.resize(row.column + 1);
      const double ns = static_cast<double>(end - row.since_ns);
      Cell part;
      part.device = static_cast<float>(row.device * ns);
      part.host = static_cast<float>(row.host * ns);
      part.used = static_cast<float>(row.used * ns);
      row.cells[row.column].add(part);
    }
    row.since_ns = std::max(row.since_ns, end);
    if (newest) break;
    if (row.since_ns >= columns_[row.column + 1]) row.column++;
  }
}

void PageMap::merge_columns(size_t most) {
  while (columns_.size() > std::max<size_t>(most, 2) && column_shift_ < 63) {
    column_shift_++;
    std::vector<size_t> new_column(columns_.size());
    std::vector<uint64_t> merged;
    for (size_t i = 0; i < columns_.size(); i++) {
      const uint64_t start = start_of(columns_[i]);
      if (merged.empty() || merged.back() != start) merged.push_back(start);
      new_column[i] = merged.size() - 1;
    }
    for (auto& [block, row] : rows_) {
      row.column = new_column[row.column];
      if (row.cells.empty()) continue;
      for (size_t i = 1; i < row.cells.size(); i++) {
        if (new_column[i] == i) continue;
        const Cell cell = row.cells[i];
        row.cells[i] = {};
        row.cells[new_column[i]].add(cell);
      }
      row.cells.resize(new_column[row.cells.size() - 1] + 1);
    }
    columns_ = std::move(merged);
  }
}

void PageMap::merge_rows(uint64_t at_ns) {
  row_shift_++;
  std::map<uint64_t, Row> merged;
  for (auto& [block, row] : rows_) {
    settle(row, at_ns);
    auto [place, is_new] = merged.try_emplace(block >> 1);
    Row& into = place->second;
    if (is_new) {
      into = std::move(row);
      continue;
    }
    into.device += row.device;
    into.host += row.host;
    into.used += row.used;
    into.since_ns = std::max(into.since_ns, row.since_ns);
    into.column = std::max(into.column, row.column);
    if (into.cells.size() < row.cells.size()) into.cells.resize(row.cells.size());
    for (size_t i = 0; i < row.cells.size(); i++) into.cells[i].add(row.cells[i]);
  }
  rows_ = std::move(merged);
}

// Row by row, {cell, how many of it} until the last column.
std::string PageMap::encode(uint64_t end_ns) const {
  PackedNumbers out;
  const double block = std::exp2(row_shift_);
  for (const auto& [index, row] : rows_) {
    uint64_t run = 0;
    unsigned before = 0;
    for (size_t i = 0; i < columns_.size(); i++) {
      unsigned code = 0;
      if (i < row.cells.size()) {
        const Cell& cell = row.cells[i];
        const uint64_t end = i + 1 < columns_.size() ? columns_[i + 1] : end_ns;
        const double whole =
            block * static_cast<double>(std::max<uint64_t>(end, columns_[i] + 1) - columns_[i]);
        code = level_of(cell.device / whole) | level_of(cell.host / whole) << 3 |
               level_of(cell.used / whole) << 6 | (cell.up > 0 ? 1u << 9 : 0) |
               (cell.down > 0 ? 1u << 10 : 0);
      }
      if (run != 0 && code != before) {
        out.put(before);
        out.put(run);
        run = 0;
      }
      before = code;
      run++;
    }
    if (run == 0) continue;
    out.put(before);
    out.put(run);
  }
  return out.base64();
}

std::string PageMap::json(uint64_t first_ns, uint64_t end_ns, size_t most_bytes) {
  if (!columns_.empty() && end_ns > columns_.back()) now_ns_ = std::max(now_ns_, end_ns);
  for (auto& [block, row] : rows_) settle(row, now_ns_);
  std::string cells = encode(now_ns_);
  while (cells.size() > most_bytes && (columns_.size() > 64 || rows_.size() > 64)) {
    if (columns_.size() >= rows_.size()) {
      merge_columns(columns_.size() / 2 + 1);
    } else {
      merge_rows(now_ns_);
    }
    cells = encode(now_ns_);
  }
  PackedNumbers blocks, columns;
  uint64_t before = 0;
  for (const auto& [block, row] : rows_) {
    blocks.put(block - before);
    before = block;
  }
  before = 0;
  for (uint64_t start : columns_) {
    const uint64_t since = start > first_ns ? start - first_ns : 0;
    columns.put(since - std::min(since, before));
    before = std::max(since, before);
  }
  return fmt::format(
      R"({{"shift":{},"rows":{},"columns":{},"exact":{},"blocks":"{}","starts":"{}",)"
      R"("cells":"{}"}})",
      row_shift_, rows_.size(), columns_.size(), column_shift_ == 0 ? "true" : "false",
      blocks.base64(), columns.base64(), cells);
}

}  // namespace flexlom::tool
