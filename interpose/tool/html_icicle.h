// A tree of places in a program, each with the bytes held there: outermost frame at the root.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace flexlom::tool {

// Takes any lists of frames. Not thread safe.
class Icicle {
 public:
  static constexpr size_t most_depth = 96;       // what is deeper counts for the frame above
  static constexpr size_t most_children = 5000;  // nodes in all; what is left over is "others"

  // `host_bytes` of `bytes` lie on the host.
  void add(const std::vector<std::string>& frames, uint64_t bytes, uint64_t host_bytes,
           uint64_t count);
  bool empty() const { return root_.bytes == 0; }

  // {"names":[...],"nodes":[[parent,name,bytes,host_bytes,count],...]} for html/icicle.js: parents
  // before children, biggest children first; -1 is the parent of the roots.
  std::string json() const;

 private:
  struct Node {
    uint64_t bytes = 0, host_bytes = 0, count = 0;
    std::map<std::string, std::unique_ptr<Node>, std::less<>> children;
  };
  struct Listing;
  void list(const Node& node, int64_t parent, Listing& listing) const;

  Node root_;
};

}  // namespace flexlom::tool
