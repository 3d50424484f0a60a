// Reading the pages of other processes: who on this machine runs under flexlom, and with what
// numbers.
//
// Pages are read with pread(2), never mapped: whatever the other side does to its file, the reader
// gets an error or fewer bytes. Nothing that stands in them is trusted. Only processes of the
// effective user are looked at; the kernel would refuse the others to all but root. Not thread
// safe; may throw std::bad_alloc.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "interpose/live/page.h"

namespace flexlom::live {

// Copies `bytes` from `offset` of a page; false when they are not all there.
using ReadAt = std::function<bool(void* to, size_t bytes, size_t offset)>;

struct Reading {
  Head head{};                   // magic wrong: not a page, or one that is just being made
  std::optional<Sample> sample;  // nothing: see problem
  std::string problem;           // in words, with what to do about it; empty when all is well

  bool is_page() const { return std::memcmp(head.magic, kMagic, sizeof kMagic) == 0; }
};

// One consistent sample. Tries again for a few milliseconds while the writer is at work.
Reading read_page(const ReadAt& read_at);

struct Process {
  pid_t pid = 0;
  std::string command;  // arguments separated by spaces, as they are: not fit for a terminal yet
  char state = '?';     // of /proc/PID/stat: R, S, D, T, ...
  Reading reading;
};

// All processes that have a page, ordered by pid. `root`: "/proc", or another tree for tests.
std::vector<Process> find_processes(const std::string& root = "/proc");

}  // namespace flexlom::live
