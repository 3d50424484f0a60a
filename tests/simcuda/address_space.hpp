// Ranges of the process's own address space that stand for device addresses.
//
// System calls are made directly: a sanitizer's mmap would refuse hints such as 0x5000_0000_0000,
// which it does not shadow. Device memory is therefore never touched by instrumented code.
#pragma once
#include <cstddef>
#include <cstdint>

namespace flexlom::sim {

constexpr size_t kMaxReservation = size_t{1} << 46;  // bytes

// A reserved range without access; 0 when there is none. The hint is taken when it is free.
// Without one, ranges are handed out upwards from 12 GiB, where the real driver puts them.
uint64_t reserve_range(size_t bytes, size_t alignment, uint64_t hint);
void release_range(uint64_t address, size_t bytes);

// Maps pages of a memfd over a reserved range, or takes them away again. False when the kernel
// refuses (too many mappings).
enum class Access { none, read, write };
bool map_pages(uint64_t address, size_t bytes, int fd, uint64_t offset, Access access);
bool protect_pages(uint64_t address, size_t bytes, Access access);
bool unmap_pages(uint64_t address, size_t bytes);

}  // namespace flexlom::sim
