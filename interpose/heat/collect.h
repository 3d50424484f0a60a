// The walk over a graph's nodes: what each names.
#pragma once

#include <cuda.h>

#include <unordered_map>
#include <vector>

#include "interpose/heat/named.h"

namespace flexlom::heat {

struct NodeWords {
  std::vector<CUdeviceptr> words;
  bool complete = true;

  void take(const Named& named);
  void take(NodeWords&& other);
};
using NodeMap = std::unordered_map<CUgraphNode, NodeWords>;

// Adds the nodes of `graph` that name anything. May throw std::bad_alloc; what cannot be asked
// makes its node not complete. Takes the registry's lock for conditional nodes. Returns all nodes,
// in the driver's order.
std::vector<CUgraphNode> collect(CUgraph graph, NodeMap& nodes);

// Ascending, of every 2 MiB granule its first word, and the word at its start beside it.
// `times`, if given: how many there were of each that is left.
void keep_one_per_granule(std::vector<CUdeviceptr>& words, std::vector<uint16_t>* times = nullptr);

// The graphs of a conditional node, if its creation was seen (graphs.cpp).
bool bodies_of(CUgraphNode node, std::vector<CUgraph>& bodies) noexcept;

}  // namespace flexlom::heat
