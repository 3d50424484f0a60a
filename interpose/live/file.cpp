#include "interpose/live/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U
#endif
#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 0x0010
#endif

namespace flexlom::live {
namespace {

constexpr unsigned kPatience = 32;  // publications between tries that the kernel refuses

// Above what the program opens next, or where RLIMIT_NOFILE leaves no room there, lower, but not
// one of the standard three. -1 when there is none.
int high_descriptor(int fd) {
  for (const int lowest : {512, 64, 3}) {
    const int moved = fcntl(fd, F_DUPFD_CLOEXEC, lowest);
    if (moved >= 0) return moved;
  }
  return -1;
}

// Field 22 of /proc/self/stat: behind the name, which may hold spaces and brackets.
uint64_t start_ticks() {
  char text[1024];
  const int fd = open("/proc/self/stat", O_RDONLY | O_CLOEXEC);
  if (fd < 0) return 0;
  const ssize_t n = read(fd, text, sizeof text - 1);
  close(fd);
  if (n <= 0) return 0;
  text[n] = '\0';
  const char* at = strrchr(text, ')');
  for (int field = 2; at != nullptr && field < 22; ++field) at = strchr(at + 1, ' ');
  return at != nullptr ? strtoull(at, nullptr, 10) : 0;
}

int make_file() {
  // Kernels from 6.3 want to be told that nothing in it will be executed, older ones refuse the
  // flag.
  int fd = memfd_create(kFileName, MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL);
  if (fd < 0 && errno == EINVAL) fd = memfd_create(kFileName, MFD_CLOEXEC | MFD_ALLOW_SEALING);
  return fd;
}

}  // namespace

File::~File() {
  if (page_ != nullptr) munmap(page_, kPageBytes);
  if (is_ours()) close(fd_);
}

bool File::is_ours() const noexcept {
  struct stat about {};
  return fd_ >= 0 && fstat(fd_, &about) == 0 && about.st_dev == device_ && about.st_ino == inode_;
}

void File::make() noexcept {
  const int low = make_file();
  if (low < 0) return;
  const int fd = high_descriptor(low);
  close(low);
  if (fd < 0) return;
  struct stat about {};
  void* at = MAP_FAILED;
  if (ftruncate(fd, kPageBytes) == 0 && fchmod(fd, 0400) == 0 && fstat(fd, &about) == 0)
    at = mmap(nullptr, kPageBytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (at == MAP_FAILED) {
    close(fd);
    return;
  }
  // A reader that shrank the file would make our next store a SIGBUS in the program; one that
  // wrote would only lie to others, and may not either where the kernel can forbid it (5.1).
  if (fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE | F_SEAL_SEAL) != 0)
    fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
  if (page_ != nullptr) munmap(page_, kPageBytes);
  page_ = static_cast<Page*>(at);
  fd_ = fd;
  device_ = about.st_dev;
  inode_ = about.st_ino;
  Head& head = page_->head;
  head.format = kFormat;
  head.page_bytes = kPageBytes;
  head.pid = static_cast<uint64_t>(getpid());
  head.start_ticks = start_ticks();
  snprintf(head.version, sizeof head.version, "%s", FLEXLOM_VERSION);
  // A reader that comes in between finds a page with no magic, and one being written.
  page_->sequence.store(1, std::memory_order_relaxed);
  std::atomic_thread_fence(std::memory_order_release);
  memcpy(head.magic, kMagic, sizeof kMagic);
}

void File::publish(const Sample& sample) noexcept {
  if (!is_ours()) {
    if (wait_ > 0) {
      --wait_;
      return;
    }
    fd_ = -1;
    make();
    if (fd_ < 0) {
      wait_ = kPatience;
      return;
    }
  }
  page_->write(sample);
}

}  // namespace flexlom::live
