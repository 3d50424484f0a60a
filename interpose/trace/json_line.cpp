#include "interpose/trace/json_line.h"

#include <charconv>

namespace flexlom::trace {
namespace {

// A recursive reader of RFC 8259 that keeps only where values begin and end.
class Scanner {
 public:
  explicit Scanner(std::string_view text) : text_(text) {}

  const char* error = nullptr;

  void space() {
    while (at_ < text_.size() &&
           (text_[at_] == ' ' || text_[at_] == '\t' || text_[at_] == '\n' || text_[at_] == '\r'))
      at_++;
  }

  bool end() const { return at_ == text_.size(); }
  bool peek(char c) const { return at_ < text_.size() && text_[at_] == c; }

  bool take(char c) {
    if (!peek(c)) return false;
    at_++;
    return true;
  }

  // Each of these returns the text of what it read; `error` is set when it could not be read.
  std::string_view string() {
    const size_t begin = at_;
    if (!take('"')) return fail("expected a string");
    while (at_ < text_.size()) {
      // Most characters are none of the three that matter.
      const char* next = text_.data() + at_;
      const char* const end = text_.data() + text_.size();
      while (next != end && *next != '"' && *next != '\\' &&
             static_cast<unsigned char>(*next) >= 0x20)
        next++;
      at_ = static_cast<size_t>(next - text_.data());
      if (next == end) break;
      const char c = text_[at_++];
      if (c == '"') return text_.substr(begin, at_ - begin);
      if (static_cast<unsigned char>(c) < 0x20) return fail("a control character in a string");
      if (c == '\\' && !escape()) return fail("an unknown escape in a string");
    }
    return fail("a string without an end");
  }

  std::string_view value(int depth = 0) {
    constexpr int most_depth = 32;
    if (depth > most_depth) return fail("nested too deep");
    size_t begin = at_;
    if (end()) return fail("cut short");
    char first = text_[at_];
    if (first == '"') return string();
    if (first == '{' || first == '[') {
      container(first, depth);
      return error != nullptr ? std::string_view() : text_.substr(begin, at_ - begin);
    }
    if (first == 't' || first == 'f' || first == 'n') {
      for (std::string_view word : {"true", "false", "null"}) {
        if (text_.substr(at_, word.size()) == word) {
          at_ += word.size();
          return word;
        }
      }
    }
    return number();
  }

 private:
  std::string_view fail(const char* message) {
    if (error == nullptr) error = message;
    return {};
  }

  bool escape() {
    if (end()) return false;
    char c = text_[at_++];
    if (c != 'u') return std::string_view("\"\\/bfnrt").find(c) != std::string_view::npos;
    for (int i = 0; i < 4; i++) {
      if (end() ||
          std::string_view("0123456789abcdefABCDEF").find(text_[at_]) == std::string_view::npos)
        return false;
      at_++;
    }
    return true;
  }

  bool digits() {
    size_t begin = at_;
    while (at_ < text_.size() && text_[at_] >= '0' && text_[at_] <= '9') at_++;
    return at_ != begin;
  }

  std::string_view number() {
    size_t begin = at_;
    take('-');
    bool good = take('0') || digits();
    if (good && take('.')) good = digits();
    if (good && (take('e') || take('E'))) {
      if (!take('+')) take('-');
      good = digits();
    }
    if (!good) return fail(end() ? "cut short" : "not a value");
    return text_.substr(begin, at_ - begin);
  }

  void container(char open, int depth) {
    char close = open == '{' ? '}' : ']';
    at_++;
    space();
    if (take(close)) return;
    do {
      space();
      if (open == '{') {
        string();
        space();
        if (error == nullptr && !take(':')) fail("expected ':'");
        space();
      }
      if (error == nullptr) value(depth + 1);
      if (error != nullptr) return;
      space();
    } while (take(','));
    if (!take(close)) fail(end() ? "cut short" : "expected ',' or a closing bracket");
  }

