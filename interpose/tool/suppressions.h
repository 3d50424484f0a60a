// Leaks that are known and accepted, in the form of LeakSanitizer's files (clang.llvm.org/docs/
// LeakSanitizer.html): one "leak:PATTERN" on a line, '#' begins a comment. A pattern is looked for
// in the name, the source file and the module of every caller; '*' stands for any text, '^' at its
// beginning and '$' at its end for those of the name.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "interpose/trace/frames.h"

namespace flexlom::tool {

bool matches_pattern(std::string_view pattern, std::string_view text);

class Suppressions {
 public:
  struct Entry {
    std::string pattern;
    uint64_t count = 0, bytes = 0;  // what it has suppressed
  };

  // False: it cannot be read or a line is not understood; `error` says why, with its number.
  bool read(const std::string& path, std::string* error);

  // The entry that one of the callers matches, null when there is none.
  Entry* find(const trace::Frames& frames, trace::FrameId innermost);
  const std::vector<Entry>& entries() const { return entries_; }

 private:
  std::vector<Entry> entries_;
};

}  // namespace flexlom::tool
