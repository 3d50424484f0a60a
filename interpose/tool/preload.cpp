#include "interpose/tool/preload.h"

#include <algorithm>

#include "interpose/options.h"
#include "interpose/tool/output.h"

namespace flexlom::tool {
namespace {

std::string_view base_name(std::string_view path) { return path.substr(path.rfind('/') + 1); }

bool is_sanitizer(std::string_view entry) {
  std::string_view name = base_name(entry);
  return name.starts_with("libasan.so") || name.starts_with("libtsan.so") ||
         name.starts_with("libclang_rt.asan") || name.starts_with("libclang_rt.tsan");
}

}  // namespace

std::vector<std::string> preload_entries(std::string_view value) {
  std::vector<std::string> entries;
  while (!value.empty()) {
    size_t end = std::min(value.find_first_of(": \t\n"), value.size());
    if (end != 0) entries.emplace_back(value.substr(0, end));
    value.remove_prefix(std::min(end + 1, value.size()));
  }
  return entries;
}

std::string preload_value(std::string_view users, const std::string& library,
                          const std::string& sanitizer) {
  std::vector<std::string> first, rest;
  for (std::string& entry : preload_entries(users)) {
    if (base_name(entry) == "libflexlom.so") continue;
    (is_sanitizer(entry) ? first : rest).push_back(std::move(entry));
  }
  if (first.empty() && !sanitizer.empty()) first.push_back(sanitizer);
  first.push_back(library);
  first.insert(first.end(), rest.begin(), rest.end());
  std::string value;
  for (const std::string& entry : first) value += (value.empty() ? "" : ":") + entry;
  return value;
}

std::string sanitizer_among(const std::vector<std::string>& needed) {
  auto found = std::find_if(needed.begin(), needed.end(), is_sanitizer);
  return found == needed.end() ? "" : *found;
}

std::vector<UnknownVariable> unknown_variables(char** environment) {
  constexpr size_t most_edits = 3;
  std::vector<UnknownVariable> unknown;
  for (char** variable = environment; *variable != nullptr; variable++) {
    std::string_view name(*variable);
    name = name.substr(0, name.find('='));
    if (!name.starts_with("FLEXLOM_")) continue;
    bool known = false;
    size_t best = most_edits + 1;
    std::string nearest;
    for (size_t i = 0; i < option_count; i++) {
      size_t edits = edit_distance(name, option_table[i].variable);
      known = known || edits == 0;
      if (edits < best) {
        best = edits;
        nearest = option_table[i].variable;
      }
    }
    if (!known) unknown.push_back({std::string(name), nearest});
  }
  return unknown;
}

}  // namespace flexlom::tool
