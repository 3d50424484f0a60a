#include "interpose/doors/originals.h"

#include <dlfcn.h>

#include <cstring>

namespace flexlom::doors {

std::atomic<void*> originals[kEntryCount];

const EntryInfo entry_info[kEntryCount] = {
#define FLEXLOM_ENTRY(symbol, prototype, door) {#symbol, DoorKind::door},
#include "entries.inc"
#undef FLEXLOM_ENTRY
};

namespace {

constexpr unsigned kMapSize = 4096;  // power of two, four times the entries: short probes
static_assert(kMapSize >= 4 * kEntryCount);

// Open addressing, only ever filled. One word holds address and entry, because several threads may
// build at once: user addresses have 47 bits, entry + 1 has 16.
std::atomic<uint64_t> address_map[kMapSize];
static_assert(kEntryCount < 0xffff);
std::atomic<bool> complete{false};

unsigned hash(void* p) {
  const auto x = reinterpret_cast<uintptr_t>(p) >> 4;
  return static_cast<unsigned>((x * 0x9E3779B97F4A7C15u) >> 52) & (kMapSize - 1);
}

void remember(void* address, unsigned entry) {
  const uint64_t word = reinterpret_cast<uint64_t>(address) << 16 | (entry + 1);
  for (unsigned i = hash(address);; i = (i + 1) & (kMapSize - 1)) {
    uint64_t seen = address_map[i].load(std::memory_order_relaxed);
    if (seen == 0 && address_map[i].compare_exchange_strong(seen, word, std::memory_order_release))
      return;
    if (seen >> 16 == word >> 16) return;
  }
}

std::atomic<uint64_t> unknown_count{0};
std::atomic<const char*> unknown_last{nullptr};

}  // namespace

unsigned entry_by_name(const char* name) noexcept {
  // Cold: only lookups of driver names come here, a few hundred in a process.
  for (unsigned i = 0; i < kEntryCount; ++i) {
    if (std::strcmp(entry_info[i].name, name) == 0) return i;
  }
  return kEntryCount;
}

bool find_originals() noexcept {
  if (complete.load(std::memory_order_acquire)) return true;
  // The reference is kept, so that the addresses stay valid whatever the program closes.
  void* driver = dlopen("libcuda.so.1", RTLD_LAZY | RTLD_NOLOAD);
  if (driver == nullptr) return false;
  const Dlsym lookup = real_dlsym();
  for (unsigned i = 0; i < kEntryCount; ++i) {
    void* address = lookup(driver, entry_info[i].name);
    if (address == nullptr) continue;
    remember(address, i);
    void* call = address;
    if (entry_info[i].kind != DoorKind::pass) {
      // Another interposer behind us keeps working: what comes next in the search order is called,
      // and its address leads to our door as the driver's does.
      void* next = lookup(RTLD_NEXT, entry_info[i].name);
      if (next != nullptr && next != address) {
        remember(next, i);
        call = next;
      }
    }
    originals[i].store(call, std::memory_order_release);
  }
  dlerror();  // absent symbols are no error of the program's
  complete.store(true, std::memory_order_release);
  return true;
}

void* find_original(Entry e) noexcept {
  find_originals();
  return originals[index_of(e)].load(std::memory_order_acquire);
}

void* door_for_address(void* address, bool* known) noexcept {
  const uint64_t key = reinterpret_cast<uint64_t>(address);
  for (unsigned i = hash(address);; i = (i + 1) & (kMapSize - 1)) {
    const uint64_t seen = address_map[i].load(std::memory_order_acquire);
    if (seen >> 16 != key && seen != 0) continue;
    if (known != nullptr) *known = seen != 0;
    void* door = seen != 0 ? door_of[(seen & 0xffff) - 1] : nullptr;
    return door != nullptr ? door : address;
  }
}

void note_unknown_address(const char* name) noexcept {
  unknown_count.fetch_add(1, std::memory_order_relaxed);
  unknown_last.store(name, std::memory_order_relaxed);
}

UnknownAddresses unknown_addresses() noexcept {
  return {unknown_count.load(std::memory_order_relaxed),
          unknown_last.load(std::memory_order_relaxed)};
}

}  // namespace flexlom::doors
