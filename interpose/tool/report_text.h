// A summary of a trace log, for people and for programs.
#pragma once

#include <cstddef>
#include <string>

#include "interpose/trace/summary.h"

namespace flexlom::tool {

// `name` is what the log is called; lists have at most `top` entries. Both end with a newline.
std::string report_text(const std::string& name, const trace::Summary& summary, size_t top);
std::string report_json(const std::string& name, const trace::Summary& summary, size_t top);

// Live allocations, biggest first, then in the order of their making.
std::vector<trace::Allocation> biggest_live(const trace::Summary& summary, size_t top);

// {bytes asked, uses}, most bytes in all first.
std::vector<std::pair<uint64_t, trace::SizeUse>> biggest_sizes(const trace::Summary& summary,
                                                               size_t top);

}  // namespace flexlom::tool
