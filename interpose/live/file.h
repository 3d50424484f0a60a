// The memory file of the page, in a process that may close descriptors it did not open and reuse
// their numbers (daemons do). The page itself is written through a mapping only, so nothing can
// land in a file of the program's, and no descriptor is ever closed after it was published: by
// then its number may be the program's.
//
// Not thread safe: one thread at a time (the keeper). Nothing throws.
#pragma once

#include <sys/types.h>

#include "interpose/live/page.h"

namespace flexlom::live {

class File {
 public:
  File() = default;
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  ~File();

  // Shows the sample. Makes the file when there is none yet, or when its descriptor was closed
  // meanwhile; where the kernel gives none (no memfd_create, no descriptor free) tries again only
  // now and then.
  void publish(const Sample& sample) noexcept;

  bool published() const noexcept { return page_ != nullptr && is_ours(); }

 private:
  bool is_ours() const noexcept;
  void make() noexcept;

  Page* page_ = nullptr;
  int fd_ = -1;
  dev_t device_ = 0;
  ino_t inode_ = 0;
  unsigned wait_ = 0;  // publications until the next try
};

}  // namespace flexlom::live
