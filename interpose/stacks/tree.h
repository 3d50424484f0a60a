// Call stacks as a prefix tree: a node is a return address and the node of its caller, so that a
// stack is one number and what stacks share is kept, and logged, once.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace flexlom::stacks {

using NodeId = uint32_t;  // 0: no stack

struct Node {
  uintptr_t address = 0;
  NodeId parent = 0;
  uint32_t module = 0;  // whatever the owner numbers modules by
};

// Not thread safe. Allocates; may throw std::bad_alloc, and is then as it was.
class Tree {
 public:
  static constexpr size_t kMostNodes = size_t{1} << 20;

  // 0 when there is none.
  NodeId find(NodeId parent, uintptr_t address) const noexcept;
  // 0 when there are too many. The node must not be there.
  NodeId add(NodeId parent, uintptr_t address, uint32_t module);
  // Takes back the node that was added last.
  void remove_last() noexcept;
  // Addresses mean something else from now on: nodes so far stay, but are not found again.
  void forget() noexcept;

  const Node& operator[](NodeId id) const { return nodes_[id - 1]; }
  size_t size() const { return nodes_.size(); }

 private:
  size_t slot_of(NodeId parent, uintptr_t address) const noexcept;
  void grow();

  std::vector<Node> nodes_;
  std::vector<NodeId> table_;  // open addressing, a power of two, at most half full
  NodeId first_found_ = 1;     // older nodes are forgotten
  size_t in_table_ = 0;
};

}  // namespace flexlom::stacks