  std::string_view text_;
  size_t at_ = 0;
};

void append_utf8(std::string& out, uint32_t code) {
  if (code < 0x80) {
    out += static_cast<char>(code);
    return;
  }
  if (code < 0x800) {
    out += static_cast<char>(0xc0 | code >> 6);
  } else {
    if (code < 0x10000) {
      out += static_cast<char>(0xe0 | code >> 12);
    } else {
      out += static_cast<char>(0xf0 | code >> 18);
      out += static_cast<char>(0x80 | (code >> 12 & 0x3f));
    }
    out += static_cast<char>(0x80 | (code >> 6 & 0x3f));
  }
  out += static_cast<char>(0x80 | (code & 0x3f));
}

// The four digits after "\u" at text[i], or nothing when there are none.
std::optional<uint32_t> code_unit(std::string_view text, size_t i) {
  if (i + 6 > text.size() || text[i] != '\\' || text[i + 1] != 'u') return std::nullopt;
  uint32_t unit = 0;
  const char* first = text.data() + i + 2;
  auto [last, problem] = std::from_chars(first, first + 4, unit, 16);
  if (problem != std::errc() || last != first + 4) return std::nullopt;
  return unit;
}

template <typename T>
std::optional<T> whole(std::string_view text, int base = 10) {
  T value{};
  auto [last, problem] = std::from_chars(text.data(), text.data() + text.size(), value, base);
  if (problem != std::errc() || last != text.data() + text.size()) return std::nullopt;
  return value;
}

}  // namespace

bool JsonLine::parse(std::string_view line) {
  fields_.clear();
  error_ = "";
  Scanner scan(line);
  scan.space();
  if (!scan.take('{')) {
    error_ = scan.end() ? "an empty line" : "not a JSON object";
    return false;
  }
  scan.space();
  if (!scan.take('}')) {
    do {
      scan.space();
      Field field;
      field.name = scan.string();
      scan.space();
      if (scan.error == nullptr && !scan.take(':'))
        scan.error = scan.end() ? "cut short" : "expected ':'";
      scan.space();
      if (scan.error == nullptr) field.value = scan.value();
      if (scan.error != nullptr) break;
      field.name = field.name.substr(1, field.name.size() - 2);
      fields_.push_back(field);
      scan.space();
    } while (scan.take(','));
    if (scan.error == nullptr && !scan.take('}'))
      scan.error = scan.end() ? "cut short" : "expected ',' or '}'";
  }
  scan.space();
  if (scan.error == nullptr && !scan.end()) scan.error = "text after the object";
  if (scan.error == nullptr) return true;
  error_ = scan.error;
  fields_.clear();
  return false;
}

std::string_view JsonLine::raw(std::string_view name) const {
  for (const Field& field : fields_) {
    if (field.name == name) return field.value;
  }
  return {};
}

std::optional<uint64_t> JsonLine::whole_number(std::string_view value) {
  return whole<uint64_t>(value);
}

std::optional<int64_t> JsonLine::signed_number(std::string_view value) {
  return whole<int64_t>(value);
}

std::optional<uint64_t> JsonLine::hex_number(std::string_view value) {
  if (value.size() < 5 || value.substr(0, 3) != "\"0x") return std::nullopt;
  return whole<uint64_t>(value.substr(3, value.size() - 4), 16);
}

std::optional<uint64_t> JsonLine::number(std::string_view name) const {
  return whole_number(raw(name));
}

std::optional<int64_t> JsonLine::integer(std::string_view name) const {
  return signed_number(raw(name));
}

std::optional<uint64_t> JsonLine::hex(std::string_view name) const { return hex_number(raw(name)); }

std::optional<std::string> JsonLine::text(std::string_view name) const {
  std::string_view value = raw(name);
  if (value.empty() || value[0] != '"') return std::nullopt;
  return unescape_json(value);
}

std::optional<bool> JsonLine::boolean(std::string_view name) const {
  std::string_view value = raw(name);
  if (value == "true") return true;
  if (value == "false") return false;
  return std::nullopt;
}

std::vector<std::string_view> JsonLine::elements(std::string_view name) const {
  std::vector<std::string_view> found;
  Scanner scan(raw(name));
  if (!scan.take('[')) return found;
  scan.space();
  if (scan.peek(']')) return found;
  do {
    scan.space();
    found.push_back(scan.value());
    scan.space();
  } while (scan.error == nullptr && scan.take(','));
  return found;
}

std::string unescape_json(std::string_view quoted) {
  std::string out;
  if (quoted.size() < 2) return out;
  std::string_view text = quoted.substr(1, quoted.size() - 2);
  for (size_t i = 0; i < text.size(); i++) {
    if (text[i] != '\\' || i + 1 == text.size()) {
      out += text[i];
      continue;
    }
    std::optional<uint32_t> unit = code_unit(text, i);
    if (!unit) {
      constexpr std::string_view from = "bfnrt", to = "\b\f\n\r\t";
      size_t which = from.find(text[++i]);
      out += which == std::string_view::npos ? text[i] : to[which];
      continue;
    }
    i += 5;
    bool is_high = *unit >= 0xd800 && *unit < 0xdc00;
    std::optional<uint32_t> low = is_high ? code_unit(text, i + 1) : std::nullopt;
    if (low && *low >= 0xdc00 && *low < 0xe000) {
      append_utf8(out, 0x10000 + ((*unit - 0xd800) << 10) + (*low - 0xdc00));
      i += 6;
    } else {
      append_utf8(out, *unit >= 0xd800 && *unit < 0xe000 ? 0xfffd : *unit);
    }
  }
  return out;
}

}  // namespace flexlom::trace
