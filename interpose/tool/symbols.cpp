#include "interpose/tool/symbols.h"

#include <cxxabi.h>
#include <fmt/format.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

#include "interpose/tool/output.h"

namespace flexlom::tool {

using trace::FrameId;
using trace::FrameLabel;
using trace::Frames;
using trace::LogModule;

const char* const SymbolOptions::usage =
    R"(Where the log has call stacks, functions are named from the files of the program:
  --sysroot DIR      look for them under this folder: a copy of the host that wrote the log
  --debug-dir DIR    look here for separate debug files (.build-id/xx/yyy.debug, or by name)
  --perf-map FILE    Python's functions (flexlom run --python), if not where the log says
  --symbolizer PROG  llvm-symbolizer or addr2line, for files and lines; "none" for names only
)";

bool SymbolOptions::take(Arguments& arguments, std::string_view option) {
  std::string* into = option == "--sysroot"      ? &sysroot
                      : option == "--debug-dir"  ? &debug_dir
                      : option == "--perf-map"   ? &perf_map
                      : option == "--symbolizer" ? &symbolizer
                                                 : nullptr;
  if (into == nullptr) return false;
  if (auto text = arguments.value()) *into = *text;
  return true;
}

struct Symbols::Module {
  std::unique_ptr<ElfFile> file, debug;
  std::unique_ptr<LineFinder> lines;
};

namespace {

std::string demangled(std::string_view name) {
  name = name.substr(0, name.find('@'));  // the version of a symbol
  if (!name.starts_with("_Z")) return std::string(name);
  int status = 0;
  char* plain = abi::__cxa_demangle(std::string(name).c_str(), nullptr, nullptr, &status);
  std::string text = status == 0 && plain != nullptr ? plain : std::string(name);
  free(plain);
  return text;
}

bool is_interpreter(const std::string& path) {
  const std::string name = path.substr(path.rfind('/') + 1);
  return name.starts_with("libpython") || name.starts_with("python");
}

std::string folder_of(const std::string& path) {
  const size_t slash = path.rfind('/');
  return slash == std::string::npos ? "" : path.substr(0, slash);
}

std::string by_build_id(const std::string& folder, const std::string& id) {
  return id.size() < 3 ? "" : folder + "/.build-id/" + id.substr(0, 2) + "/" + id.substr(2);
}

}  // namespace

Symbols::Symbols(SymbolOptions options) : options_(std::move(options)) {}
Symbols::~Symbols() = default;

void Symbols::attach(trace::Summary& log) {
  log_ = &log;
  labels_.clear();
  log.frames.set_namer(this);
}

// Null when there is no such file, or another of that name; `refused` tells of the latter.
std::unique_ptr<ElfFile> Symbols::open_checked(const std::string& path, const std::string& build_id,
                                               std::string* refused) const {
  std::unique_ptr<ElfFile> file = ElfFile::open(path);
  if (file == nullptr || build_id.empty() || file->build_id() == build_id) return file;
  if (refused != nullptr && refused->empty())
    *refused = fmt::format("{} has the build id {}, the program's had {}", path,
                           file->build_id().empty() ? "of none" : file->build_id(), build_id);
  return nullptr;
}

void Symbols::open_files(const LogModule& from, Module& into) {
  // Whatever the kernel maps by itself has no path.
  if (!from.path.starts_with('/')) return;
  const std::string& id = from.build_id;
  std::string refused;
  std::vector<std::string> places = {options_.sysroot + from.path};
  if (!options_.debug_dir.empty()) {
    places.push_back(by_build_id(options_.debug_dir, id));
    places.push_back(options_.debug_dir + from.path);
    places.push_back(options_.debug_dir + from.path.substr(from.path.rfind('/')));
  }
  for (const std::string& place : places) {
    if (into.file == nullptr) into.file = open_checked(place, id, &refused);
  }

  // A separate debug file has symbols, and lines, that the file itself was stripped of.
  const std::string system = options_.sysroot + "/usr/lib/debug";
  const std::string folder = folder_of(from.path);
  std::vector<std::string> candidates;
  for (const std::string& root : {options_.debug_dir, system}) {
    if (root.empty() || id.empty()) continue;
    candidates.push_back(by_build_id(root, id) + ".debug");
  }
  const auto& link = into.file != nullptr ? into.file->debug_link() : std::nullopt;
  const std::string name =
      link ? link->name : from.path.substr(from.path.rfind('/') + 1) + ".debug";
  if (!options_.debug_dir.empty()) {
    candidates.push_back(options_.debug_dir + "/" + name);
    candidates.push_back(options_.debug_dir + folder + "/" + name);
  }
  for (const std::string& place : {folder, folder + "/.debug"})
    candidates.push_back(options_.sysroot + place + "/" + name);
  candidates.push_back(system + folder + "/" + name);
  for (const std::string& candidate : candidates) {
    if (into.debug != nullptr) break;
    into.debug = open_checked(candidate, id, &refused);
    // Without build ids the link's sum says whether they belong together.
    if (into.debug != nullptr && id.empty() && (!link || into.debug->crc() != link->crc))
      into.debug = nullptr;
  }

  if (into.file == nullptr && into.debug == nullptr) {
    problems_.push_back(refused.empty()
                            ? fmt::format("{} is not here: what is in it has no name", from.path)
                            : fmt::format("{}: what is in it has no name", refused));
    return;
  }
  for (const auto& file : {into.debug.get(), into.file.get()}) {
    if (file == nullptr || !file->has_lines() || options_.symbolizer == "none") continue;
    into.lines = std::make_unique<LineFinder>(options_.symbolizer, file->path());
    break;
  }
}

