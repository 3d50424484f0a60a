#include "interpose/tool/html_encode.h"

#include "interpose/tool/output.h"
#include "interpose/trace/json_text.h"

namespace flexlom::tool {

std::string html_json_string(std::string_view text) {
  std::string out;
  for (char c : json_string(text)) {
    if (c == '<') {
      out += "\\u003c";
    } else if (c == '>') {
      out += "\\u003e";
    } else if (c == '&') {
      out += "\\u0026";
    } else {
      out += c;
    }
  }
  return out;
}

std::string html_text(std::string_view text) {
  std::string out;
  while (!text.empty()) {
    const size_t length = trace::utf8_length(text);
    const char c = text[0];
    if (c == '<') {
      out += "&lt;";
    } else if (c == '>') {
      out += "&gt;";
    } else if (c == '&') {
      out += "&amp;";
    } else if (c == '"') {
      out += "&quot;";
    } else if (c == '\'') {
      out += "&#39;";
    } else if (length == 0 || c == '\0') {
      out += '?';
    } else {
      out += text.substr(0, length);
    }
    text.remove_prefix(length == 0 ? 1 : length);
  }
  return out;
}

}  // namespace flexlom::tool
