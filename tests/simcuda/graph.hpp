// Graphs: nodes in creation order with the nodes they depend on.
#pragma once
#include <memory>
#include <vector>

#include "tests/simcuda/task.hpp"

namespace flexlom::sim {

struct Graph;

// Guarded by submit_lock while its graph can be edited; an executable graph is a private copy.
struct Node {
  Task task;
  std::vector<Node*> after;
  Graph* graph = nullptr;
  const Node* original = nullptr;  // never followed, only compared
  bool enabled = true;
  std::vector<void*> param_pointers;  // what GetParams returned, points into task
};

struct Graph : std::enable_shared_from_this<Graph> {
  std::vector<std::unique_ptr<Node>> nodes;
  Graph();
  ~Graph();
  Node* add(Task task, std::vector<Node*> after);
  void remove(Node* node);  // and every edge to it
  // In a copy every node knows the node it was copied from, or, for a copy of an executable
  // graph, still the node of the graph it was instantiated from.
  std::shared_ptr<Graph> copy(bool keep_originals = false) const;
  // Nodes so that each comes after what it depends on; empty when there is a cycle.
  std::vector<const Node*> ordered() const;
};

CUgraphNodeType type_of(const Task& task);

// Handle tables, guarded by submit_lock. The *_of functions throw INVALID_VALUE.
CUgraph publish(std::shared_ptr<Graph> graph);
void unpublish(CUgraph handle);
std::shared_ptr<Graph> graph_of(CUgraph handle);
Node& node_of(CUgraphNode handle);
inline CUgraphNode handle_of(const Node* node) {
  return reinterpret_cast<CUgraphNode>(const_cast<Node*>(node));
}
std::vector<Node*> nodes_of(Graph& graph, const CUgraphNode* handles, size_t count);

}  // namespace flexlom::sim