Symbols::Module& Symbols::module(const LogModule& from) {
  std::unique_ptr<Module>& known = modules_[{from.path, from.build_id}];
  if (known == nullptr) {
    known = std::make_unique<Module>();
    open_files(from, *known);
  }
  return *known;
}

void Symbols::look_up(Module& module, uint64_t address, std::vector<FrameLabel>* out) {
  std::string_view symbol;
  for (ElfFile* file : {module.debug.get(), module.file.get()}) {
    if (file != nullptr && symbol.empty()) symbol = file->function_at(address);
  }
  if (module.lines != nullptr) *out = module.lines->find(address);
  // The symbol table knows the outermost function, whatever was inlined.
  if (out->empty()) out->emplace_back();
  if (!symbol.empty()) out->back().function = symbol;
  for (FrameLabel& label : *out) label.function = demangled(label.function);
}

void Symbols::open_perf_map(const Frames& frames) {
  const std::string& path = options_.perf_map.empty() ? frames.perf_map() : options_.perf_map;
  if (path == perf_map_path_) return;
  perf_map_path_ = path;
  perf_map_ = {};
  std::string error;
  if (options_.perf_map.empty()) {
    // Process ids come again: the map of a later process would give wrong names.
    struct stat about {};
    const uint64_t ran_ns = log_->last_ns > log_->first_ns ? log_->last_ns - log_->first_ns : 0;
    constexpr uint64_t second_ns = 1'000'000'000, slack_s = 60;
    const uint64_t end_s = (log_->wall_ns + ran_ns) / second_ns + slack_s;
    char host[256] = "";
    gethostname(host, sizeof host - 1);
    if (log_->host != host) {
      error = fmt::format("{} is on {}", path, log_->host);
    } else if (log_->end_reason && stat(path.c_str(), &about) == 0 &&
               static_cast<uint64_t>(about.st_mtime) > end_s) {
      error = path + " was written after this program had ended";
    }
    if (!error.empty()) error += "; copy it and use --perf-map";
  }
  if (error.empty() && perf_map_.read(path, &error)) return;
  problems_.push_back(fmt::format("names of Python's functions: {}", error));
}

void tell_of(const Symbols& symbols) {
  constexpr size_t most_told = 5;
  const std::vector<std::string>& problems = symbols.problems();
  for (size_t i = 0; i < problems.size() && i < most_told; i++)
    complain("symbols: " + printable(problems[i]));
  if (problems.size() > most_told)
    complain(fmt::format("symbols: and {} more files", problems.size() - most_told));
}

const std::vector<FrameLabel>& Symbols::labels(const Frames& frames, FrameId frame) {
  const auto [place, is_new] = labels_.try_emplace(frame);
  std::vector<FrameLabel>& found = place->second;
  if (!is_new) return found;
  const trace::LogFrame& f = frames[frame];
  if (f.module != 0) {
    const LogModule& from = frames.module(f.module);
    // A return address is after the call, and may be the first of another line or function.
    look_up(module(from), f.address - from.base - 1, &found);
  } else if (!frames.perf_map().empty() || !options_.perf_map.empty()) {
    open_perf_map(frames);
    if (const PerfMap::Function* function = perf_map_.find(f.address))
      found.push_back(function->label);
  }
  if (found.empty()) found.emplace_back();
  for (FrameLabel& label : found) {
    if (label.function.empty()) label.function = trace::raw_name(frames, frame);
  }
  return found;
}

std::vector<FrameLabel> Symbols::stack(const Frames& frames, FrameId innermost) {
  bool python = false;
  for (FrameId id = innermost; id != 0 && !python; id = frames[id].parent) {
    if (frames[id].module != 0) continue;
    labels(frames, id);
    const PerfMap::Function* function = perf_map_.find(frames[id].address);
    python = function != nullptr && function->python;
  }
  std::vector<FrameLabel> found;
  for (FrameId id = innermost; id != 0; id = frames[id].parent) {
    const trace::LogFrame& f = frames[id];
    if (python && f.module != 0 && is_interpreter(frames.module(f.module).path)) continue;
    const std::vector<FrameLabel>& of_frame = labels(frames, id);
    found.insert(found.end(), of_frame.begin(), of_frame.end());
  }
  return found;
}

}  // namespace flexlom::tool
