#include "tests/simcuda/physical.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdio>
#include <iterator>
#include <string>

namespace flexlom::sim {

uint64_t Extents::take(uint64_t bytes, uint64_t alignment) {
  for (auto it = free_.begin(); it != free_.end(); ++it) {
    const uint64_t start = (it->first + alignment - 1) / alignment * alignment;
    const uint64_t end = it->first + it->second;
    if (start >= end || end - start < bytes) continue;
    const uint64_t before = start - it->first;
    const uint64_t after = end - (start + bytes);
    if (before) {
      it->second = before;
    } else {
      free_.erase(it);
    }
    if (after) free_[start + bytes] = after;
    return start;
  }
  return kNone;
}

void Extents::give(uint64_t first, uint64_t bytes) {
  auto after = free_.lower_bound(first);
  if (after != free_.end() && first + bytes == after->first) {
    bytes += after->second;
    after = free_.erase(after);
  }
  if (after != free_.begin()) {
    auto before = std::prev(after);
    if (before->first + before->second == first) {
      before->second += bytes;
      return;
    }
  }
  free_[first] = bytes;
}

Frame::~Frame() {
  if (own_fd && fd >= 0) close(fd);
  if (!place) return;
  if (!own_fd) {
    fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(offset),
              static_cast<off_t>(bytes));
    place->arena.give(offset, bytes);
  }
  place->unbook(bytes);
}

void Place::open(int device_ordinal, size_t limit) {
  device = device_ordinal;
  limit_bytes = limit;
  // Far larger than the limit, so that fragmentation of offsets never stands in for a lack of
  // memory. Sparse: only pages that were touched exist.
  constexpr uint64_t kArenaBytes = uint64_t{1} << 45;
  const std::string name = "simcuda-" + (device < 0 ? "host" : std::to_string(device));
  arena_fd = memfd_create(name.c_str(), MFD_CLOEXEC);
  if (arena_fd >= 0 && ftruncate(arena_fd, kArenaBytes) == 0) arena = Extents(0, kArenaBytes);
}

bool Place::book(size_t bytes) {
  const size_t used = used_bytes.load(std::memory_order_relaxed);
  if (limit_bytes && (bytes > limit_bytes || used > limit_bytes - bytes)) return false;
  used_bytes.store(used + bytes, std::memory_order_relaxed);
  if (used + bytes > peak_bytes.load(std::memory_order_relaxed))
    peak_bytes.store(used + bytes, std::memory_order_relaxed);
  return true;
}

void Place::unbook(size_t bytes) {
  used_bytes.store(used_bytes.load(std::memory_order_relaxed) - bytes, std::memory_order_relaxed);
}

size_t Place::free_bytes() const {
  const size_t used = used_bytes.load(std::memory_order_relaxed);
  return limit_bytes > used ? limit_bytes - used : 0;
}

std::shared_ptr<Frame> Place::take(size_t bytes, bool exportable) {
  if (!book(bytes)) return {};
  auto frame = std::make_shared<Frame>();
  if (exportable) {
    frame->fd = memfd_create(shared_name().c_str(), MFD_CLOEXEC);
    frame->own_fd = true;
    if (frame->fd >= 0 && ftruncate(frame->fd, static_cast<off_t>(bytes)) == 0) {
      frame->bytes = bytes;
      frame->place = this;
      return frame;
    }
  } else {
    frame->fd = arena_fd;
    frame->offset = arena.take(bytes, size_t{2} << 20);
    if (arena_fd >= 0 && frame->offset != Extents::kNone) {
      frame->bytes = bytes;
      frame->place = this;
      return frame;
    }
  }
  unbook(bytes);
  return {};
}

std::shared_ptr<Frame> import_frame(int fd, uint64_t offset, size_t bytes) {
  auto frame = std::make_shared<Frame>();
  frame->fd = fd;
  frame->offset = offset;
  frame->own_fd = true;
  frame->bytes = bytes;
  return frame;
}

std::string Place::shared_name() const { return "simcuda-shared:" + std::to_string(device); }

bool shared_place(int fd, int& device) {
  char name[128];
  const std::string link = "/proc/self/fd/" + std::to_string(fd);
  const ssize_t n = readlink(link.c_str(), name, sizeof name - 1);
  if (n < 0) return false;
  name[n] = 0;
  return sscanf(name, "/memfd:simcuda-shared:%d", &device) == 1;
}

}  // namespace flexlom::sim
