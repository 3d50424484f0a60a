// Legacy CUDA IPC for pool memory (CUDA Driver API 6.13, cuIpcGetMemHandle): what two processes
// under flexlom say to each other.
//
// The driver refuses legacy IPC for memory of ours, because it is made of VMM handles. So the 64
// opaque bytes carry where the exporting process can be asked for its pages: a socket in the
// abstract name space. The importer connects, names the allocation, and receives one file
// descriptor per page, which the driver turns back into memory (6.14,
// cuMemImportFromShareableHandle). Only processes of the same user are answered. A process that is
// not under flexlom finds the handle invalid.
#pragma once

#include <cuda.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <initializer_list>

namespace flexlom::ipc {

inline constexpr char kMagic[8] = {'f', 'l', 'e', 'x', 'l', 'o', 'm', '1'};

struct Handle {
  char magic[8];
  uint64_t nonce;  // of the exporting process; part of its socket's name
  int32_t pid;
  int32_t device;   // the exporter's ordinal, for people
  uint64_t base;    // of the allocation, in the exporter
  uint64_t id;      // of the allocation: a block that was freed and reused is another one
  uint64_t offset;  // of the allocation in its first page
  uint64_t asked_bytes;
  uint64_t reserved;
};
static_assert(sizeof(Handle) == sizeof(CUipcMemHandle));

struct Ask {
  char magic[8];
  uint64_t base, id;
};

// Followed by `pages` sizes (uint64_t each), then by file descriptors, kDescriptorsPerMessage at a
// time, each message with one byte of data.
struct Reply {
  int32_t result;  // CUresult
  uint32_t pages;
};
inline constexpr uint32_t kDescriptorsPerMessage = 64;
inline constexpr uint32_t kMostPages = 1u << 16;

// Names the exporter's socket; the length is what bind() and connect() need.
inline socklen_t socket_name(int32_t pid, uint64_t nonce, sockaddr_un* out) {
  std::memset(out, 0, sizeof *out);
  out->sun_family = AF_UNIX;
  char* at =
      out->sun_path + 1;  // a leading zero byte: the abstract name space, gone with its owner
  const char prefix[] = "flexlom-ipc-";
  std::memcpy(at, prefix, sizeof prefix - 1);
  at += sizeof prefix - 1;
  for (const uint64_t value : {static_cast<uint64_t>(static_cast<uint32_t>(pid)), nonce}) {
    for (int shift = 60; shift >= 0; shift -= 4) *at++ = "0123456789abcdef"[value >> shift & 15];
  }
  return static_cast<socklen_t>(at - reinterpret_cast<char*>(out));
}

// Whole messages or false; never raises SIGPIPE, survives signals.
bool send_all(int fd, const void* data, size_t bytes) noexcept;
bool receive_all(int fd, void* data, size_t bytes) noexcept;
bool send_descriptors(int fd, const int* descriptors, uint32_t count) noexcept;
bool receive_descriptors(int fd, int* descriptors, uint32_t count) noexcept;

}  // namespace flexlom::ipc
