#include "interpose/stacks/modules.h"

#include <fcntl.h>
#include <limits.h>
#include <link.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <exception>

namespace flexlom::stacks {
namespace {

int look_at_counters(dl_phdr_info* info, size_t size, void* data) {
  auto* state = static_cast<LoaderState*>(data);
  if (size >= offsetof(dl_phdr_info, dlpi_subs) + sizeof info->dlpi_subs)
    *state = {info->dlpi_adds, info->dlpi_subs};
  return 1;
}

std::string hexadecimal(const unsigned char* bytes, size_t size) {
  std::string text;
  for (size_t i = 0; i < size; ++i) {
    text += "0123456789abcdef"[bytes[i] >> 4];
    text += "0123456789abcdef"[bytes[i] & 15];
  }
  return text;
}

// ELF notes: three words, a name and a description, each padded to four bytes.
std::string build_id_of(uintptr_t notes, size_t size) {
  constexpr size_t kLongest = 64;
  struct Head {
    uint32_t name_bytes, text_bytes, type;
  };
  auto padded = [](size_t n) { return (n + 3) & ~size_t{3}; };
  while (size >= sizeof(Head)) {
    Head head;
    std::memcpy(&head, reinterpret_cast<const void*>(notes), sizeof head);
    const size_t name = padded(head.name_bytes), text = padded(head.text_bytes);
    if (name > size || text > size || sizeof head + name + text > size) return {};
    const auto* bytes = reinterpret_cast<const unsigned char*>(notes + sizeof head);
    if (head.type == NT_GNU_BUILD_ID && head.name_bytes == 4 && std::memcmp(bytes, "GNU", 4) == 0 &&
        head.text_bytes <= kLongest)
      return hexadecimal(bytes + name, head.text_bytes);
    notes += sizeof head + name + text;
    size -= sizeof head + name + text;
  }
  return {};
}

std::string own_path() {
  char path[PATH_MAX];
  const ssize_t size = readlink("/proc/self/exe", path, sizeof path);
  return size > 0 ? std::string(path, static_cast<size_t>(size)) : std::string();
}

struct Listing {
  std::vector<Module> modules;
  LoaderState state;
  std::exception_ptr problem;
};

void add_module(Listing& listing, const dl_phdr_info& info) {
  Module module;
  module.base = info.dlpi_addr;
  module.begin = UINTPTR_MAX;
  for (int i = 0; i < info.dlpi_phnum; ++i) {
    const ElfW(Phdr)& segment = info.dlpi_phdr[i];
    if (segment.p_type != PT_LOAD || segment.p_memsz == 0) continue;
    const uintptr_t begin = info.dlpi_addr + segment.p_vaddr, end = begin + segment.p_memsz;
    module.begin = std::min(module.begin, begin);
    module.end = std::max(module.end, end);
    module.segments.push_back({begin, end, (segment.p_flags & PF_X) != 0});
  }
  if (module.segments.empty()) return;
  for (int i = 0; i < info.dlpi_phnum && module.build_id.empty(); ++i) {
    const ElfW(Phdr)& notes = info.dlpi_phdr[i];
    const uintptr_t begin = info.dlpi_addr + notes.p_vaddr;
    // Notes that no segment maps would be somebody else's memory.
    const bool mapped =
        std::any_of(module.segments.begin(), module.segments.end(), [&](const Module::Segment& s) {
          return begin >= s.begin && begin + notes.p_memsz <= s.end;
        });
    if (notes.p_type == PT_NOTE && mapped) module.build_id = build_id_of(begin, notes.p_memsz);
  }
  module.path = info.dlpi_name != nullptr ? info.dlpi_name : "";
  if (module.path.empty() && listing.modules.empty()) module.path = own_path();
  listing.modules.push_back(std::move(module));
}

int look_at_module(dl_phdr_info* info, size_t size, void* data) {
  auto* listing = static_cast<Listing*>(data);
  try {
    if (listing->modules.empty()) look_at_counters(info, size, &listing->state);
    add_module(*listing, *info);
    return 0;
  } catch (...) {  // not through the loader, which would keep its lock
    listing->problem = std::current_exception();
    return 1;
  }
}

// "7f00-7f10 r-xp 00000000 00:00 0" with nothing or "[anon:...]" after it: code without a file.
bool parse_anonymous_code(std::string_view line, CodeRange* out) {
  uintptr_t numbers[2] = {0, 0};
  size_t at = 0;
  for (int i = 0; i < 2; ++i, ++at) {
    for (; at < line.size() && line[at] != '-' && line[at] != ' '; ++at) {
      const char c = line[at];
      const int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
      if (digit < 0) return false;
      numbers[i] = numbers[i] << 4 | static_cast<uintptr_t>(digit);
    }
  }
  if (at + 4 > line.size() || line[at + 2] != 'x') return false;
  const size_t slash = line.find('/', at), bracket = line.find('[', at);
  if (bracket != line.npos && line.substr(bracket, 6) != "[anon:") return false;
  // Compilers also map files that they removed, memfd ones among them.
  if (slash != line.npos && line.find("(deleted)", slash) == line.npos &&
      line.find("memfd:", slash) == line.npos)
    return false;
  *out = {numbers[0], numbers[1]};
  return true;
}

}  // namespace

LoaderState loader_state() noexcept {
  LoaderState state;
  dl_iterate_phdr(&look_at_counters, &state);
  return state;
}

std::vector<Module> list_modules(LoaderState* state) {
  Listing listing;
  dl_iterate_phdr(&look_at_module, &listing);
  if (listing.problem) std::rethrow_exception(listing.problem);
  std::sort(listing.modules.begin(), listing.modules.end(),
            [](const Module& a, const Module& b) { return a.begin < b.begin; });
  if (state != nullptr) *state = listing.state;
  return std::move(listing.modules);
}

std::vector<CodeRange> list_anonymous_code() noexcept {
  std::vector<CodeRange> ranges;
  const int fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
  if (fd < 0) return ranges;
  try {
    char text[16384];
    size_t held = 0;
    for (;;) {
      const ssize_t size = read(fd, text + held, sizeof text - held);
      if (size <= 0) break;
      held += static_cast<size_t>(size);
      std::string_view rest(text, held);
      for (size_t end = rest.find('\n'); end != rest.npos; end = rest.find('\n')) {
        CodeRange range;
        if (parse_anonymous_code(rest.substr(0, end), &range)) ranges.push_back(range);
        rest.remove_prefix(end + 1);
      }
      if (rest.size() == sizeof text) break;  // no line is that long
      std::memmove(text, rest.data(), rest.size());
      held = rest.size();
    }
  } catch (...) {
    ranges.clear();
  }
  close(fd);
  return ranges;
}

}  // namespace flexlom::stacks
