#include "interpose/trace/line_reader.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

namespace flexlom::trace {

LineReader::~LineReader() {
  if (fd_ > STDIN_FILENO) close(fd_);
}

bool LineReader::open(const std::string& path, std::string* error) {
  fd_ = path == "-" ? STDIN_FILENO : ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd_ < 0 && error != nullptr) *error = path + ": " + strerror(errno);
  struct stat file {};
  if (fd_ >= 0 && fstat(fd_, &file) == 0 && S_ISREG(file.st_mode))
    file_bytes_ = static_cast<uint64_t>(file.st_size);
  return fd_ >= 0;
}

bool LineReader::fill() {
  constexpr size_t chunk_bytes = 1 << 18;
  chunk_.resize(chunk_bytes);
  at_ = 0;
  ssize_t size;
  do {
    size = read(fd_, chunk_.data(), chunk_.size());
  } while (size < 0 && errno == EINTR);
  if (size < 0) read_error_ = strerror(errno);
  chunk_.resize(size > 0 ? static_cast<size_t>(size) : 0);
  read_bytes_ += chunk_.size();
  return size > 0;
}

LineReader::Line LineReader::next() {
  line_.clear();
  bool any = false, too_long = false;
  for (;;) {
    if (at_ == chunk_.size() && !fill()) {
      text_ = line_;
      if (!any) return Line::end;
      return too_long ? Line::too_long : Line::unended;
    }
    if (!any) number_++;
    const size_t newline = chunk_.find('\n', at_);
    const size_t end = newline == std::string::npos ? chunk_.size() : newline;
    if (!any && newline != std::string::npos && end - at_ <= most_bytes) {
      text_ = std::string_view(chunk_).substr(at_, end - at_);
      at_ = end + 1;
      return Line::whole;
    }
    any = true;
    const size_t room = most_bytes - line_.size();
    if (end - at_ > room) too_long = true;
    line_.append(chunk_, at_, std::min(room, end - at_));
    at_ = newline == std::string::npos ? end : end + 1;
    if (newline == std::string::npos) continue;
    text_ = line_;
    return too_long ? Line::too_long : Line::whole;
  }
}

}  // namespace flexlom::trace
