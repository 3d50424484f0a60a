// Any bytes as a trace log: read to the end, counted, reported in text and in valid JSON, exported
// to every format, drawn, and replayed by the advisor.
#include <array>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <string>
#include <string_view>

#include "interpose/tool/advise_model.h"
#include "interpose/tool/export.h"
#include "interpose/tool/html_page.h"
#include "interpose/tool/report_text.h"
#include "interpose/trace/json_line.h"
#include "interpose/trace/json_text.h"
#include "interpose/trace/summary.h"

namespace {

using flexlom::trace::JsonLine;

void require(bool holds) {
  if (!holds) std::abort();
}

// What the scanner accepts, it must find again in what we write.
void check_line(std::string_view line) {
  JsonLine json;
  if (!json.parse(line)) {
    require(*json.error() != '\0');
    return;
  }
  for (const char* name : {"kind", "t", "address", "devices", "call"}) {
    json.number(name);
    json.integer(name);
    json.hex(name);
    json.boolean(name);
    for (std::string_view element : json.elements(name)) require(!element.empty());
    if (auto text = json.text(name)) {
      std::string again = R"({"a":)";
      flexlom::trace::append_json(again, *text);
      again += '}';
      JsonLine second;
      require(second.parse(again) && second.text("a").has_value());
    }
  }
}

using Make = std::unique_ptr<flexlom::tool::Exporter> (*)(flexlom::tool::OutputFile&,
                                                          const flexlom::tool::ExportOptions&);
constexpr std::array<Make, 5> makers = {
    flexlom::tool::chrome_exporter, flexlom::tool::csv_exporter, flexlom::tool::folded_exporter,
    flexlom::tool::speedscope_exporter, flexlom::tool::torch_exporter};

// An exporter and where it writes to.
struct Export {
  explicit Export(Make make) : out("/dev/null"), exporter(make(out, options)) {
    options.min_bytes = 16;
    options.limit = 5;
  }
  flexlom::tool::ExportOptions options;
  flexlom::tool::OutputFile out;
  std::unique_ptr<flexlom::tool::Exporter> exporter;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string_view rest(reinterpret_cast<const char*>(data), size);
  flexlom::trace::Summary summary;
  uint64_t number = 0;
  flexlom::tool::AdviseReader advisor;
  const flexlom::tool::HtmlOptions html_options{"fuzz", ""};
  flexlom::tool::OutputFile html("/dev/null");
  flexlom::tool::HtmlPage page(html, html_options);
  std::array<std::unique_ptr<Export>, makers.size()> exports;
  for (size_t i = 0; i < makers.size(); i++) exports[i] = std::make_unique<Export>(makers[i]);
  while (!rest.empty()) {
    std::string_view line = rest.substr(0, rest.find('\n'));
    bool cut = line.size() == rest.size();
    rest.remove_prefix(cut ? rest.size() : line.size() + 1);
    check_line(line);
    if (!summary.add_line(++number, line, cut)) continue;
    for (const auto& one : exports) one->exporter->record(summary.record(), summary);
    advisor.record(summary.record(), summary);
    page.record(summary.record(), summary);
  }
  require(summary.records + summary.bad_line_count >= number - (summary.cut_short ? 1 : 0));
  uint64_t spilled = 0, in_use = 0, live = 0;
  for (const auto& [ordinal, device] : summary.devices) {
    require(device.in_use.now_bytes <= device.in_use.most_bytes);
    in_use += device.in_use.now_bytes;
    spilled += device.spilled.now_bytes;
  }
  for (const auto& [address, allocation] : summary.live) live += allocation.given_bytes;
  require(in_use == live && spilled <= in_use);

  flexlom::tool::AdviseJob job;
  constexpr uint64_t quick = uint64_t{1} << 33;
  if (advisor.finish(summary, -1, &job) && job.peak_bytes < quick) {
    const auto answer = predict(job, flexlom::tool::LinkModel(), job.peak_bytes / 2, 0);
    require(answer.seconds >= 0 && answer.whole_seconds >= answer.seconds);
  }

  for (const auto& one : exports) {
    one->exporter->finish(summary);
    require(one->out.close());
  }
  page.finish(summary);
  require(html.written_bytes() <= uint64_t{5} << 20 && html.close());
  require(!flexlom::tool::report_text("fuzz", summary, 3).empty());
  const flexlom::tool::NamedLog named{"fuzz", summary};
  const std::string difference = flexlom::tool::diff_json(named, named, 3, {});
  JsonLine parsed;
  require(parsed.parse(difference));
  std::string report = flexlom::tool::report_json("fuzz", summary, 3);
  JsonLine json;
  require(json.parse(report) && json.number("live_bytes") == live);
  return 0;
}
