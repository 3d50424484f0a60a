#include "interpose/trace/line_reader.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include <algorithm>

namespace flexlom::trace {

LineReader::~LineReader() {
  if (fd_ > STDIN_FILENO) close(fd_);
}

bool LineReader::open(const std::string& path, std::string* error) {
  fd_ = path == "-" ? STDIN_FILENO : ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd_ < 0 && error != nullptr) *error = path + ": " + strerror(errno);
  return fd_ >= 0;
}

bool LineReader::fill() {
  chunk_.resize(1 << 16);
  at_ = 0;
  ssize_t size;
  do {
    size = read(fd_, chunk_.data(), chunk_.size());
  } while (size < 0 && errno == EINTR);
  if (size < 0) read_error_ = strerror(errno);
  chunk_.resize(size > 0 ? static_cast<size_t>(size) : 0);
  return size > 0;
}

LineReader::Line LineReader::next() {
  line_.clear();
  bool any = false, too_long = false;
  for (;;) {
    if (at_ == chunk_.size() && !fill()) {
      if (!any) return Line::end;
      return too_long ? Line::too_long : Line::unended;
    }
    if (!any) number_++;
    any = true;
    size_t newline = chunk_.find('\n', at_);
    size_t end = newline == std::string::npos ? chunk_.size() : newline;
    size_t room = most_bytes - line_.size();
    if (end - at_ > room) too_long = true;
    line_.append(chunk_, at_, std::min(room, end - at_));
    at_ = newline == std::string::npos ? end : end + 1;
    if (newline != std::string::npos) return too_long ? Line::too_long : Line::whole;
  }
}

}  // namespace flexlom::trace
