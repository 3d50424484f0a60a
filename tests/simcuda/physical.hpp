// Physical memory: frames of memfd pages, taken from a place (a device, or the host) with a limit.
#pragma once
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>

namespace flexlom::sim {

// Free ranges of a linear space, first fit, merged with their neighbours when given back.
// Not thread-safe.
class Extents {
 public:
  static constexpr uint64_t kNone = ~uint64_t{0};
  Extents() = default;
  Extents(uint64_t first, uint64_t bytes) { free_[first] = bytes; }
  uint64_t take(uint64_t bytes, uint64_t alignment);  // kNone when nothing fits
  void give(uint64_t first, uint64_t bytes);
  bool whole(uint64_t bytes) const { return free_.size() == 1 && free_.begin()->second == bytes; }

 private:
  std::map<uint64_t, uint64_t> free_;  // start -> bytes
};

struct Place;

// A run of physical memory. Destroying the last reference gives the pages back to the kernel and
// the bytes to the place. Guarded, as the place is, by memory_lock.
struct Frame {
  Place* place = nullptr;  // null: imported, another process pays
  int fd = -1;
  uint64_t offset = 0;
  size_t bytes = 0;
  bool own_fd = false;  // its own memfd: exportable, and imported ones
  Frame() = default;
  Frame(const Frame&) = delete;
  Frame& operator=(const Frame&) = delete;
  ~Frame();
};

struct Place {
  int device = -1;         // -1: the host
  size_t limit_bytes = 0;  // 0: none
  int arena_fd = -1;       // one sparse memfd for everything that is never exported
  Extents arena;
  std::atomic<size_t> used_bytes{0};  // written under memory_lock, read by anyone
  std::atomic<size_t> peak_bytes{0};

  void open(int device_ordinal, size_t limit);
  // Empty when the limit is reached. Frames are whole granules; an exportable one has its own fd.
  std::shared_ptr<Frame> take(size_t bytes, bool exportable);
  // Books bytes that are not frames (pinned host memory); false when over the limit.
  bool book(size_t bytes);
  void unbook(size_t bytes);
  size_t free_bytes() const;

 private:
  std::string shared_name() const;
};

// A frame around a memfd of another process. Takes the fd. Not counted against any place: the
// process that created the memory pays for it.
std::shared_ptr<Frame> import_frame(int fd, uint64_t offset, size_t bytes);

// For an fd of an exportable frame: the device (or -1) it belongs to. False for any other fd.
bool shared_place(int fd, int& device);

}  // namespace flexlom::sim
