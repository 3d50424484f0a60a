// The rows of interpose/entry_points.tsv, and what a driver itself has for them.
#pragma once

#include <string>
#include <unordered_map>
#include <vector>

#include "tests/bench/elf_symbol.h"
#include "tests/preload/check.hpp"

namespace preload {

struct Row {
  const char* symbol;
  const char* door;  // as in the table
  bool pass() const { return std::strcmp(door, "pass") == 0; }
  bool gate() const { return std::strcmp(door, "gate") == 0; }
};

inline const Row rows[] = {
#define FLEXLOM_ENTRY(symbol, prototype, door) {#symbol, #door},
#include "entries.inc"
#undef FLEXLOM_ENTRY
};

// The driver's own addresses, read from its symbol table: nobody can stand between.
class DriverTable {
 public:
  explicit DriverTable(void* driver) {
    for (const Row& row : rows) {
      void* address = bench::own_symbol(driver, row.symbol);
      if (address == nullptr) continue;
      by_symbol_[row.symbol] = address;
      by_address_[address] = &row;
    }
  }
  void* address(const std::string& symbol) const {
    const auto found = by_symbol_.find(symbol);
    return found == by_symbol_.end() ? nullptr : found->second;
  }
  const Row* row(void* address) const {
    const auto found = by_address_.find(address);
    return found == by_address_.end() ? nullptr : found->second;
  }
  size_t size() const { return by_symbol_.size(); }

 private:
  std::unordered_map<std::string, void*> by_symbol_;
  std::unordered_map<void*, const Row*> by_address_;
};

// cuMemcpyHtoD_v2_ptds -> cuMemcpyHtoD, which is what cuGetProcAddress takes.
inline std::string base_name(std::string name) {
  for (const char* twin : {"_ptsz", "_ptds"})
    if (name.size() > 5 && name.compare(name.size() - 5, 5, twin) == 0)
      name.resize(name.size() - 5);
  const size_t n = name.size();
  if (n > 3 && name[n - 3] == '_' && name[n - 2] == 'v') name.resize(n - 3);
  return name;
}

}  // namespace preload
