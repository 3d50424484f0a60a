// Which files are mapped where: the executable and its shared libraries, so that a raw code address
// in a log can be named later, on another machine.
//
// Everything is asked of dl_iterate_phdr, which (unlike dlopen, dlsym and dladdr) takes only the
// loader's short list lock, not the one that is held while constructors run: a thread that a
// constructor waits for may record stacks.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace flexlom::stacks {

struct Module {
  uintptr_t base = 0;            // what is added to the addresses in the file
  uintptr_t begin = 0, end = 0;  // all of its segments
  struct Segment {
    uintptr_t begin = 0, end = 0;
    bool code = false;
  };
  std::vector<Segment> segments;  // by address
  std::string path;               // as the loader names it; the executable by its real path
  std::string build_id;           // lower-case hexadecimal, empty: it has none

  bool operator==(const Module& other) const {
    return base == other.base && begin == other.begin && end == other.end && path == other.path &&
           build_id == other.build_id;
  }
};

// How many objects were ever loaded and unloaded (dlpi_adds, dlpi_subs).
struct LoaderState {
  uint64_t loaded = 0, unloaded = 0;
  bool operator==(const LoaderState&) const = default;
};
LoaderState loader_state() noexcept;

// The modules of this moment, by address, and the state that they belong to. Allocates; may throw
// std::bad_alloc.
std::vector<Module> list_modules(LoaderState* state);

// Executable memory that belongs to no file, where compilers at run time put their code (CPython's
// perf trampolines among it). Read from /proc/self/maps, which takes a millisecond in a large
// process. Never throws; without memory or /proc there are none.
struct CodeRange {
  uintptr_t begin = 0, end = 0;
};
std::vector<CodeRange> list_anonymous_code() noexcept;

}  // namespace flexlom::stacks
