// The address of a function as a loaded library itself has it, read from the library's own dynamic
// symbol table: what dlsym would answer if nobody stood between.
#pragma once

#include <dlfcn.h>
#include <elf.h>
#include <link.h>

#include <cstdint>
#include <cstring>

namespace bench {

// The number of entries in a symbol table that has only a GNU hash table: one past the end of the
// longest chain (the ELF gABI leaves the count to DT_HASH, which most libraries no longer have).
inline std::uint32_t gnu_symbol_count(const std::uint32_t* table) {
  const std::uint32_t buckets = table[0], first = table[1], bloom = table[2];
  const std::uint32_t* bucket = table + 4 + bloom * (sizeof(ElfW(Addr)) / sizeof(std::uint32_t));
  const std::uint32_t* chain = bucket + buckets;
  std::uint32_t last = 0;
  for (std::uint32_t i = 0; i < buckets; ++i)
    if (bucket[i] > last) last = bucket[i];
  if (last < first) return first;
  while ((chain[last - first] & 1) == 0) ++last;
  return last + 1;
}

// Null when the library (a handle of dlopen) does not define `name`.
inline void* own_symbol(void* library, const char* name) {
  link_map* map = nullptr;
  if (dlinfo(library, RTLD_DI_LINKMAP, &map) != 0) return nullptr;
  const ElfW(Sym)* symbols = nullptr;
  const char* names = nullptr;
  const std::uint32_t *hash = nullptr, *gnu_hash = nullptr;
  for (const ElfW(Dyn)* entry = map->l_ld; entry->d_tag != DT_NULL; ++entry) {
    const auto address = reinterpret_cast<const void*>(entry->d_un.d_ptr);  // relocated by glibc
    if (entry->d_tag == DT_SYMTAB) symbols = static_cast<const ElfW(Sym)*>(address);
    if (entry->d_tag == DT_STRTAB) names = static_cast<const char*>(address);
    if (entry->d_tag == DT_HASH) hash = static_cast<const std::uint32_t*>(address);
    if (entry->d_tag == DT_GNU_HASH) gnu_hash = static_cast<const std::uint32_t*>(address);
  }
  if (symbols == nullptr || names == nullptr || (hash == nullptr && gnu_hash == nullptr))
    return nullptr;
  const std::uint32_t count = hash != nullptr ? hash[1] : gnu_symbol_count(gnu_hash);
  for (std::uint32_t i = 0; i < count; ++i)
    if (symbols[i].st_shndx != SHN_UNDEF && std::strcmp(names + symbols[i].st_name, name) == 0)
      return reinterpret_cast<void*>(map->l_addr + symbols[i].st_value);
  return nullptr;
}

}  // namespace bench
