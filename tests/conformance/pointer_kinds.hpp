// One pointer of every kind that a program can hold, for the rows about pointers.
#pragma once

#include <string>
#include <vector>

#include "tests/conformance/driver.hpp"

namespace flexlom::conformance {

struct PointerKind {
  std::string name;
  CUdeviceptr p = 0;            // the pointer asked about
  CUdeviceptr base = 0;         // start of the object it points into
  uint64_t bytes = 0;           // size of that object
  CUmemoryPool pool = nullptr;  // the pool it was taken from, where the program made one
};

// Makes them all in the current context; they live until the process ends. Kinds the driver
// cannot make are left out after a row `cannot_make.<kind>`.
std::vector<PointerKind> make_pointer_kinds();

// "null", "default", "own" (made by the program) or "other".
std::string pool_name(CUmemoryPool pool, const PointerKind& kind);

}  // namespace flexlom::conformance
