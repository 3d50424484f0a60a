// The return addresses of this thread's callers, innermost first, found in one of two ways.
//
// fp: along the saved frame pointers. Takes some ns a frame, and ends where code was built without
// them (most libraries of distributions). Memory is read only within the thread's own stack, above
// the caller's frame, so that it cannot fault whatever a register held.
//
// dwarf: by libunwind (nongnu.org/libunwind, libunwind.so.8), along the tables that every library
// carries. It is opened when it is first asked for, and only then.
//
// None may be called with a lock held that an allocation hook of the program, or the program's
// own use of dl_iterate_phdr, could wait for: libunwind allocates and asks the loader.
#pragma once

#include <cstddef>
#include <cstdint>

namespace flexlom::stacks {

constexpr size_t kMostFrames = 128;

// All return how many were written to `out`. The caller of these is not among them; frames of this
// library are. Thread safe.
size_t walk_frame_pointers(uintptr_t* out, size_t most) noexcept;
size_t walk_tables(uintptr_t* out, size_t most) noexcept;  // 0 before open_libunwind() succeeded
// The same by the unwinder of exceptions, which this library contains: slower, and always there.
size_t walk_slowly(uintptr_t* out, size_t most) noexcept;

bool is_own_code(uintptr_t address) noexcept;  // of this library

// Opens libunwind on a thread of its own, because dlopen waits for the loader's lock, and a thread
// that a library's constructor waits for must not. Returns why walk_tables() cannot be used, null
// when it can. What comes after the patience is over is still used.
const char* open_libunwind() noexcept;

}  // namespace flexlom::stacks
