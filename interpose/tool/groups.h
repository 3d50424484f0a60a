// Allocations of a log in groups that a person can read: by the stack that made them and their
// device, whatever the stream; in a log without stacks by the driver call and the size.
#pragma once

#include <regex.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "interpose/trace/summary.h"

namespace flexlom::tool {

// The frames that a site stands for, outermost first, in folded stacks and to --focus and --ignore:
// "gpu0", the functions of the call stack where the log has stacks, the driver call, "stream 0x..."
// where the call names one, and the class of the size.
std::vector<std::string> frames_of(const trace::Summary& log, trace::SiteId site);
std::string folded_frames(const trace::Summary& log, trace::SiteId site);  // joined by ';'

// The power-of-two range a size is in: "up to 512 B", "1 MiB to 2 MiB" (the upper end belongs to
// it); "other sizes" for 0.
std::string size_class(uint64_t bytes);

// Which sites lists are made of. The patterns are POSIX extended regular expressions, searched for
// in folded_frames().
class Filter {
 public:
  // False: not a pattern, and `error` says why.
  bool focus(const std::string& pattern, std::string* error);
  bool ignore(const std::string& pattern, std::string* error);

  bool active() const { return focus_ != nullptr || ignore_ != nullptr; }
  bool keeps(const trace::Summary& log, trace::SiteId site) const;
  std::string in_words() const;  // "focus: ..., ignore: ..."

 private:
  struct Free {
    void operator()(regex_t* pattern) const;
  };
  using Pattern = std::unique_ptr<regex_t, Free>;
  static bool compile(const std::string& text, Pattern& pattern, std::string* error);

  Pattern focus_, ignore_;
  std::string focus_text_, ignore_text_;
};

struct Group {
  int device = 0;
  std::string call;
  uint64_t asked_bytes = 0;            // of each; 0: of several sizes
  uint64_t smallest = 0, largest = 0;  // of several sizes, 0: not known
  trace::FrameId frame = 0;            // who called, 0: not known, or of several

  uint64_t count = 0, bytes = 0;  // given
  uint64_t host_bytes = 0;        // of those, on the host
  uint64_t lowest = 0, end = 0;   // the addresses they lie between; 0, 0: not known
  // Over the whole log, in all_groups() only.
  uint64_t short_lived = 0, freed = 0, lifetime_ns = 0;
  uint64_t spilled_count = 0, spilled_bytes = 0, promoted_bytes = 0, demoted_bytes = 0;
};

// What makes a group: the size, or the stack where the log has stacks.
enum class By { size, stack };

// In no particular order. `device` is that of the peak.
std::vector<Group> peak_groups(const trace::Summary& log, int device, const Filter& filter,
                               By by = By::stack);
std::vector<Group> live_groups(const trace::Summary& log, const Filter& filter, By by = By::stack);
std::vector<Group> all_groups(const trace::Summary& log, const Filter& filter, By by = By::stack);

// The first `top` when those with the greatest value come first; those with 0 are left out.
std::vector<Group> top_groups(std::vector<Group> groups, size_t top,
                              uint64_t (*value)(const Group&));

}  // namespace flexlom::tool
