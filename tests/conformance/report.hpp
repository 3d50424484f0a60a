// The frame of the conformance suite: groups of rows, each group in a process of its own.
//
// A row is one question and its answer, printed as `group.row<TAB>answer`. Answers are normalised:
// an address becomes a relation to another one, an amount of free memory becomes a comparison. So
// the output of two drivers, or of one with and without flexlom, can be compared line by line.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <fmt/format.h>

namespace flexlom::conformance {

struct Group {
  Group(const char* group_name, void (*group_body)(), int limit_s);
  const char* name;
  void (*body)();
  int limit_seconds;
};

// All groups, ordered by name.
std::vector<const Group*> groups();

// Prints one row of the running group, at once, so that a later crash does not lose it.
void say(std::string_view row, std::string_view answer);

// Ends the running group (not the suite): the reason becomes its last row.
struct GroupOver {
  std::string reason;
};

// Bytes of device memory that the rows may use together; the same for all runs that are compared.
uint64_t capacity_bytes();
void set_capacity_bytes(uint64_t bytes);

// A helper runs in a fresh process: `conformance --helper NAME ARGS...`. Its return value is the
// exit status, its standard output is given back to the group that asked for it.
struct Helper {
  Helper(const char* helper_name, int (*helper_body)(const std::vector<std::string>& args));
  const char* name;
  int (*body)(const std::vector<std::string>& args);
};
const Helper* find_helper(std::string_view name);

// Runs a helper and waits for it. The text is what it printed; a signal or a status other than 0 is
// added to it ("crash: signal 11", "exit 3").
std::string ask_helper(const std::vector<std::string>& name_and_args);

// The same in two steps, for a helper that must live beside the group for a while.
class RunningHelper {
 public:
  explicit RunningHelper(const std::vector<std::string>& name_and_args);
  ~RunningHelper();
  RunningHelper(const RunningHelper&) = delete;
  RunningHelper& operator=(const RunningHelper&) = delete;

  // One line from the helper's standard output; empty at its end.
  std::string read_line();
  void write_line(std::string_view line);
  // Closes the helper's input, waits for its end: "exit N" or "crash: signal N".
  std::string wait();

 private:
  int pid_ = -1;
  int to_ = -1;
  int from_ = -1;
};

}  // namespace flexlom::conformance

// CONFORMANCE_GROUP(alloc, 60) { say("zero", ...); }: the number is the time limit in seconds.
#define CONFORMANCE_GROUP(name, limit_s)                                                      \
  static void name##_group_body();                                                            \
  static const ::flexlom::conformance::Group name##_group(#name, name##_group_body, limit_s); \
  static void name##_group_body()

#define CONFORMANCE_HELPER(name)                                                        \
  static int name##_helper_body(const std::vector<std::string>& args);                  \
  static const ::flexlom::conformance::Helper name##_helper(#name, name##_helper_body); \
  static int name##_helper_body(const std::vector<std::string>& args)
