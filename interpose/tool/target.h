// What a program is, as far as LD_PRELOAD cares.
#pragma once

#include <string>
#include <vector>

namespace flexlom::tool {

// How a name was found, as execvp(3) would.
struct Found {
  std::string path;  // empty: not found
  int error = 0;     // ENOENT or EACCES when not found
};
Found find_program(const std::string& name);

struct Target {
  // Why the program cannot be started at all, and the status for that (126); empty when it can.
  std::string cannot_start;
  // Why LD_PRELOAD has no effect on it; empty when it has.
  std::string cannot_preload;
  // What could not be checked; empty when all was.
  std::string not_checked;
  std::string file;                 // the ELF file that runs in the end: a script's interpreter
  std::vector<std::string> needed;  // the shared libraries it names itself
};

// Looks at the file, and for a script at its interpreter.
Target inspect_target(const std::string& path);

}  // namespace flexlom::tool
