// Where an export goes: a file, or standard output.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace flexlom::tool {

// Buffered. The file is made at the first byte, so that a log that cannot be read leaves none. Once
// writing has failed nothing more is written. Not thread safe.
class OutputFile {
 public:
  // "-" is standard output. A file that exists is replaced.
  explicit OutputFile(std::string path) : path_(std::move(path)) {}
  ~OutputFile();
  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;

  void put(std::string_view text) {
    buffer_ += text;
    if (buffer_.size() >= flush_bytes) flush();
  }
  // Writes what is left and closes. False when anything could not be written: error() says why.
  bool close();

  bool failed() const { return !error_.empty(); }
  const std::string& error() const { return error_; }
  uint64_t written_bytes() const { return written_bytes_ + buffer_.size(); }

 private:
  static constexpr size_t flush_bytes = 1 << 18;
  bool open();
  void flush();
  void fail(int code);

  const std::string path_;
  std::string buffer_, error_;
  int fd_ = -1;
  uint64_t written_bytes_ = 0;
};

// True: what is written to `output` would go into the regular file that the log is read from, by
// whatever name ("-" is standard output and input). It would be gone before the first line is read.
bool would_replace(const std::string& output, const std::string& log);

}  // namespace flexlom::tool
