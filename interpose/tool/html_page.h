// The pictures of a log in one HTML file that needs nothing else: no network, no font, no library.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "interpose/tool/export.h"
#include "interpose/tool/html_page_map.h"
#include "interpose/tool/html_samples.h"
#include "interpose/tool/output_file.h"
#include "interpose/trace/summary.h"

namespace flexlom::tool {

struct HtmlOptions {
  std::string name;   // of the log
  std::string title;  // "" for one made of the command
};

// Bounded in memory and in what it writes, however long the log is: html_samples.h and
// html_page_map.h thin out what they are given. The options must live as long.
class HtmlPage : public Exporter {
 public:
  static constexpr size_t most_devices = 16;  // of more, the later ones have no pictures
  static constexpr size_t most_marks = 200;   // failures and warnings that are marked

  HtmlPage(OutputFile& out, const HtmlOptions& options) : out_(out), options_(options) {}

  void record(const trace::Record& record, const trace::Summary& log) override;
  void finish(const trace::Summary& log) override;

 private:
  static constexpr size_t most_samples = 8192;
  struct Device {
    Samples<LevelSample> levels{most_samples};
    Samples<TrafficSample> traffic{most_samples};
    PageMap pages;
    Levels now;
    uint64_t held_bytes = 0;
  };
  struct Warning {
    uint64_t at_ns;
    std::string text;
  };

  Device* device(int ordinal);
  void follow_pages(const trace::Record& record, const trace::Summary& log, uint64_t at_ns);
  void count_traffic(const trace::Record& record, Device& device, uint64_t at_ns);
  void note_levels(const trace::Record& record, const trace::Summary& log, uint64_t at_ns);

  std::string data(const trace::Summary& log);
  std::string device_data(const trace::Summary& log, int ordinal, Device& device);

  OutputFile& out_;
  const HtmlOptions& options_;
  std::map<int, Device> devices_;
  bool devices_left_out_ = false;
  Samples<LevelSample> totals_{most_samples};  // in use; held, not in use; host frames
  uint64_t in_use_bytes_ = 0, device_held_bytes_ = 0;
  uint64_t peak_in_use_bytes_ = 0, peak_held_bytes_ = 0,
           peak_at_ns_ = 0;  // of all devices together
  std::vector<Warning> warnings_;
};

// The head of the page as HTML: what the log is of, its figures, and what is wrong with it.
std::string html_title(const trace::Summary& log, const HtmlOptions& options);
std::string html_head(const trace::Summary& log, const HtmlOptions& options);

}  // namespace flexlom::tool
