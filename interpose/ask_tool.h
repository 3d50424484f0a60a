// Questions to flexlom-tool, which knows the names of callers: the library has their addresses.
//
// The tool runs as a child of nobody's here: a child between, which no plain wait() sees and which
// sends no SIGCHLD when it ends, starts it and is gone. Programs that count their children never
// meet it.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <tuple>
#include <vector>

#include "interpose/stacks/stacks.h"

namespace flexlom {

// Beside the library, as it was built or installed; "" when it is not there.
std::string find_tool();

// Runs the tool with these words and `input` as its standard input. What it writes to its standard
// output; "" when that cannot be had, or not within the patience (-1: however long it takes). May
// throw std::bad_alloc. Blocks; no lock may be held that the program could need meanwhile.
std::string ask_tool(const std::string& tool, std::vector<std::string> words,
                     const std::string& input, int patience_ms);

// A trace log (trace/writer.h) of this process with nothing but call stacks so far: modules and
// frames, each once. Not thread safe; may throw std::bad_alloc.
class StackLog {
 public:
  StackLog();
  // Of a stack, innermost frame first: its number in the log, 0 for an empty one.
  uint32_t add(const std::vector<stacks::Stacks::Frame>& stack);
  std::string& text() { return text_; }

 private:
  void add(const stacks::Module& module);

  std::string text_;
  std::map<std::tuple<uint32_t, uintptr_t, const stacks::Module*>, uint32_t> ids_;
  std::map<uintptr_t, const stacks::Module*> modules_;  // the last ones recorded, by address
};

}  // namespace flexlom
