// A summary of a trace log, for people and for programs.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "interpose/tool/groups.h"
#include "interpose/trace/summary.h"

namespace flexlom::tool {

class Json;

// `name` is what the log is called; lists have at most `top` entries and hold what the filter
// keeps, totals are of everything. Both end with a newline.
std::string report_text(const std::string& name, const trace::Summary& summary, size_t top,
                        const Filter& filter = {});
std::string report_json(const std::string& name, const trace::Summary& summary, size_t top,
                        const Filter& filter = {});

// Two logs beside each other: what changed from `base` to `now`.
struct NamedLog {
  std::string name;
  const trace::Summary& log;
};
std::string diff_text(const NamedLog& base, const NamedLog& now, size_t top, const Filter& filter);
std::string diff_json(const NamedLog& base, const NamedLog& now, size_t top, const Filter& filter);

// Live allocations, biggest first, then in the order of their making.
std::vector<trace::Allocation> biggest_live(const trace::Summary& summary, size_t top,
                                            const Filter& filter);

// Allocations whose pages went back and forth, those that moved most first.
std::vector<trace::MovedAllocation> moved_most(const trace::Summary& summary, size_t top,
                                               const Filter& filter);

struct SizeUse {
  uint64_t count = 0, spilled_count = 0;
};
// {bytes asked, uses}, most bytes in all first.
std::vector<std::pair<uint64_t, SizeUse>> sizes_of(const trace::Summary& summary,
                                                   const Filter& filter);

// Parts of the text, and words that they share.
void write_peak_holders(std::string& out, const trace::Summary& log, size_t top,
                        const Filter& filter);
void write_live(std::string& out, const trace::Summary& log, size_t top, const Filter& filter);
void write_calls(std::string& out, const trace::Summary& log, size_t top, const Filter& filter);
void write_moves(std::string& out, const trace::Summary& log, size_t top, const Filter& filter);
void write_failures(std::string& out, const trace::Summary& log, size_t top);
void write_findings(std::string& out, const trace::Summary& log, size_t top);
std::string device_name(int device);
std::string count_of(uint64_t count, std::string_view one, std::string_view many);
// "cuMemAlloc_v2 of 64 MiB"
std::string call_and_size(std::string_view call, uint64_t asked_bytes);
std::string call_and_size(const Group& group);  // also of several sizes
// One line for each function, innermost first; nothing when the stack is not known.
void write_stack(std::string& out, const trace::Summary& log, trace::FrameId frame, size_t indent);
constexpr size_t stack_indent = 14;  // in the lists
// A member "stack", innermost first, [] when it is not known; nothing in logs without stacks.
void add_stack(Json& json, const trace::Summary& log, trace::FrameId frame);

}  // namespace flexlom::tool
