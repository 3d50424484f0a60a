// Names for the call stacks of a log, from the files that the program was made of: here, under
// another root, or beside a folder of debug files. A file whose build id is not the one that the
// program had is refused: wrong names are worse than none.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "interpose/tool/arguments.h"
#include "interpose/tool/elf_file.h"
#include "interpose/tool/line_finder.h"
#include "interpose/tool/perf_map.h"
#include "interpose/trace/summary.h"

namespace flexlom::tool {

struct SymbolOptions {
  std::string sysroot;     // before every path of the log, empty: this host's files
  std::string debug_dir;   // looked at first for separate debug files, and for the files themselves
  std::string perf_map;    // instead of the one that the log names
  std::string symbolizer;  // llvm-symbolizer or addr2line; "none": names only; empty: look for one

  // True: the option was one of these, --sysroot, --debug-dir, --perf-map or --symbolizer.
  bool take(Arguments& arguments, std::string_view option);
  static const char* const usage;  // a paragraph for --help
};

// Finds names when they are asked for, each once. Not thread safe.
class Symbols : public trace::FrameNamer {
 public:
  explicit Symbols(SymbolOptions options);
  ~Symbols() override;

  // Names the frames of this log, also while it is being read. To be called for each log.
  void attach(trace::Summary& log);

  const std::vector<trace::FrameLabel>& labels(const trace::Frames& frames,
                                               trace::FrameId frame) override;
  // Python's functions stand for the interpreter's own, which are left out beside them.
  std::vector<trace::FrameLabel> stack(const trace::Frames& frames,
                                       trace::FrameId innermost) override;

  // What could not be used and why, one line each, for a person.
  const std::vector<std::string>& problems() const { return problems_; }

 private:
  struct Module;
  Module& module(const trace::LogModule& from);
  void open_files(const trace::LogModule& from, Module& into);
  void look_up(Module& module, uint64_t address, std::vector<trace::FrameLabel>* out);
  std::unique_ptr<ElfFile> open_checked(const std::string& path, const std::string& build_id,
                                        std::string* refused) const;
  void open_perf_map(const trace::Frames& frames);

  SymbolOptions options_;
  std::map<std::pair<std::string, std::string>, std::unique_ptr<Module>> modules_;
  std::unordered_map<trace::FrameId, std::vector<trace::FrameLabel>> labels_;
  const trace::Summary* log_ = nullptr;
  PerfMap perf_map_;
  std::string perf_map_path_;  // that was opened, or tried
  std::vector<std::string> problems_;
};

void tell_of(const Symbols& symbols);  // its problems, on standard error

}  // namespace flexlom::tool
