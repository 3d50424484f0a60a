#include "interpose/stacks/tree.h"

#include <algorithm>

namespace flexlom::stacks {

// The slot that holds the node, or the empty one where it would go. Requires a table.
size_t Tree::slot_of(NodeId parent, uintptr_t address) const noexcept {
  const size_t mask = table_.size() - 1;
  uint64_t hash = (address ^ static_cast<uint64_t>(parent) << 40) * 0x9e3779b97f4a7c15u;
  hash ^= hash >> 29;
  for (size_t slot = hash & mask;; slot = (slot + 1) & mask) {
    const NodeId id = table_[slot];
    if (id == 0) return slot;
    const Node& node = nodes_[id - 1];
    if (node.parent == parent && node.address == address) return slot;
  }
}

NodeId Tree::find(NodeId parent, uintptr_t address) const noexcept {
  return table_.empty() ? 0 : table_[slot_of(parent, address)];
}

void Tree::grow() {
  constexpr size_t kFirst = 1024;
  std::vector<NodeId> bigger(table_.empty() ? kFirst : 2 * table_.size());
  table_.swap(bigger);
  for (NodeId id = first_found_; id <= nodes_.size(); ++id)
    table_[slot_of(nodes_[id - 1].parent, nodes_[id - 1].address)] = id;
}

NodeId Tree::add(NodeId parent, uintptr_t address, uint32_t module) {
  if (nodes_.size() >= kMostNodes) return 0;
  if (2 * (in_table_ + 1) > table_.size()) grow();
  nodes_.push_back({address, parent, module});
  const auto id = static_cast<NodeId>(nodes_.size());
  table_[slot_of(parent, address)] = id;
  ++in_table_;
  return id;
}

void Tree::remove_last() noexcept {
  // Nothing was added after it, so no other node was displaced by it.
  table_[slot_of(nodes_.back().parent, nodes_.back().address)] = 0;
  nodes_.pop_back();
  --in_table_;
}

void Tree::forget() noexcept {
  std::fill(table_.begin(), table_.end(), NodeId{0});
  first_found_ = static_cast<NodeId>(nodes_.size() + 1);
  in_table_ = 0;
}

}  // namespace flexlom::stacks
