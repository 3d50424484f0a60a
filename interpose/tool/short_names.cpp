#include "interpose/tool/short_names.h"

#include <algorithm>

#include "interpose/tool/output.h"

namespace flexlom::tool {
namespace {

constexpr std::string_view dots = "...";

bool is_word(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
         static_cast<unsigned char>(c) >= 0x80;
}

// The length of what belongs together at the front of `name`, although it looks like a list: the
// name of an operator, a namespace without one, Python's "<module>". 0 when there is no such thing.
size_t kept_length(std::string_view name, char before, bool at_begin) {
  constexpr std::string_view unnamed = "(anonymous namespace)", word = "operator";
  if (name.starts_with(unnamed)) return unnamed.size();
  if (name.starts_with("->")) return 2;
  if (at_begin && name.starts_with('<')) {
    size_t end = 1;
    while (end < name.size() && is_word(name[end])) end++;
    return end < name.size() && name[end] == '>' ? end + 1 : 0;
  }
  if (!name.starts_with(word) || is_word(before)) return 0;
  std::string_view rest = name.substr(word.size());
  for (std::string_view symbol :
       {"()", "<=>", "<<=", ">>=", "->*", "<<", ">>", "<=", ">=", "->", "<", ">"}) {
    // What follows "<" of a comparison is its own list: "operator< <int>(...)" or "operator<(...)".
    if (rest.starts_with(symbol)) return word.size() + symbol.size();
  }
  return 0;
}

// The length of the list at the front of `name`, brackets included; all of it when it never ends.
size_t list_length(std::string_view name) {
  std::string open;
  for (size_t i = 0; i < name.size(); i++) {
    const char c = name[i];
    if (c == '(' || c == '<') {
      open += c;
    } else if (c == ')') {
      // An unbalanced '<' inside was a comparison.
      const size_t mate = open.rfind('(');
      if (mate != open.npos) open.resize(mate);
    } else if (c == '>' && name[i - 1] != '-' && open.back() == '<') {
      open.pop_back();
    }
    if (open.empty()) return i + 1;
  }
  return name.size();
}

// At most `most` bytes: the end of a name says more than its namespaces.
std::string end_of(const std::string& name, size_t most) {
  if (name.size() <= most) return name;
  size_t begin = name.size() - (most - dots.size());
  while (begin < name.size() && (static_cast<unsigned char>(name[begin]) & 0xc0) == 0x80) begin++;
  return std::string(dots) + name.substr(begin);
}

}  // namespace

std::string short_function(std::string_view name) {
  std::string out;
  for (size_t i = 0; i < name.size();) {
    const std::string_view rest = name.substr(i);
    if (const size_t kept = kept_length(rest, i == 0 ? ' ' : name[i - 1], i == 0); kept != 0) {
      out += rest.substr(0, kept);
      i += kept;
    } else if (rest[0] == '(' || rest[0] == '<') {
      const size_t length = list_length(rest);
      out += rest[0];
      if (length != 2) out += dots;
      out += rest[0] == '(' ? ')' : '>';
      i += length;
    } else {
      out += rest[0];
      i++;
    }
  }
  return out;
}

std::string short_stack(const std::vector<trace::FrameLabel>& stack) {
  constexpr size_t most_frames = 3;
  constexpr std::string_view between = " < ";
  const size_t shown = std::min(most_frames, stack.size());
  if (shown == 0) return {};
  const size_t joints = (shown - 1) * between.size() + between.size() + dots.size();
  const size_t most = (most_short_stack - joints) / shown;
  std::string out;
  for (size_t i = 0; i < shown; i++) {
    if (i != 0) out += between;
    out += end_of(printable(short_function(stack[i].function)), most);
  }
  if (stack.size() > shown) out.append(between).append(dots);
  return out;
}

}  // namespace flexlom::tool
