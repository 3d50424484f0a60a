// JSON written piece by piece.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "interpose/tool/output.h"

namespace flexlom::tool {

// Collects the members of one JSON object or the elements of one array.
class Json {
 public:
  explicit Json(char open) : text_(1, open) {}

  Json& raw(std::string_view name, std::string_view json) {
    if (text_.size() > 1) text_ += ',';
    if (!name.empty()) text_ += json_string(name) + ":";
    text_ += json;
    return *this;
  }
  Json& number(std::string_view name, uint64_t value) { return raw(name, std::to_string(value)); }
  Json& text(std::string_view name, std::string_view value) {
    return raw(name, json_string(value));
  }
  std::string end() const { return text_ + (text_[0] == '{' ? '}' : ']'); }

 private:
  std::string text_;
};

}  // namespace flexlom::tool
