// Every entry point of the driver, as an index, with its name, its door and its type.
//
// Generated from entry_points.tsv by generate.awk. This room is compiled with
// __CUDA_API_VERSION_INTERNAL, so that cuda.h declares every version of every call under its
// real name (and defines none of them to another).
#pragma once

#include <cuda.h>

#include <cstdint>
#include <string_view>

#include "interpose/doors/interop_types.h"

namespace flexlom::doors {

enum class Entry : uint16_t {
#define FLEXLOM_ENTRY(symbol, prototype, door) symbol,
#include "entries.inc"
#undef FLEXLOM_ENTRY
};

// At compile time; entry_info has them at run time.
inline constexpr std::string_view kEntryNames[] = {
#define FLEXLOM_ENTRY(symbol, prototype, door) #symbol,
#include "entries.inc"
#undef FLEXLOM_ENTRY
};

inline constexpr unsigned kEntryCount = 0
#define FLEXLOM_ENTRY(symbol, prototype, door) +1
#include "entries.inc"
#undef FLEXLOM_ENTRY
    ;

// pass: none; gate: it submits work; look: it waits for work or asks after it, and in guard mode
// its answer is looked at; room: the driver takes device memory in it, and gets idle memory of ours
// when it has no other; own: it has behaviour of its own.
enum class DoorKind : uint8_t { pass, gate, look, room, own };

struct EntryInfo {
  const char* name;
  DoorKind kind;
};
extern const EntryInfo entry_info[kEntryCount];

inline constexpr unsigned index_of(Entry e) { return static_cast<unsigned>(e); }

// What the program gets for an entry: one of those doors, or null (pass).
extern void* const door_of[kEntryCount];

}  // namespace flexlom::doors
