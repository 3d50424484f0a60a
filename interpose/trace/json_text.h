// JSON strings from any bytes.
#pragma once

#include <string>
#include <string_view>

namespace flexlom::trace {

// Appends `value` as a JSON string, quotes included. Well-formed UTF-8 passes as it is; any other
// byte above 127 becomes '?', because host names, paths and arguments promise no encoding.
void append_json(std::string& out, std::string_view value);

// The number of bytes of the well-formed UTF-8 character at the front of text, 0 when it is none.
size_t utf8_length(std::string_view text) noexcept;

}  // namespace flexlom::trace
