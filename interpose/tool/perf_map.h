// Names of code that programs make at run time: the map that CPython 3.12 and newer (and other
// compilers) write for perf, one line "START SIZE name" for each function, in hexadecimal. CPython
// names its functions "py::name:file" (docs.python.org/3/howto/perf_profiling.html).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "interpose/trace/frames.h"

namespace flexlom::tool {

class PerfMap {
 public:
  // False: it cannot be read, and `error` says why. Lines that are not understood are passed over.
  bool read(const std::string& path, std::string* error);

  struct Function {
    uint64_t begin = 0, end = 0;
    trace::FrameLabel label;
    bool python = false;
  };
  const Function* find(uint64_t address) const;  // null: none
  size_t size() const { return functions_.size(); }

 private:
  std::vector<Function> functions_;  // by address
};

}  // namespace flexlom::tool
