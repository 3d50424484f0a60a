#include "interpose/tool/elf_file.h"

#include <elf.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>

namespace flexlom::tool {

std::unique_ptr<ElfFile> ElfFile::open(const std::string& path) {
  // Without O_NONBLOCK a FIFO of that name would hold us for ever.
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return nullptr;
  struct stat about {};
  void* memory = MAP_FAILED;
  if (fstat(fd, &about) == 0 && S_ISREG(about.st_mode) && about.st_size > 0)
    memory = mmap(nullptr, static_cast<size_t>(about.st_size), PROT_READ, MAP_PRIVATE, fd, 0);
  close(fd);
  if (memory == MAP_FAILED) return nullptr;
  std::unique_ptr<ElfFile> file(
      new ElfFile(path, {static_cast<const char*>(memory), static_cast<size_t>(about.st_size)}));
  return file->read_sections() ? std::move(file) : nullptr;
}

ElfFile::~ElfFile() { munmap(const_cast<char*>(bytes_.data()), bytes_.size()); }

template <typename T>
bool ElfFile::at(uint64_t offset, T* out) const {
  if (offset > bytes_.size() || bytes_.size() - offset < sizeof(T)) return false;
  memcpy(out, bytes_.data() + offset, sizeof(T));
  return true;
}

std::string_view ElfFile::part(uint64_t offset, uint64_t size) const {
  if (offset > bytes_.size() || size > bytes_.size() - offset) return {};
  return bytes_.substr(offset, size);
}

namespace {

std::string_view text_at(std::string_view table, uint64_t offset) {
  if (offset >= table.size()) return {};
  const std::string_view rest = table.substr(offset);
  const size_t end = rest.find('\0');
  return end == rest.npos ? std::string_view() : rest.substr(0, end);
}

std::string build_id_in(std::string_view notes) {
  auto padded = [](uint64_t n) { return (n + 3) & ~uint64_t{3}; };
  Elf64_Nhdr head;
  while (notes.size() >= sizeof head) {
    memcpy(&head, notes.data(), sizeof head);
    const uint64_t name = padded(head.n_namesz), text = padded(head.n_descsz);
    if (name + text > notes.size() - sizeof head) break;
    if (head.n_type == NT_GNU_BUILD_ID &&
        notes.substr(sizeof head, 4) == std::string_view("GNU", 4)) {
      std::string id;
      for (const char c : notes.substr(sizeof head + name, head.n_descsz)) {
        id += "0123456789abcdef"[static_cast<unsigned char>(c) >> 4];
        id += "0123456789abcdef"[static_cast<unsigned char>(c) & 15];
      }
      return id;
    }
    notes.remove_prefix(sizeof head + name + text);
  }
  return {};
}

}  // namespace

bool ElfFile::read_sections() {
  Elf64_Ehdr head;
  if (!at(0, &head) || memcmp(head.e_ident, ELFMAG, SELFMAG) != 0 ||
      head.e_ident[EI_CLASS] != ELFCLASS64 || head.e_ident[EI_DATA] != ELFDATA2LSB)
    return false;
  auto section = [&](uint64_t number, Elf64_Shdr* out) {
    return head.e_shentsize == sizeof *out && number < head.e_shnum &&
           at(head.e_shoff + number * sizeof *out, out);
  };
  Elf64_Shdr names_section{}, s{};
  std::string_view names;
  if (section(head.e_shstrndx, &names_section))
    names = part(names_section.sh_offset, names_section.sh_size);
  for (uint64_t i = 0; section(i, &s); i++) {
    const std::string_view name = text_at(names, s.sh_name);
    if (s.sh_type == SHT_NOBITS) continue;  // stripped out of a debug file
    const std::string_view bytes = part(s.sh_offset, s.sh_size);
    if (s.sh_type == SHT_NOTE && build_id_.empty()) build_id_ = build_id_in(bytes);
    if (name == ".debug_line" || name == ".zdebug_line") has_lines_ = !bytes.empty();
    if (s.sh_type == SHT_SYMTAB || s.sh_type == SHT_DYNSYM) {
      Elf64_Shdr strings{};
      if (section(s.sh_link, &strings))
        tables_.push_back({bytes, part(strings.sh_offset, strings.sh_size)});
    }
    if (name == ".gnu_debuglink" && bytes.size() >= 8) {
      DebugLink link;
      link.name = text_at(bytes, 0);
      memcpy(&link.crc, bytes.data() + bytes.size() - 4, 4);
      if (!link.name.empty() && link.name.find('/') == link.name.npos) debug_link_ = link;
    }
  }
  return true;
}

void ElfFile::read_symbols() {
  symbols_read_ = true;
  for (const SymbolTable& table : tables_) {
    Elf64_Sym symbol;
    for (size_t at_byte = 0; at_byte + sizeof symbol <= table.symbols.size();
         at_byte += sizeof symbol) {
      memcpy(&symbol, table.symbols.data() + at_byte, sizeof symbol);
      const auto type = ELF64_ST_TYPE(symbol.st_info);
      if ((type != STT_FUNC && type != STT_GNU_IFUNC) || symbol.st_shndx == SHN_UNDEF) continue;
      const std::string_view name = text_at(table.names, symbol.st_name);
      if (!name.empty())
        symbols_.push_back({symbol.st_value, symbol.st_value + symbol.st_size, name});
    }
  }
  // Of several names of a function the global ones of C libraries come with underscores too.
  std::sort(symbols_.begin(), symbols_.end(), [](const Symbol& a, const Symbol& b) {
    if (a.begin != b.begin) return a.begin < b.begin;
    if (a.end != b.end) return a.end < b.end;
    return a.name > b.name;
  });
}

std::string_view ElfFile::function_at(uint64_t address) {
  if (!symbols_read_) read_symbols();
  auto after = std::upper_bound(symbols_.begin(), symbols_.end(), address,
                                [](uint64_t a, const Symbol& symbol) { return a < symbol.begin; });
  if (after == symbols_.begin()) return {};
  const Symbol& symbol = *std::prev(after);
  // Assembler often leaves sizes out: then a function goes on until the next, within reason.
  constexpr uint64_t most_without_size = 4096;
  const uint64_t size = symbol.begin == symbol.end ? most_without_size : symbol.end - symbol.begin;
  return address - symbol.begin < size ? symbol.name : std::string_view();
}

uint32_t ElfFile::crc() const {
  static const auto table = [] {
    std::array<uint32_t, 256> made{};
    for (uint32_t i = 0; i < 256; i++) {
      uint32_t value = i;
      for (int bit = 0; bit < 8; bit++) value = value >> 1 ^ ((value & 1) != 0 ? 0xedb88320u : 0);
      made[i] = value;
    }
    return made;
  }();
  uint32_t sum = ~uint32_t{0};
  for (const char c : bytes_) sum = table[(sum ^ static_cast<unsigned char>(c)) & 255] ^ sum >> 8;
  return ~sum;
}

}  // namespace flexlom::tool
