// One JSON object in one line of text, as a list of its fields. Made for trace logs, which may be
// cut, damaged or hostile: nothing throws, nothing is copied before it is asked for.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace flexlom::trace {

// Views into the line: valid while the text lives. Not thread safe; reuse it for line after line.
class JsonLine {
 public:
  // Reads `line`, which must be exactly one object. False: it is not, and error() says why.
  bool parse(std::string_view line);
  bool parse(const char* line) { return parse(std::string_view(line)); }
  bool parse(std::string&& line) = delete;  // the fields would outlive it
  const char* error() const { return error_; }

  // The first field of that name. Absent, or of another type: nothing.
  std::optional<uint64_t> number(std::string_view name) const;  // whole, not negative
  std::optional<int64_t> integer(std::string_view name) const;
  std::optional<uint64_t> hex(std::string_view name) const;      // a string "0x..."
  std::optional<std::string> text(std::string_view name) const;  // escapes resolved
  std::optional<bool> boolean(std::string_view name) const;
  std::vector<std::string_view> elements(std::string_view name) const;  // of an array, as JSON

  // The JSON of a field's value, empty when there is none.
  std::string_view raw(std::string_view name) const;

  struct Field {
    std::string_view name;   // as written, without the quotes
    std::string_view value;  // its JSON
  };
  std::span<const Field> fields() const { return fields_; }  // in the order of the line

  // The same of a value that is at hand.
  static std::optional<uint64_t> whole_number(std::string_view value);
  static std::optional<int64_t> signed_number(std::string_view value);
  static std::optional<uint64_t> hex_number(std::string_view value);

 private:
  std::vector<Field> fields_;
  const char* error_ = "";
};

// Resolves the escapes of a JSON string given with its quotes. Unpaired surrogates become U+FFFD.
std::string unescape_json(std::string_view quoted);

}  // namespace flexlom::trace
