// The value of LD_PRELOAD: a list of libraries, separated by colons or spaces.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace flexlom::tool {

std::vector<std::string> preload_entries(std::string_view value);

// The user's list with our library put first. An earlier entry for libflexlom.so goes, so that it
// is there once. A sanitizer's runtime insists on being first and stays there; `sanitizer` names
// one that the program is linked with and that must be added ("libasan.so.8"), or is empty.
std::string preload_value(std::string_view users, const std::string& library,
                          const std::string& sanitizer);

// The sanitizer runtime among the libraries that a program needs, or "".
std::string sanitizer_among(const std::vector<std::string>& needed);

// A variable named FLEXLOM_* in the environment that no option and no part of flexlom knows.
struct UnknownVariable {
  std::string name;
  std::string nearest;  // the known one that was probably meant, or empty
};
std::vector<UnknownVariable> unknown_variables(char** environment);

}  // namespace flexlom::tool
