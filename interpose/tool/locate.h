// Where flexlom itself is.
#pragma once

#include <string>

namespace flexlom::tool {

std::string own_executable();  // absolute, links resolved; empty when /proc is not there

// The library that belongs to this tool: beside it (build tree, and the link that `make install`
// puts there), or in the lib directories of its tree. With links resolved. Empty: there is none,
// and `looked_in` (if not null) lists where it might have been.
std::string find_library(std::string* looked_in = nullptr);

}  // namespace flexlom::tool
