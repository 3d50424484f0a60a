// Formats one JSON object into a fixed array: no allocation, no locale, no printf.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

namespace flexlom::trace {

// Fields that no longer fit are cut (strings) or left out whole, so the line is valid JSON always.
// Not thread safe.
class LineBuffer {
 public:
  explicit LineBuffer(std::string_view kind) {
    raw(R"({"kind":")");
    raw(kind);
    raw("\"");
  }

  void number(std::string_view name, uint64_t value) {
    char digits[20];
    char* begin = decimal(value, digits + sizeof digits);
    if (key(name, sizeof digits)) raw({begin, static_cast<size_t>(digits + sizeof digits - begin)});
  }

  void signed_number(std::string_view name, int64_t value) {
    if (value >= 0) return number(name, static_cast<uint64_t>(value));
    char digits[21];
    char* begin = decimal(0 - static_cast<uint64_t>(value), digits + sizeof digits);
    *--begin = '-';
    if (key(name, sizeof digits)) raw({begin, static_cast<size_t>(digits + sizeof digits - begin)});
  }

  // Addresses are strings, "0x500000000000": JSON numbers above 2^53 are not safe everywhere.
  void hex(std::string_view name, uint64_t value) {
    char digits[16];
    char* const end = digits + sizeof digits;
    char* begin = end;
    do {
      *--begin = "0123456789abcdef"[value & 15];
      value >>= 4;
    } while (value != 0);
    if (!key(name, sizeof digits + 4)) return;
    raw("\"0x");
    raw({begin, static_cast<size_t>(end - begin)});
    raw("\"");
  }

  void literal(std::string_view name, std::string_view value) {
    if (!key(name, value.size() + 2)) return;
    raw("\"");
    raw(value);
    raw("\"");
  }

  // Any bytes: what JSON forbids is escaped, what is not ASCII becomes '?'.
  void text(std::string_view name, std::string_view value) {
    if (!key(name, 2)) return;
    raw("\"");
    for (char c : value) {
      if (size_ + 4 > limit) break;  // an escape and the closing quote
      auto byte = static_cast<unsigned char>(c);
      if (c == '"' || c == '\\') {
        text_[size_++] = '\\';
        text_[size_++] = c;
      } else if (c == '\n' || c == '\t') {
        text_[size_++] = '\\';
        text_[size_++] = c == '\n' ? 'n' : 't';
      } else {
        text_[size_++] = byte < 0x20 || byte >= 0x7f ? '?' : c;
      }
    }
    raw("\"");
  }

  // Closes the object. The view is valid as long as the buffer.
  std::string_view finish() {
    text_[size_++] = '}';
    text_[size_++] = '\n';
    return {text_, size_};
  }

 private:
  static constexpr std::array<char, 200> digit_pairs = [] {
    std::array<char, 200> pairs{};
    for (size_t i = 0; i < 100; ++i) {
      pairs[2 * i] = static_cast<char>('0' + i / 10);
      pairs[2 * i + 1] = static_cast<char>('0' + i % 10);
    }
    return pairs;
  }();
  static constexpr size_t capacity = 768;
  static constexpr size_t limit = capacity - 2;  // room for finish()

  bool key(std::string_view name, size_t value_size) {
    if (size_ + name.size() + 4 + value_size > limit) return false;
    raw(",\"");
    raw(name);
    raw("\":");
    return true;
  }

  void raw(std::string_view part) {
    memcpy(text_ + size_, part.data(), part.size());
    size_ += part.size();
  }

  // Writes value so that it ends before `end`, and returns where it begins. Two digits at a time:
  // digits are most of a record, and divisions most of what they take.
  static char* decimal(uint64_t value, char* end) {
    while (value >= 100) {
      end -= 2;
      memcpy(end, &digit_pairs[value % 100 * 2], 2);
      value /= 100;
    }
    if (value < 10) {
      *--end = static_cast<char>('0' + value);
      return end;
    }
    end -= 2;
    memcpy(end, &digit_pairs[value * 2], 2);
    return end;
  }

  char text_[capacity];
  size_t size_ = 0;
};

}  // namespace flexlom::trace
