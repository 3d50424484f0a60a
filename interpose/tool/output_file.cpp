#include "interpose/tool/output_file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

namespace flexlom::tool {

OutputFile::~OutputFile() {
  if (fd_ > STDOUT_FILENO) ::close(fd_);
}

void OutputFile::fail(int code) {
  if (error_.empty()) error_ = (path_ == "-" ? "standard output" : path_) + ": " + strerror(code);
  buffer_.clear();
}

bool OutputFile::open() {
  if (fd_ >= 0) return true;
  constexpr mode_t mode = 0666;  // less the umask
  fd_ = path_ == "-" ? STDOUT_FILENO
                     : ::open(path_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);
  if (fd_ < 0) fail(errno);
  return fd_ >= 0;
}

void OutputFile::flush() {
  if (failed() || !open()) {
    buffer_.clear();
    return;
  }
  std::string_view left = buffer_;
  while (!left.empty()) {
    const ssize_t size = write(fd_, left.data(), left.size());
    if (size < 0 && errno == EINTR) continue;
    if (size < 0) return fail(errno);
    written_bytes_ += static_cast<uint64_t>(size);
    left.remove_prefix(static_cast<size_t>(size));
  }
  buffer_.clear();
}

bool OutputFile::close() {
  flush();
  if (fd_ > STDOUT_FILENO) {
    const int result = ::close(fd_);
    fd_ = -1;
    if (result != 0) fail(errno);
  }
  return !failed();
}

bool would_replace(const std::string& output, const std::string& log) {
  const auto look_at = [](const std::string& path, int standard, struct stat* found) {
    const int result = path == "-" ? fstat(standard, found) : stat(path.c_str(), found);
    return result == 0 && S_ISREG(found->st_mode);
  };
  struct stat to = {}, from = {};
  return look_at(output, STDOUT_FILENO, &to) && look_at(log, STDIN_FILENO, &from) &&
         to.st_dev == from.st_dev && to.st_ino == from.st_ino;
}

}  // namespace flexlom::tool
