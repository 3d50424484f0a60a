// The graph itself and how one runs.
#include "tests/simcuda/graph.hpp"

#include <algorithm>
#include <map>
#include <mutex>
#include <set>

#include "tests/simcuda/event.hpp"

namespace flexlom::sim {

namespace {
template <class... F>
struct Overloaded : F... {
  using F::operator()...;
};
template <class... F>
Overloaded(F...) -> Overloaded<F...>;
}  // namespace

void run(const Task& task) {
  std::visit(Overloaded{
                 [](const KernelTask& t) { run_kernel(t); },
                 [](const CopyTask& t) { run_copy(t.what); },
                 [](const MemsetTask& t) { run_memset(t.what); },
                 [](const HostTask& t) { t.call(); },
                 [](const EmptyTask&) {},
                 [](const EventRecordTask& t) { record_now(*t.event); },
                 [](const EventWaitTask& t) { wait_for(*t.event); },
                 [](const MemOpTask& t) { run_memops(t.operations); },
                 [](const ChildGraphTask& t) { run_graph(*t.graph); },
                 [](const AllocTask&) {},
                 [](const FreeTask& t) { run_free(t.address); },
             },
             task);
}

// One node after another, whatever branches there are: an order the dependencies allow.
void run_graph(const Graph& graph) {
  for (const Node* node : graph.ordered())
    if (node->enabled) run(node->task);
}

namespace {

// What exists, so that a stale handle is refused. Its own lock, taken last: a graph that was
// destroyed while it ran is deleted by its stream thread.
struct Registry {
  std::mutex lock;
  std::set<const Graph*> graphs;
  std::set<const Node*> nodes;
};
Registry& registry() {
  static Registry* const shared = new Registry;
  return *shared;
}

std::map<Graph*, std::shared_ptr<Graph>>& live_graphs() {  // guarded by submit_lock
  static auto* const all = new std::map<Graph*, std::shared_ptr<Graph>>;
  return *all;
}

}  // namespace

Node* Graph::add(Task task, std::vector<Node*> after) {
  auto node = std::make_unique<Node>();
  node->task = std::move(task);
  node->after = std::move(after);
  node->graph = this;
  nodes.push_back(std::move(node));
  Node* added = nodes.back().get();
  std::lock_guard guard(registry().lock);
  registry().nodes.insert(added);
  return added;
}

std::vector<const Node*> Graph::ordered() const {
  std::vector<const Node*> order;
  std::set<const Node*> placed;
  // Nodes are mostly created in order, so that one pass is enough.
  for (size_t before = SIZE_MAX; order.size() < nodes.size() && order.size() != before;) {
    before = order.size();
    for (const auto& node : nodes) {
      if (placed.contains(node.get())) continue;
      if (!std::all_of(node->after.begin(), node->after.end(),
                       [&](const Node* n) { return placed.contains(n); }))
        continue;
      order.push_back(node.get());
      placed.insert(node.get());
    }
  }
  if (order.size() != nodes.size()) order.clear();
  return order;
}

std::shared_ptr<Graph> Graph::copy(bool keep_originals) const {
  auto made = std::make_shared<Graph>();
  std::map<const Node*, Node*> twin;
  for (const auto& node : nodes) {
    Node* copied = made->add(node->task, {});
    if (auto* child = std::get_if<ChildGraphTask>(&copied->task))
      child->graph = child->graph->copy();
    copied->enabled = node->enabled;
    copied->original = keep_originals ? node->original : node.get();
    twin[node.get()] = copied;
  }
  for (const auto& node : nodes)
    for (Node* before : node->after) twin[node.get()]->after.push_back(twin.at(before));
  return made;
}

Graph::Graph() {
  std::lock_guard guard(registry().lock);
  registry().graphs.insert(this);
}

Graph::~Graph() {
  std::lock_guard guard(registry().lock);
  registry().graphs.erase(this);
  for (const auto& node : nodes) registry().nodes.erase(node.get());
}

void Graph::remove(Node* node) {
  for (const auto& other : nodes) std::erase(other->after, node);
  {
    std::lock_guard guard(registry().lock);
    registry().nodes.erase(node);
  }
  std::erase_if(nodes, [&](const auto& other) { return other.get() == node; });
}

CUgraph publish(std::shared_ptr<Graph> graph) {
  Graph* raw = graph.get();
  live_graphs()[raw] = std::move(graph);
  return reinterpret_cast<CUgraph>(raw);
}

void unpublish(CUgraph handle) {
  require(live_graphs().erase(reinterpret_cast<Graph*>(handle)) == 1);
}

std::shared_ptr<Graph> graph_of(CUgraph handle) {
  auto* graph = reinterpret_cast<Graph*>(handle);
  std::lock_guard guard(registry().lock);
  require(registry().graphs.contains(graph));
  std::shared_ptr<Graph> found = graph->weak_from_this().lock();
  require(found != nullptr);
  return found;
}

Node& node_of(CUgraphNode handle) {
  auto* node = reinterpret_cast<Node*>(handle);
  std::lock_guard guard(registry().lock);
  require(registry().nodes.contains(node));
  return *node;
}

std::vector<Node*> nodes_of(Graph& graph, const CUgraphNode* handles, size_t count) {
  require(handles || !count);
  std::vector<Node*> list;
  for (size_t i = 0; i < count; ++i) {
    Node& node = node_of(handles[i]);
    require(node.graph == &graph);
    list.push_back(&node);
  }
  return list;
}

}  // namespace flexlom::sim
