#include "interpose/tool/target.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <string_view>

namespace flexlom::tool {
namespace {

// A file of which parts are read; reading past its end fails, whatever its headers promise.
class File {
 public:
  explicit File(const std::string& path) : fd_(open(path.c_str(), O_RDONLY | O_CLOEXEC)) {}
  ~File() {
    if (fd_ >= 0) close(fd_);
  }
  File(const File&) = delete;
  File& operator=(const File&) = delete;

  bool is_open() const { return fd_ >= 0; }

  std::string read(uint64_t offset, size_t size) const {
    std::string text(size, '\0');
    ssize_t got =
        offset > INT64_MAX ? -1 : pread(fd_, text.data(), size, static_cast<off_t>(offset));
    text.resize(got > 0 ? static_cast<size_t>(got) : 0);
    return text;
  }

  template <typename T>
  bool read_at(uint64_t offset, T& value) const {
    std::string bytes = read(offset, sizeof value);
    if (bytes.size() != sizeof value) return false;
    memcpy(&value, bytes.data(), sizeof value);
    return true;
  }

 private:
  int fd_;
};

std::string_view base_name(std::string_view path) { return path.substr(path.rfind('/') + 1); }

// The loader ignores LD_PRELOAD where a program gains rights by being started (ld.so(8), "secure
// execution mode").
std::string privileges(const std::string& path, const struct stat& about) {
  if ((about.st_mode & S_ISUID) != 0 && about.st_uid != getuid())
    return path + " is setuid: the loader ignores LD_PRELOAD for it";
  constexpr mode_t setgid = S_ISGID | S_IXGRP;
  if ((about.st_mode & setgid) == setgid && about.st_gid != getgid())
    return path + " is setgid: the loader ignores LD_PRELOAD for it";
  if (getuid() != 0 && getxattr(path.c_str(), "security.capability", nullptr, 0) > 0)
    return path + " has file capabilities: the loader ignores LD_PRELOAD for it";
  return "";
}

struct Segments {
  bool has_interpreter = false;
  std::string interpreter;
  std::vector<Elf64_Phdr> loads;
  Elf64_Phdr dynamic{};
};

Segments read_segments(const File& file, const Elf64_Ehdr& header) {
  Segments found;
  for (int i = 0; i < header.e_phnum; i++) {
    Elf64_Phdr segment;
    uint64_t offset = header.e_phoff + static_cast<uint64_t>(i) * sizeof segment;
    if (header.e_phentsize != sizeof segment || !file.read_at(offset, segment)) break;
    if (segment.p_type == PT_INTERP) {
      found.has_interpreter = true;
      found.interpreter = file.read(segment.p_offset, std::min<size_t>(segment.p_filesz, 4096));
      found.interpreter = found.interpreter.c_str();  // up to its terminator
    }
    if (segment.p_type == PT_LOAD) found.loads.push_back(segment);
    if (segment.p_type == PT_DYNAMIC) found.dynamic = segment;
  }
  return found;
}

std::vector<std::string> read_needed(const File& file, const Segments& segments) {
  std::vector<uint64_t> names;
  std::optional<uint64_t> strings;
  constexpr uint64_t most_entries = 4096;
  uint64_t count = std::min<uint64_t>(segments.dynamic.p_filesz / sizeof(Elf64_Dyn), most_entries);
  for (uint64_t i = 0; i < count; i++) {
    Elf64_Dyn entry;
    if (!file.read_at(segments.dynamic.p_offset + i * sizeof entry, entry)) break;
    if (entry.d_tag == DT_NULL) break;
    if (entry.d_tag == DT_NEEDED) names.push_back(entry.d_un.d_val);
    if (entry.d_tag != DT_STRTAB) continue;
    for (const Elf64_Phdr& load : segments.loads) {
      if (entry.d_un.d_ptr >= load.p_vaddr && entry.d_un.d_ptr - load.p_vaddr < load.p_filesz)
        strings = entry.d_un.d_ptr - load.p_vaddr + load.p_offset;
    }
  }
  std::vector<std::string> needed;
  for (uint64_t name : names) {
    if (strings) needed.emplace_back(file.read(*strings + name, 256).c_str());
  }
  return needed;
}

// Fills `target` for an ELF file.
void inspect_elf(const std::string& path, const File& file, const std::string& start,
                 Target& target) {
  auto elf_class = static_cast<unsigned char>(start[EI_CLASS]);
  if (elf_class != ELFCLASS64) {
    target.cannot_preload = path + " is a 32-bit program; libflexlom.so is 64-bit";
    return;
  }
  Elf64_Ehdr header;
  if (!file.read_at(0, header)) {
    target.not_checked = path + " has no complete ELF header";
    return;
  }
#if defined(__x86_64__)
  constexpr int machine = EM_X86_64;
#else
  constexpr int machine = EM_AARCH64;
#endif
  if (header.e_machine != machine) {
    target.cannot_preload = path + " is a program for another kind of processor";
    return;
  }
  Segments segments = read_segments(file, header);
  target.needed = read_needed(file, segments);
  if (!segments.has_interpreter) {
    // The dynamic loader itself has no interpreter either, and preloads for what it is told to run.
    if (!base_name(path).starts_with("ld-linux") && !base_name(path).starts_with("ld.so"))
      target.cannot_preload = path + " is statically linked: no loader runs, so nothing preloads";
  } else if (base_name(segments.interpreter).starts_with("ld-musl")) {
    target.cannot_preload = path + " uses musl; libflexlom.so needs glibc";
  }
}

// The interpreter of a "#!" line and its one argument.
std::vector<std::string> script_words(std::string_view start) {
  std::string_view line =
      start.substr(2, start.find('\n') == std::string_view::npos ? std::string_view::npos
                                                                 : start.find('\n') - 2);
  auto skip = [&line] {
    while (!line.empty() && (line[0] == ' ' || line[0] == '\t')) line.remove_prefix(1);
  };
  std::vector<std::string> words;
  for (skip(); !line.empty(); skip()) {
    size_t end = std::min(line.find_first_of(" \t\r"), line.size());
    if (end == 0) break;
    words.emplace_back(line.substr(0, end));
    line.remove_prefix(end);
  }
  return words;
}

Target inspect(const std::string& path, int depth) {
  Target target;
  target.file = path;
  struct stat about {};
  if (stat(path.c_str(), &about) != 0) {
    target.cannot_start = path + ": " + strerror(errno);
    return target;
  }
  if (S_ISDIR(about.st_mode)) {
    target.cannot_start = path + " is a directory";
    return target;
  }
  if (access(path.c_str(), X_OK) != 0) {
    target.cannot_start = path + " is not executable";
    return target;
  }
  File file(path);
  std::string start = file.is_open() ? file.read(0, 512) : "";
  if (start.empty()) {
    target.not_checked = path + " cannot be read, so it was not checked for static linking";
    target.cannot_preload = privileges(path, about);
    return target;
  }
  if (start.starts_with("#!")) {
    std::vector<std::string> words = script_words(start);
    constexpr int deepest = 4;  // what Linux allows
    if (words.empty() || depth >= deepest) {
      target.cannot_start = path + ": its first line names no interpreter that can be run";
      return target;
    }
    Target below = inspect(words[0], depth + 1);
    if (!below.cannot_start.empty() || base_name(words[0]) != "env") {
      if (!below.cannot_start.empty())
        below.cannot_start = path + " is a script; its interpreter: " + below.cannot_start;
      if (!below.cannot_preload.empty())
        below.cannot_preload = path + " is a script; its interpreter " + below.cannot_preload;
      return below;
    }
    auto program = std::find_if(words.begin() + 1, words.end(), [](const std::string& word) {
      return word[0] != '-' && word.find('=') == std::string::npos;
    });
    Found found = program == words.end() ? Found{} : find_program(*program);
    return found.path.empty() ? below : inspect(found.path, depth + 1);
  }
  if (start.size() > EI_CLASS && start.starts_with(ELFMAG)) {
    inspect_elf(path, file, start, target);
    if (target.cannot_preload.empty()) target.cannot_preload = privileges(path, about);
    return target;
  }
  return inspect("/bin/sh", depth + 1);  // as execvp does with a file of no known format
}

}  // namespace

Found find_program(const std::string& name) {
  Found found;
  found.error = ENOENT;
  if (name.empty()) return found;
  auto usable = [&found](const std::string& path) {
    struct stat about {};
    if (stat(path.c_str(), &about) != 0) return false;
    if (S_ISREG(about.st_mode) && access(path.c_str(), X_OK) == 0) return true;
    found.error = EACCES;
    return false;
  };
  if (name.find('/') != std::string::npos) {
    if (usable(name)) found.path = name;
    return found;
  }
  const char* variable = getenv("PATH");
  std::string_view path = variable != nullptr ? variable : "/bin:/usr/bin";
  for (bool more = true; more;) {
    size_t colon = path.find(':');
    std::string directory(path.substr(0, colon));
    std::string candidate = directory.empty() ? name : directory + "/" + name;
    if (usable(candidate)) {
      found.path = candidate;
      return found;
    }
    more = colon != std::string_view::npos;
    if (more) path.remove_prefix(colon + 1);
  }
  return found;
}

Target inspect_target(const std::string& path) { return inspect(path, 0); }

}  // namespace flexlom::tool
