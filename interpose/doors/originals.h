// The driver's own entry points, and the way from an address the driver returned to our door.
//
// Addresses are the key, never names: the same name means different ABIs at different versions and
// stream flavours, but every pointer the driver hands out is one of its exported symbols.
// An address we do not know is passed on untouched and counted.
#pragma once

#include <atomic>

#include "interpose/doors/entries.h"

namespace flexlom::doors {

extern std::atomic<void*> originals[kEntryCount];

// Looks up all originals if libcuda.so.1 is loaded in this process. Any number of threads may do so
// at once; it takes no lock, because a caller may be inside the loader with its lock held.
bool find_originals() noexcept;
void* find_original(Entry e) noexcept;

template <class F>
inline F original_as(Entry e) noexcept {
  void* p = originals[index_of(e)].load(std::memory_order_relaxed);
  if (p == nullptr) [[unlikely]]
    p = find_original(e);
  return reinterpret_cast<F>(p);
}

// The original of a driver call, typed; null when this driver does not have it.
#define FLEXLOM_ORIGINAL(symbol) \
  (::flexlom::doors::original_as<decltype(&::symbol)>(::flexlom::doors::Entry::symbol))
// The same for the per-thread-default-stream twin of `prototype`.
#define FLEXLOM_ORIGINAL_AS(symbol, prototype) \
  (::flexlom::doors::original_as<decltype(&::prototype)>(::flexlom::doors::Entry::symbol))

// What to give the program instead of `address`: a door, or the address itself.
// `known` (may be null) tells whether it is one of the driver's entry points at all.
void* door_for_address(void* address, bool* known) noexcept;

// Entry of a symbol name, or kEntryCount.
unsigned entry_by_name(const char* name) noexcept;

// Driver names that led to addresses outside the driver we know: a second driver in the process.
struct UnknownAddresses {
  uint64_t count;
  const char* last_name;  // null: none; else a literal of ours
};
void note_unknown_address(const char* name) noexcept;
UnknownAddresses unknown_addresses() noexcept;

// The program's dlsym and ours: the loader's own, never the door.
using Dlsym = void* (*)(void* handle, const char* name);
Dlsym real_dlsym() noexcept;

}  // namespace flexlom::doors
