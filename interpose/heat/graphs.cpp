#include "interpose/heat/graphs.h"

#include <algorithm>
#include <atomic>
#include <mutex>
#include <unordered_map>

#include "interpose/heat/collect.h"
#include "interpose/heat/layout.h"

namespace flexlom::heat {

struct ExecState {
  // By node of the graph it was made of; nodes that name nothing are left out. Child graphs and
  // bodies count as part of the node that holds them.
  NodeMap nodes;
  std::vector<CUgraphNode> order;           // all nodes of that graph
  std::shared_ptr<const GraphWords> words;  // null: to be made of `nodes` at the next launch
};

namespace {

struct Conditional {
  CUgraph parent;
  std::vector<CUgraph> bodies;
};

struct Registry {
  std::mutex mutex;  // guards all of this and every ExecState; no driver call under it
  std::unordered_map<CUgraphExec, std::shared_ptr<ExecState>> execs;
  std::unordered_map<CUgraphNode, Conditional> conditionals;
};
// Never destroyed: graphs are launched and destroyed in exit handlers.
Registry& registry() noexcept {
  static union Holder {
    Holder() : value() {}
    ~Holder() {}
    Registry value;
  } holder;
  return holder.value;
}
// Lets programs without conditional nodes destroy graphs without the lock.
std::atomic<bool> any_conditional{false};

std::atomic<uint64_t> exec_count{0};
std::atomic<uint64_t> incomplete_count{0};

// Runs fn with the registry locked, unless this thread is inside it already (an allocator hook of
// the program, called by us) or memory runs out. Whether fn came to its end.
template <class F>
bool locked(F fn) noexcept {
  if (Busy::already()) return false;
  Busy busy;
  try {
    std::lock_guard lock(registry().mutex);
    fn(registry());
    return true;
  } catch (...) {
    return false;
  }
}

ExecState* state_of(Registry& r, CUgraphExec exec) noexcept {
  const auto found = r.execs.find(exec);
  return found != r.execs.end() ? found->second.get() : nullptr;
}

std::shared_ptr<const GraphWords> make_words(const NodeMap& nodes) {
  auto made = std::make_shared<GraphWords>();
  for (const auto& [node, part] : nodes) {
    made->words.insert(made->words.end(), part.words.begin(), part.words.end());
    made->complete &= part.complete;
  }
  keep_one_per_granule(made->words, &made->times);
  made->nodes = static_cast<uint32_t>(nodes.size());
  return made;
}

// Forgets an exec that could not be kept right: without an entry it may touch anything.
void drop(CUgraphExec exec) noexcept {
  locked([&](Registry& r) { r.execs.erase(exec); });
}

void forget_bodies(Registry& r, std::vector<CUgraph> graphs) {
  while (!graphs.empty()) {
    const CUgraph graph = graphs.back();
    graphs.pop_back();
    for (auto it = r.conditionals.begin(); it != r.conditionals.end();) {
      if (it->second.parent != graph) {
        ++it;
        continue;
      }
      graphs.insert(graphs.end(), it->second.bodies.begin(), it->second.bodies.end());
      it = r.conditionals.erase(it);
    }
  }
}

}  // namespace

void name_graph(Named& named, CUgraphExec exec) noexcept {
  named.function = exec;
  const bool done = locked([&](Registry& r) {
    ExecState* state = state_of(r, exec);
    if (state == nullptr) return;
    if (state->words == nullptr) state->words = make_words(state->nodes);
    named.graph = state->words;
  });
  named.unknown = !done || named.graph == nullptr || !named.graph->complete;
}

void exec_made(CUgraphExec exec, CUgraph graph) noexcept {
  const bool done = !Busy::already() && [&]() noexcept {
    try {
      auto state = std::make_shared<ExecState>();
      // No pool has handed out an address yet, so the graph can hold none.
      if (!hull().empty) state->order = collect(graph, state->nodes);
      const bool whole = std::all_of(state->nodes.begin(), state->nodes.end(),
                                     [](const auto& entry) { return entry.second.complete; });
      exec_count.fetch_add(1, std::memory_order_relaxed);
      if (!whole) incomplete_count.fetch_add(1, std::memory_order_relaxed);
      return locked([&](Registry& r) { r.execs[exec] = std::move(state); });
    } catch (...) {
      return false;
    }
  }();
  // What is left there is about an earlier graph with this handle.
  if (!done) drop(exec);
}

namespace {
// The nodes of an update's graph by the names that an executable graph keeps for life: those of the
// graph it was instantiated from (CUDA Driver API 6.25, cuGraphExecUpdate). The driver pairs graphs
// that were made alike in the order in which they were made. Where that cannot be, what they name
// is nobody's, and stays when a node is changed.
NodeMap renamed(NodeMap nodes, const std::vector<CUgraphNode>& from,
                const std::vector<CUgraphNode>& to) {
  NodeMap result;
  for (size_t i = 0; i < from.size(); ++i) {
    const auto found = nodes.find(from[i]);
    if (found == nodes.end()) continue;
    result[from.size() == to.size() ? to[i] : nullptr].take(std::move(found->second));
    nodes.erase(found);
  }
  for (auto& [node, part] : nodes) result[nullptr].take(std::move(part));
  return result;
}
}  // namespace

void exec_updated(CUgraphExec exec, CUgraph graph, bool whole) noexcept {
  bool done = false;
  try {
    NodeMap nodes;
    std::vector<CUgraphNode> order;
    if (!hull().empty) order = collect(graph, nodes);
    done = locked([&](Registry& r) {
      ExecState* state = state_of(r, exec);
      if (state == nullptr) return;
      NodeMap parts = renamed(std::move(nodes), order, state->order);
      state->words = nullptr;
      if (whole) {
        state->nodes = std::move(parts);
      } else {
        for (auto& [node, part] : parts) state->nodes[node].take(std::move(part));
      }
    });
  } catch (...) {
  }
  if (!done) drop(exec);
}

namespace {
void replace(CUgraphExec exec, CUgraphNode node, NodeWords part) noexcept {
  const bool done = locked([&](Registry& r) {
    ExecState* state = state_of(r, exec);
    if (state == nullptr) return;
    state->words = nullptr;
    state->nodes[node] = std::move(part);
  });
  if (!done) drop(exec);
}
}  // namespace

void exec_node_set(CUgraphExec exec, CUgraphNode node, const Named& named) noexcept {
  try {
    NodeWords part;
    part.take(named);
    replace(exec, node, std::move(part));
  } catch (...) {
    drop(exec);
  }
}

void exec_child_set(CUgraphExec exec, CUgraphNode node, CUgraph child) noexcept {
  try {
    NodeMap nodes;
    collect(child, nodes);
    NodeWords part;
    for (auto& [inner, other] : nodes) part.take(std::move(other));
    replace(exec, node, std::move(part));
  } catch (...) {
    drop(exec);
  }
}

std::shared_ptr<ExecState> exec_destroying(CUgraphExec exec) noexcept {
  std::shared_ptr<ExecState> gone;
  locked([&](Registry& r) {
    const auto found = r.execs.find(exec);
    if (found == r.execs.end()) return;
    gone = std::move(found->second);
    r.execs.erase(found);
  });
  return gone;
}

void exec_kept(CUgraphExec exec, std::shared_ptr<ExecState> state) noexcept {
  if (state == nullptr) return;
  locked([&](Registry& r) { r.execs.emplace(exec, std::move(state)); });
}

void conditional_made(CUgraph parent, CUgraphNode node, const CUgraph* bodies,
                      unsigned count) noexcept {
  any_conditional.store(true, std::memory_order_relaxed);
  locked([&](Registry& r) {
    r.conditionals.erase(node);
    r.conditionals.emplace(node, Conditional{parent, {bodies, bodies + count}});
  });
}

void graph_destroying(CUgraph graph) noexcept {
  if (!any_conditional.load(std::memory_order_relaxed)) return;
  locked([&](Registry& r) { forget_bodies(r, {graph}); });
}

void node_destroying(CUgraphNode node) noexcept {
  if (!any_conditional.load(std::memory_order_relaxed)) return;
  locked([&](Registry& r) {
    const auto found = r.conditionals.find(node);
    if (found == r.conditionals.end()) return;
    std::vector<CUgraph> bodies = std::move(found->second.bodies);
    r.conditionals.erase(found);
    forget_bodies(r, std::move(bodies));
  });
}

bool bodies_of(CUgraphNode node, std::vector<CUgraph>& bodies) noexcept {
  bool found = false;
  const bool done = locked([&](Registry& r) {
    const auto it = r.conditionals.find(node);
    if (it == r.conditionals.end()) return;
    bodies = it->second.bodies;
    found = true;
  });
  return done && found;
}

GraphCounts graph_counts() noexcept {
  return {exec_count.load(std::memory_order_relaxed),
          incomplete_count.load(std::memory_order_relaxed)};
}

}  // namespace flexlom::heat
