#include "interpose/ipc/protocol.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

namespace flexlom::ipc {

bool send_all(int fd, const void* data, size_t bytes) noexcept {
  auto* at = static_cast<const char*>(data);
  while (bytes > 0) {
    const ssize_t n = send(fd, at, bytes, MSG_NOSIGNAL);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return false;
    at += n;
    bytes -= static_cast<size_t>(n);
  }
  return true;
}

bool receive_all(int fd, void* data, size_t bytes) noexcept {
  auto* at = static_cast<char*>(data);
  while (bytes > 0) {
    const ssize_t n = recv(fd, at, bytes, 0);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return false;
    at += n;
    bytes -= static_cast<size_t>(n);
  }
  return true;
}

namespace {

union Control {
  cmsghdr header;
  char space[CMSG_SPACE(sizeof(int) * kDescriptorsPerMessage)];
};

}  // namespace

bool send_descriptors(int fd, const int* descriptors, uint32_t count) noexcept {
  Control control{};
  char byte = 'd';
  iovec data{&byte, 1};
  msghdr message{};
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  message.msg_control = &control;
  message.msg_controllen = CMSG_SPACE(sizeof(int) * count);
  cmsghdr* header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(sizeof(int) * count);
  std::memcpy(CMSG_DATA(header), descriptors, sizeof(int) * count);
  ssize_t n = 0;
  do {
    n = sendmsg(fd, &message, MSG_NOSIGNAL);
  } while (n < 0 && errno == EINTR);
  return n == 1;
}

bool receive_descriptors(int fd, int* descriptors, uint32_t count) noexcept {
  Control control{};
  char byte = 0;
  iovec data{&byte, 1};
  msghdr message{};
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  message.msg_control = &control;
  message.msg_controllen = sizeof control;
  ssize_t n = 0;
  do {
    n = recvmsg(fd, &message, MSG_CMSG_CLOEXEC);
  } while (n < 0 && errno == EINTR);
  const cmsghdr* header = n == 1 ? CMSG_FIRSTHDR(&message) : nullptr;
  if (header == nullptr || header->cmsg_type != SCM_RIGHTS) return false;
  const size_t got = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
  int received[kDescriptorsPerMessage];
  std::memcpy(received, CMSG_DATA(header), got * sizeof(int));
  if (got == count && (message.msg_flags & MSG_CTRUNC) == 0) {
    std::memcpy(descriptors, received, count * sizeof(int));
    return true;
  }
  for (size_t i = 0; i < got; ++i) close(received[i]);
  return false;
}

}  // namespace flexlom::ipc
