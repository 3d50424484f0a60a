// What the environment asks of flexlom: FLEXLOM_* variables, parsed.
//
// The rows live in options.def, once; everything that names an option reads them from there.
// Nothing here throws, prints or keeps state, so it may be called from any thread and before main.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace flexlom {

enum class SoftOom { automatic, on, off };
enum class Policy { automatic, pin, lru };  // what may move, and which first
enum class Safety { strict, tracked };      // when it may

// How callers are found; automatic: dwarf for the leak check, fp in guard mode, else off.
enum class StackMode { automatic, off, fp, dwarf };

// An amount of memory, given in bytes or as a share of something known only later.
struct Limit {
  enum class Kind { unset, bytes, percent } kind = Kind::unset;
  double value = 0;  // bytes (whole, below 2^53), or percent from 0 to 100

  // The limit in bytes when the whole is total_bytes. Unset: all of it. A limit given in bytes is
  // returned as it is, even above total_bytes: only the caller knows whether that is an error.
  uint64_t of(uint64_t total_bytes) const noexcept;
};

// One limit for all devices, and those of single devices, which come first.
struct DeviceLimits {
  Limit all;
  std::vector<std::pair<int, Limit>> each;  // {ordinal, limit}, each ordinal once

  Limit for_device(int ordinal) const noexcept;
};

struct Seconds {
  uint32_t seconds = 0;
};

// What guarded memory is filled with.
struct GuardFill {
  uint32_t pattern = 0x7fff7fff;
  bool fill = true;
};

struct StackDepth {
  uint32_t frames = 32;
};

struct ExitStatus {
  int status = 0;
};

struct Options {
  DeviceLimits device_limit;
  Limit host_limit;
  std::string trace;  // path template, empty: no trace
  bool trace_launches = false;
  bool guard = false;
  GuardFill guard_fill;
  bool stats = false, strict = false, coverage = false, disable = false, quiet = false,
       verbose = false;
  bool live = true;
  SoftOom soft_oom = SoftOom::automatic;
  Policy policy = Policy::automatic;
  Safety safety = Safety::strict;
  int64_t idle_trim_ms = 5000;  // 0: at once, -1: never
  Seconds stats_every;          // 0: only at the end
  StackMode stacks = StackMode::automatic;
  StackDepth stack_depth;
  bool leak_check = false;
  std::string suppressions;   // empty: none
  ExitStatus error_exitcode;  // 0: the program's own
};

// A value that was not understood, and what is used in its place.
struct OptionError {
  std::string variable;  // with FLEXLOM_
  std::string text;      // what it held
  std::string accepted;  // the form that would have been understood
  std::string used;      // the default, in words
};

using GetEnv = const char* (*)(const char*);

// Reads every variable through `get` (secure_getenv in the library). A variable that is empty
// counts as not set. Never throws: without memory, the defaults are returned. `errors` may be null.
Options parse_options(GetEnv get, std::vector<OptionError>* errors) noexcept;

// --- The table itself, for the launcher, doctor and the manual ---

enum class OptionKind { device_limits, limit, path, flag, choice, milliseconds, seconds, count };

struct OptionRow {
  const char* variable;  // with FLEXLOM_
  const char* option;    // launcher option without the dashes
  OptionKind kind;
  const char* default_value;  // in words
  const char* accepted;
  const char* help;

  // Whether `text` is a value of this option.
  bool accepts(std::string_view text) const noexcept;
};

extern const OptionRow option_table[];
extern const size_t option_count;

// The name of a kind, as in options.def.
const char* name_of(OptionKind kind) noexcept;

}  // namespace flexlom
