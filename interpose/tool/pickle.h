// Python pickles, protocol 2: what every reader of memory snapshots accepts, browsers included.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>

#include "interpose/tool/output.h"

namespace flexlom::tool {

// Appends opcodes to a string. The caller keeps the order that the pickle machine needs: a
// container, mark(), its elements (or keys and values), then append_all() or set_all(). Lists that
// may be long are made by PickleList.
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

  // Less than 4 GiB. A reader takes no snapshot that has one byte that is not UTF-8.
  void text(std::string_view any) {
    const std::string value = valid_utf8(any);
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

  // A text of few that come often: written once, then only named.
  void word(std::string_view value) {
    const auto known = words_.find(value);
    if (known != words_.end()) return recall(known->second);
    text(value);
    words_.emplace(value, remember());
  }

  // What was made last can be had again, as the same object, by the number that is returned.
  uint32_t remember() {
    memo('q', 'r', next_);
    return next_++;
  }
  void recall(uint32_t number) { memo('h', 'j', number); }

  // A key and its value, inside a dict.
  void item(std::string_view key, uint64_t value) {
    word(key);
    number(value);
  }
  void item(std::string_view key, std::string_view value) {
    word(key);
    text(value);
  }

 private:
  void memo(char opcode, char long_opcode, uint32_t number) {
    const bool is_long = number > 0xff;
    out_ += is_long ? long_opcode : opcode;
    little_endian(number, is_long ? 4 : 1);
  }
  void little_endian(uint64_t value, int bytes) {
    for (int i = 0; i < bytes; i++) out_ += static_cast<char>(value >> (8 * i) & 0xff);
  }

  std::string& out_;
  std::map<std::string, uint32_t, std::less<>> words_;
  uint32_t next_ = 0;
};

// A list of any length, in batches as Python makes them: the viewer in the browser hands each batch
// to one call as its arguments, which fails from about 120 000 on.
class PickleList {
 public:
  static constexpr int most_at_once = 1000;

  explicit PickleList(Pickle& pickle) : pickle_(pickle) { pickle_.list(); }
  // Before each element.
  void next() {
    if (waiting_ == most_at_once) end();
    if (waiting_++ == 0) pickle_.mark();
  }
  void end() {
    if (waiting_ != 0) pickle_.append_all();
    waiting_ = 0;
  }

 private:
  Pickle& pickle_;
  int waiting_ = 0;
};

}  // namespace flexlom::tool
