// Call stacks that can be compared from one run to another: by the names of their functions,
// because the addresses of two runs differ.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "interpose/trace/summary.h"

namespace flexlom::tool {

// Numbers the chains of functions that it is asked for. Not thread safe.
class CallerChains {
 public:
  // The same for stacks with the same functions in the same order, wherever in these functions the
  // calls are. Code in no file (made while the program ran, and without names) is all alike.
  uint32_t of(const trace::Summary& log, trace::FrameId innermost);

 private:
  std::map<std::string, uint32_t> names_;
  std::map<std::vector<uint32_t>, uint32_t> chains_;
  std::map<std::pair<const trace::Summary*, trace::FrameId>, uint32_t> known_;
};

}  // namespace flexlom::tool
