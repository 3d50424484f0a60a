#include "interpose/tool/html_icicle.h"

#include <fmt/format.h>

#include <algorithm>
#include <unordered_map>

#include "interpose/tool/html_encode.h"

namespace flexlom::tool {
namespace {

constexpr size_t longest_name = 300;
constexpr uint64_t smallest_share = 4000;  // of the whole: less than a pixel of any screen

}  // namespace

struct Icicle::Listing {
  std::unordered_map<std::string, size_t> ids;
  std::string names, nodes;
  int64_t count = 0;

  int64_t add(int64_t parent, const std::string& name, const Node& node) {
    auto [id, is_new] = ids.try_emplace(name, ids.size());
    if (is_new) names += (names.empty() ? "" : ",") + html_json_string(name);
    nodes += fmt::format("{}[{},{},{},{},{}]", nodes.empty() ? "" : ",", parent, id->second,
                         node.bytes, node.host_bytes, node.count);
    return count++;
  }
};

void Icicle::add(const std::vector<std::string>& frames, uint64_t bytes, uint64_t host_bytes,
                 uint64_t count) {
  auto add_to = [&](Node& node) {
    node.bytes += bytes;
    node.host_bytes += std::min(bytes, host_bytes);
    node.count += count;
  };
  Node* node = &root_;
  add_to(*node);
  for (size_t i = 0; i < std::min(frames.size(), most_depth); i++) {
    std::string name = frames[i].substr(0, longest_name);
    if (name.size() < frames[i].size()) name += " ...";
    std::unique_ptr<Node>& child = node->children[name];
    if (child == nullptr) child = std::make_unique<Node>();
    node = child.get();
    add_to(*node);
  }
}

void Icicle::list(const Node& node, int64_t parent, Listing& listing) const {
  std::vector<std::pair<const std::string*, const Node*>> children;
  Node others;
  for (const auto& [name, child] : node.children) {
    const bool shown = child->bytes >= root_.bytes / smallest_share &&
                       listing.count < static_cast<int64_t>(most_children);
    if (shown) {
      children.emplace_back(&name, child.get());
    } else {
      others.bytes += child->bytes;
      others.host_bytes += child->host_bytes;
      others.count += child->count;
    }
  }
  std::sort(children.begin(), children.end(), [](const auto& a, const auto& b) {
    return a.second->bytes != b.second->bytes ? a.second->bytes > b.second->bytes
                                              : *a.first < *b.first;
  });
  for (const auto& [name, child] : children)
    list(*child, listing.add(parent, *name, *child), listing);
  if (others.bytes != 0) listing.add(parent, "smaller ones", others);
}

std::string Icicle::json() const {
  Listing listing;
  list(root_, -1, listing);
  return fmt::format(R"({{"names":[{}],"nodes":[{}]}})", listing.names, listing.nodes);
}

}  // namespace flexlom::tool
