// Other tools' formats, made from a log while it is read.
#pragma once

#include <cstdint>
#include <limits>
#include <memory>
#include <string>

#include "interpose/tool/groups.h"
#include "interpose/tool/output_file.h"
#include "interpose/tool/symbols.h"
#include "interpose/trace/summary.h"

namespace flexlom::tool {

struct ExportOptions {
  std::string name;  // of the log
  std::string cost = "peak_space";
  Filter filter;
  // Times since the start of the log.
  uint64_t begin_ns = 0, end_ns = std::numeric_limits<uint64_t>::max();
  uint64_t min_bytes = 0;      // smaller allocations are left out
  bool counters_only = false;  // no event for each allocation
  bool full_stacks = false;    // with every event, not once for each stack
  uint64_t limit = 100'000;    // the last events of each device, 0: all
};

// Gets the records of a log one by one. Not thread safe.
class Exporter {
 public:
  virtual ~Exporter() = default;
  // After `log` has taken the record in.
  virtual void record(const trace::Record&, const trace::Summary&) {}
  virtual void finish(const trace::Summary& log) = 0;
};

// The options must live as long as the exporter.
std::unique_ptr<Exporter> chrome_exporter(OutputFile& out, const ExportOptions& options);
std::unique_ptr<Exporter> csv_exporter(OutputFile& out, const ExportOptions& options);
std::unique_ptr<Exporter> folded_exporter(OutputFile& out, const ExportOptions& options);
std::unique_ptr<Exporter> speedscope_exporter(OutputFile& out, const ExportOptions& options);
std::unique_ptr<Exporter> torch_exporter(OutputFile& out, const ExportOptions& options);

// Reads a log through an exporter and closes what it writes to. Tells on standard error what could
// not be read of the log, and which names were not found. False, after complaining, when the log
// cannot be read at all or the output cannot be written.
bool export_log(const std::string& file, const SymbolOptions& symbols, Exporter& exporter,
                OutputFile& out);

// "folded, speedscope, ..."
std::string format_names();

// The costs that folded stacks can have: "peak_space, peak_objects, ...".
bool is_cost(const std::string& name);
std::string cost_names();

}  // namespace flexlom::tool
