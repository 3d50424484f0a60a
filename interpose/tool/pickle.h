// Python pickles, protocol 2: what every reader of memory snapshots accepts, browsers included.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace flexlom::tool {

// Appends opcodes to a string. The caller keeps the order that the pickle machine needs: a
// container, mark(), its elements (or keys and values), then append_all() or set_all().
class Pickle {
 public:
  explicit Pickle(std::string& out) : out_(out) {}

  void begin() { out_.append("\x80\x02", 2); }
  void stop() { out_ += '.'; }
  void dict() { out_ += '}'; }
  void list() { out_ += ']'; }
  void mark() { out_ += '('; }
  void set_all() { out_ += 'u'; }
  void append_all() { out_ += 'e'; }
  void yes() { out_ += '\x88'; }

  // UTF-8, less than 4 GiB.
  void text(std::string_view value) {
    out_ += 'X';
    little_endian(value.size(), 4);
    out_ += value;
  }

  void number(uint64_t value) { integer(static_cast<int64_t>(value & INT64_MAX)); }
  void integer(int64_t value) {
    if (value >= INT32_MIN && value <= INT32_MAX) {
      out_ += 'J';
      little_endian(static_cast<uint64_t>(value), 4);
    } else {
      out_.append("\x8a\x08", 2);
      little_endian(static_cast<uint64_t>(value), 8);
    }
  }

  // A key and its value, inside a dict.
  void item(std::string_view key, uint64_t value) {
    text(key);
    number(value);
  }
  void item(std::string_view key, std::string_view value) {
    text(key);
    text(value);
  }

 private:
  void little_endian(uint64_t value, int bytes) {
    for (int i = 0; i < bytes; i++) out_ += static_cast<char>(value >> (8 * i) & 0xff);
  }

  std::string& out_;
};

}  // namespace flexlom::tool
