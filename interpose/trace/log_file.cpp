#include "interpose/trace/log_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <utility>

namespace flexlom::trace {
namespace {

// Without O_NONBLOCK a FIFO that nobody reads would hold the program for ever, and without O_NOCTTY
// a terminal could become the one that controls a daemon.
constexpr int existing_flags = O_WRONLY | O_APPEND | O_CLOEXEC | O_NONBLOCK | O_NOCTTY;

void make_parents(const std::string& path) {
  for (size_t i = path.find('/', 1); i != std::string::npos; i = path.find('/', i + 1))
    mkdir(path.substr(0, i).c_str(), 0777);  // whatever fails here makes open() fail and say why
}

int open_existing(const char* path) {
  int fd = ::open(path, existing_flags);
  if (fd >= 0) fcntl(fd, F_SETFL, O_APPEND);
  return fd;
}

// Creates a file that did not exist before, under this name or a numbered one.
int create_new(std::string& path) {
  constexpr int flags = O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC;
  constexpr int most_names = 10000;
  std::string base = path;
  for (int number = 1; number < most_names; number++) {
    int fd = ::open(path.c_str(), flags, 0600);
    if (fd >= 0 || errno != EEXIST) return fd;
    struct stat about {};
    if (stat(path.c_str(), &about) == 0 && (S_ISCHR(about.st_mode) || S_ISFIFO(about.st_mode)))
      return open_existing(path.c_str());
    path = base + "." + std::to_string(number);
  }
  errno = EEXIST;
  return -1;
}

// The same file under a number that the program's own files do not get: above 512, or where
// RLIMIT_NOFILE leaves no room there, lower, but not one of the standard three.
int move_up(int fd) {
  for (int lowest : {512, 64, 3}) {
    if (fd >= lowest) return fd;
    int moved = fcntl(fd, F_DUPFD_CLOEXEC, lowest);
    if (moved < 0) continue;
    close(fd);
    return moved;
  }
  return fd;
}

// Empty when the current directory has no name: then a lost file stays lost.
std::string absolute(const std::string& path) {
  if (path.starts_with('/')) return path;
  char* here = getcwd(nullptr, 0);
  std::string result = here != nullptr ? std::string(here) + "/" + path : "";
  ::free(here);
  return result;
}

}  // namespace

std::optional<LogFile> LogFile::open(std::string& path) {
  make_parents(path);
  int fd = create_new(path);
  if (fd < 0) return std::nullopt;
  return LogFile(move_up(fd), absolute(path));
}

LogFile::LogFile(int fd, std::string path) noexcept : fd_(fd), path_(std::move(path)) {
  struct stat about {};
  if (fstat(fd_, &about) != 0) return;
  device_ = about.st_dev;
  inode_ = about.st_ino;
}

LogFile::LogFile(LogFile&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)),
      device_(other.device_),
      inode_(other.inode_),
      path_(std::move(other.path_)) {}

bool LogFile::is_ours(int fd) const noexcept {
  struct stat about {};
  return fd >= 0 && fstat(fd, &about) == 0 && about.st_dev == device_ && about.st_ino == inode_;
}

// Returns an errno. What the old number names now belongs to the program and is left alone.
int LogFile::reopen() noexcept {
  fd_ = -1;
  // Asked first because opening a stranger's FIFO or device would already be noticed.
  struct stat about {};
  if (stat(path_.c_str(), &about) != 0) return errno;
  if (about.st_dev != device_ || about.st_ino != inode_) return ESTALE;
  int fd = open_existing(path_.c_str());
  if (fd < 0) return errno;
  if (!is_ours(fd)) {
    ::close(fd);
    return ESTALE;
  }
  fd_ = move_up(fd);
  return 0;
}

int LogFile::write(const char* data, size_t size) noexcept {
  while (size != 0) {
    if (!is_ours(fd_)) {
      int code = reopen();
      if (code != 0) return code;
    }
    ssize_t done = ::write(fd_, data, size);
    if (done < 0 && errno == EINTR) continue;
    if (done <= 0) return done == 0 ? EIO : errno;
    data += done;
    size -= static_cast<size_t>(done);
  }
  return 0;
}

void LogFile::close() noexcept {
  if (is_ours(fd_)) ::close(fd_);
  fd_ = -1;
}

}  // namespace flexlom::trace
