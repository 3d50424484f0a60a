// Runs this tool once more, as a child that may crash or hang without taking its parent along.
#pragma once

#include <chrono>
#include <string>
#include <utility>
#include <vector>

namespace flexlom::tool {

struct ChildResult {
  bool started = false;
  bool timed_out = false;
  int exit_code = -1;  // when it exited
  int signal = 0;      // when it was killed
  std::string output;  // its standard output, at most 1 MiB
  std::string errors;  // its standard error, at most 1 MiB
};

using Variables = std::vector<std::pair<std::string, std::string>>;

// The child gets this process's environment with `variables` set in it; an empty value unsets. Not
// thread safe (the environment is read).
ChildResult run_self(const std::vector<std::string>& arguments, const Variables& variables,
                     std::chrono::seconds patience);

}  // namespace flexlom::tool
