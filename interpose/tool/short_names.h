// Names of functions and call stacks that are short enough to come with every event.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "interpose/trace/frames.h"

namespace flexlom::tool {

// A demangled name with "<...>" and "(...)" for template and parameter lists.
std::string short_function(std::string_view name);

// The innermost frames of a stack, "malloc < make(...) < load<...>(...) < ...", without files and
// in at most `most_short_stack` bytes of printable UTF-8.
constexpr size_t most_short_stack = 160;
std::string short_stack(const std::vector<trace::FrameLabel>& stack);

}  // namespace flexlom::tool
