// Numbers as short text for a page's script: base 64 of seven bits a byte, lowest first.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace flexlom::tool {

class PackedNumbers {
 public:
  void put(uint64_t value) {
    for (; value > 127; value >>= 7) bytes_ += static_cast<char>(value | 128);
    bytes_ += static_cast<char>(value);
  }
  // As the difference to `before`, which becomes the value. Below 2^63 both.
  void put_step(uint64_t value, uint64_t& before) {
    const uint64_t step = value - before;
    put(step << 1 ^ (step >> 63 != 0 ? ~uint64_t{0} : 0));
    before = value;
  }
  size_t size() const { return bytes_.size(); }

  std::string base64() const {
    constexpr std::string_view digits =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    std::string out;
    out.reserve(bytes_.size() / 3 * 4 + 4);
    for (size_t i = 0; i < bytes_.size(); i += 3) {
      uint32_t three = 0;
      for (size_t k = 0; k < 3; k++)
        three =
            three << 8 | (i + k < bytes_.size() ? static_cast<unsigned char>(bytes_[i + k]) : 0);
      for (size_t k = 0; k < 4; k++)
        out += i + k > bytes_.size() ? '=' : digits[three >> (18 - 6 * k) & 63];
    }
    return out;
  }

 private:
  std::string bytes_;
};

// A JSON string that is harmless inside a <script> element: no '<', whatever the text says.
std::string html_json_string(std::string_view text);

// Text as content of an element or in a quoted attribute. What is no UTF-8 becomes '?'.
std::string html_text(std::string_view text);

}  // namespace flexlom::tool
