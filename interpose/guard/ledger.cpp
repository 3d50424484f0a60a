#include "interpose/guard/ledger.h"

#include <iterator>

namespace flexlom::guard {

void Ledger::allocated(const pool::AllocationInfo& info, const Who& who) {
  Block block;
  block.base = info.base;
  block.bytes = info.asked_bytes;
  block.device = info.device;
  block.context = info.context;
  block.allocated = who;
  std::lock_guard lock(mutex_);
  block.number = ++next_;
  forget_overlapped(block);
  live_.insert_or_assign(block.base, block);
}

// Addresses that are used again mean their new owner from now on.
void Ledger::forget_overlapped(const Block& block) {
  auto it = freed_.lower_bound(block.base);
  if (it != freed_.begin() && std::prev(it)->second.end() > block.base) --it;
  while (it != freed_.end() && it->first < block.end()) it = freed_.erase(it);
}

void Ledger::freed(const pool::AllocationInfo& info, const Who& who, uint64_t launches) {
  std::lock_guard lock(mutex_);
  const auto found = live_.find(info.base);
  if (found == live_.end()) return;
  Block block = found->second;
  live_.erase(found);
  block.freed = who;
  block.launches = launches;
  freed_.insert_or_assign(block.base, block);
  order_.emplace_back(block.base, block.number);
  if (order_.size() <= kFreedKept) return;
  const auto [base, number] = order_.front();
  order_.pop_front();
  const auto oldest = freed_.find(base);
  if (oldest != freed_.end() && oldest->second.number == number) freed_.erase(oldest);
}

Found Ledger::find(CUdeviceptr address) const {
  std::lock_guard lock(mutex_);
  Found best;
  best.distance_bytes = pool::kGranule;
  const auto consider = [&](const Block& block) {
    if (best.beside == Beside::inside) return;
    if (address >= block.base && address < block.end()) {
      best = {Beside::inside, block, address - block.base};
    } else if (address < block.base && block.base - address <= best.distance_bytes) {
      best = {Beside::before, block, block.base - address};
    } else if (address >= block.end() && address - block.end() < best.distance_bytes) {
      best = {Beside::behind, block, address - block.end()};
    }
  };
  for (const Blocks* blocks : {&live_, &freed_}) {
    const auto next = blocks->upper_bound(address);
    if (next != blocks->begin()) consider(std::prev(next)->second);
    if (next != blocks->end()) consider(next->second);
  }
  return best;
}

std::vector<Block> Ledger::live() const {
  std::lock_guard lock(mutex_);
  std::vector<Block> all;
  for (const auto& [base, block] : live_) all.push_back(block);
  return all;
}

uint64_t Ledger::count() const {
  std::lock_guard lock(mutex_);
  return next_;
}

}  // namespace flexlom::guard
