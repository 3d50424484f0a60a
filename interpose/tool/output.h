// Words and numbers as the tool prints them.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace flexlom::tool {

std::string human_bytes(uint64_t bytes);           // "512 B", "1.5 GiB"
std::string human_time(uint64_t ns);               // "1.204 s", "2 h 03 min"
std::string share(uint64_t part, uint64_t whole);  // "45.0%"; nothing of nothing
std::string driver_release(int64_t version);       // 13000: "13.0"
std::string json_string(std::string_view text);    // with quotes

// Text of unknown origin as UTF-8: bytes that are none become '?', as in JSON.
std::string valid_utf8(std::string_view text);

// The same for a terminal, or for readers of lines: control characters become spaces, too.
std::string printable(std::string_view text);

// A word that a POSIX shell reads back as `text`.
std::string shell_quote(std::string_view text);

// The number of edits (insert, delete, replace, swap of neighbours) between two words.
size_t edit_distance(std::string_view a, std::string_view b);

// For messages of the tool itself, on standard error: "flexlom: text".
void complain(std::string_view text);

}  // namespace flexlom::tool
