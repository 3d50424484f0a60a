// What naming an address needs of an ELF file: its build id, its function symbols, and where its
// debug information is. ELF-64 specification, and GDB's manual, "Separate Debug Files".
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace flexlom::tool {

// A 64-bit little-endian ELF file, mapped while this lives. Any bytes may be in it: what lies
// outside the file counts as absent. Not thread safe.
class ElfFile {
 public:
  // Null when it cannot be read or is no such file.
  static std::unique_ptr<ElfFile> open(const std::string& path);
  ~ElfFile();
  ElfFile(const ElfFile&) = delete;
  ElfFile& operator=(const ElfFile&) = delete;

  const std::string& path() const { return path_; }
  const std::string& build_id() const { return build_id_; }  // hexadecimal, empty: none
  bool has_lines() const { return has_lines_; }              // DWARF line tables

  // .gnu_debuglink: the name of a file with the debug information, and its CRC-32.
  struct DebugLink {
    std::string name;
    uint32_t crc = 0;
  };
  const std::optional<DebugLink>& debug_link() const { return debug_link_; }
  uint32_t crc() const;  // of the whole file, as a debug link has it

  // The function at an address of the file, as the symbol is spelled; empty when there is none.
  std::string_view function_at(uint64_t address);

 private:
  struct Symbol {
    uint64_t begin, end;
    std::string_view name;
  };
  ElfFile(std::string path, std::string_view bytes) : path_(std::move(path)), bytes_(bytes) {}
  bool read_sections();
  template <typename T>
  bool at(uint64_t offset, T* out) const;
  std::string_view part(uint64_t offset, uint64_t size) const;
  void read_symbols();

  struct SymbolTable {
    std::string_view symbols, names;
  };
  std::string path_;
  std::string_view bytes_;
  std::string build_id_;
  bool has_lines_ = false, symbols_read_ = false;
  std::optional<DebugLink> debug_link_;
  std::vector<SymbolTable> tables_;
  std::vector<Symbol> symbols_;  // by address
};

}  // namespace flexlom::tool
