// The checks of flexlom doctor. Each adds its findings to a list; none prints, none throws.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "interpose/options.h"

namespace flexlom::tool {

enum class Verdict { ok, warn, fail };

struct Check {
  Verdict verdict;
  std::string name;
  std::string fact;
  std::string remedy;  // empty when there is nothing to do
};

class Findings {
 public:
  void ok(std::string name, std::string fact) {
    checks_.push_back({Verdict::ok, std::move(name), std::move(fact), ""});
  }
  void warn(std::string name, std::string fact, std::string remedy) {
    checks_.push_back({Verdict::warn, std::move(name), std::move(fact), std::move(remedy)});
  }
  void fail(std::string name, std::string fact, std::string remedy) {
    checks_.push_back({Verdict::fail, std::move(name), std::move(fact), std::move(remedy)});
  }
  const std::vector<Check>& checks() const { return checks_; }
  bool any_failed() const;

 private:
  std::vector<Check> checks_;
};

// What several checks want to know.
struct Setting {
  std::string library;             // "" when it was not found
  Options options;                 // of this environment
  bool driver_works = false;       // set by check_driver
  uint64_t host_budget_bytes = 0;  // set by check_memory
};

void check_library(Findings& findings, Setting& setting, const std::string& given);
void check_options(Findings& findings, Setting& setting);
void check_preloads(Findings& findings, const Setting& setting);
void check_memory(Findings& findings, Setting& setting);
void check_output(Findings& findings, const Setting& setting);
void check_driver(Findings& findings, Setting& setting);  // and every device
void check_self_test(Findings& findings, const Setting& setting);
void check_target(Findings& findings, const std::string& program);

}  // namespace flexlom::tool
