// File and line of addresses, by llvm-symbolizer or addr2line (binutils), whichever there is: DWARF
// is theirs to read. One child for each file, asked address by address.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

#include "interpose/trace/frames.h"

namespace flexlom::tool {

// Not thread safe.
class LineFinder {
 public:
  // `program`: the symbolizer to use, empty: look for one. `file` has the debug information.
  LineFinder(std::string program, std::string file);
  ~LineFinder();
  LineFinder(const LineFinder&) = delete;
  LineFinder& operator=(const LineFinder&) = delete;

  // The functions at an address of the file, innermost first, as their symbols are spelled ("" when
  // not known). Empty when nothing is known, and from then on when the child fails.
  std::vector<trace::FrameLabel> find(uint64_t address);

  // Found along PATH: "llvm-symbolizer", "addr2line", or "" when there is neither.
  static std::string installed();

 private:
  bool start();
  void stop();
  bool read_line(std::string* line);

  std::string program_, file_;
  int socket_ = -1;
  pid_t child_ = -1;
  bool failed_ = false;
  std::string held_;  // read, not yet asked for
};

}  // namespace flexlom::tool
