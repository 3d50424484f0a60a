// Keeps the library loadable where the C library is older than the compiler's: libgcc's unwinder
// calls _dl_find_object, which glibc has only since 2.35. This one, seen by our own copy of libgcc
// alone, answers from the program headers, as older unwinders did. Exceptions never leave this
// library, so it is called on failure paths only.
#include <dlfcn.h>
#include <link.h>

#include <cstdint>
#include <cstring>

namespace {

// Layout of glibc's struct dl_find_object up to the fields that libgcc reads.
struct FoundObject {
  unsigned long long flags;
  void* map_start;
  void* map_end;
  link_map* map;
  void* eh_frame;
  unsigned long long reserved[7];
};

struct Search {
  uintptr_t pc;
  FoundObject* out;
};

int visit(dl_phdr_info* info, size_t, void* data) {
  auto* search = static_cast<Search*>(data);
  bool inside = false;
  uintptr_t end = info->dlpi_addr;
  void* eh_frame = nullptr;
  for (int i = 0; i < info->dlpi_phnum; ++i) {
    const ElfW(Phdr)& segment = info->dlpi_phdr[i];
    const uintptr_t start = info->dlpi_addr + segment.p_vaddr;
    if (segment.p_type == PT_LOAD) {
      inside = inside || (search->pc >= start && search->pc < start + segment.p_memsz);
      if (start + segment.p_memsz > end) end = start + segment.p_memsz;
    } else if (segment.p_type == PT_GNU_EH_FRAME) {
      eh_frame = reinterpret_cast<void*>(start);
    }
  }
  if (!inside || eh_frame == nullptr) return 0;
  std::memset(search->out, 0, sizeof *search->out);
  search->out->map_start = reinterpret_cast<void*>(info->dlpi_addr);
  search->out->map_end = reinterpret_cast<void*>(end);
  search->out->eh_frame = eh_frame;
  return 1;
}

}  // namespace

// Newer headers declare the name with a type that older ones lack, hence the label.
extern "C" __attribute__((visibility("hidden"))) int find_object(
    void* pc, FoundObject* out) __asm__("_dl_find_object");
int find_object(void* pc, FoundObject* out) {
  Search search{reinterpret_cast<uintptr_t>(pc), out};
  return dl_iterate_phdr(&visit, &search) == 1 ? 0 : -1;
}
