// The file of a trace log in a program that may close descriptors it did not open and reuse their
// numbers (daemons do): nothing is ever written into, or closed of, a file that is not the log.
//
// The descriptor's number is high, out of reach of what the program opens next, and before every
// write the kernel is asked which file it names. Between that question and the write the program
// could still change it; the high number makes that unlikely, and nothing short of a process of our
// own would make it impossible.
//
// Not thread safe: the caller has one thread at a time in here. Nothing throws but open().
#pragma once

#include <stddef.h>
#include <sys/types.h>

#include <optional>
#include <string>

namespace flexlom::trace {

class LogFile {
 public:
  // Creates `path`, and directories on the way to it, with the permissions of the umask (the file
  // at most 0600). An existing file is never touched: `path` gets .1, .2, ... appended. A device or
  // a FIFO is opened as it is. On failure errno says why. May throw std::bad_alloc.
  static std::optional<LogFile> open(std::string& path);

  LogFile(LogFile&& other) noexcept;
  LogFile& operator=(LogFile&&) = delete;
  ~LogFile() { close(); }

  // Appends everything, or returns the errno that kept it from doing so. May wait for the disk.
  int write(const char* data, size_t size) noexcept;

  // Closes the descriptor if it still names the log. Async-signal safe, for forked children too.
  void close() noexcept;

 private:
  LogFile(int fd, std::string path) noexcept;
  bool is_ours(int fd) const noexcept;
  int reopen() noexcept;

  int fd_;
  dev_t device_ = 0;
  ino_t inode_ = 0;
  std::string path_;  // absolute: daemons change their directory as well
};

}  // namespace flexlom::trace
