// The words after a subcommand that reads logs: options with or without '=', then files.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "interpose/tool/commands.h"

namespace flexlom::tool {

// Takes the words one by one. After "--" everything is a file. Not thread safe.
class Arguments {
 public:
  Arguments(std::string_view command, Words words) : command_(command), words_(words) {}

  // The next option, "--top" for "--top=5" too; files on the way are kept. Nothing at the end, and
  // when something was wrong: then failed(), and it has been complained about.
  std::optional<std::string_view> option();

  // Of the option just returned: its value, and whole numbers or seconds with decimals. Nothing,
  // after complaining, when there is none or it is not one.
  std::optional<std::string> value();
  std::optional<uint64_t> number();
  std::optional<uint64_t> seconds_ns();
  std::optional<uint64_t> bytes();  // "4096", "64K", "1.5GiB"

  // An option that is not known.
  void unknown();
  void complain_about(const std::string& text);

  // After the options, for a command that reads one log: its name. Nothing, after complaining, when
  // there is none or more than one, or when an option was wrong.
  std::optional<std::string> one_file();

  bool failed() const { return failed_; }
  const std::vector<std::string>& files() const { return files_; }

 private:
  std::string_view command_;
  Words words_;
  size_t next_ = 0;
  bool options_ended_ = false, failed_ = false;
  std::string_view name_;
  std::optional<std::string_view> attached_;  // after the '='
  std::vector<std::string> files_;
};

}  // namespace flexlom::tool
