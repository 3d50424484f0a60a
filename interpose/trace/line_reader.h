// Lines of a file of any size, in bounded memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace flexlom::trace {

// Not thread safe. The file is closed with the reader unless it is standard input.
class LineReader {
 public:
  enum class Line {
    whole,     // text() is a line, without its newline
    unended,   // the last line of the file, which has no newline: it may have been cut
    too_long,  // more than most_bytes: text() is its beginning, the rest was skipped
    end,       // no more lines; read_error() tells whether the file could not be read to its end
  };
  static constexpr size_t most_bytes = 1 << 20;

  LineReader() = default;
  ~LineReader();
  LineReader(const LineReader&) = delete;
  LineReader& operator=(const LineReader&) = delete;

  // "-" is standard input. False: `error` says why.
  bool open(const std::string& path, std::string* error);
  Line next();
  std::string_view text() const { return text_; }  // valid until next()
  uint64_t number() const { return number_; }      // of this line, the first is 1
  const std::string& read_error() const { return read_error_; }
  uint64_t read_bytes() const { return read_bytes_; }  // so far, a little ahead of the lines
  uint64_t file_bytes() const { return file_bytes_; }  // when opened; 0: not a regular file

 private:
  bool fill();

  int fd_ = -1;
  std::string chunk_;
  size_t at_ = 0;
  std::string line_;       // a line that does not lie whole in the chunk
  std::string_view text_;  // in line_ or in chunk_
  uint64_t number_ = 0;
  uint64_t read_bytes_ = 0, file_bytes_ = 0;
  std::string read_error_;
};

}  // namespace flexlom::trace
