#include "interpose/tool/advise_plot.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "interpose/tool/output.h"

namespace flexlom::tool {
namespace {

struct Range {
  double low, high;
  double share(double value) const { return high > low ? (value - low) / (high - low) : 0; }
};

Range memory_of(const std::vector<PlotPoint>& points) {
  return {points.front().gib, points.back().gib};
}

// From 1 to the next round number, so that two jobs can be compared by eye.
Range slowdown_of(const std::vector<PlotPoint>& points) {
  double most = 1.1;
  for (const PlotPoint& p : points) most = std::max(most, p.slowdown);
  for (const double top : {1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 7.5, 10.0, 15.0, 20.0, 50.0, 100.0}) {
    if (most <= top) return {1, top};
  }
  return {1, most};
}

std::string escaped(const std::string& text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      default:
        out += static_cast<unsigned char>(c) < 0x20 ? ' ' : c;
    }
  }
  return out;
}

}  // namespace

size_t knee_of(const std::vector<PlotPoint>& points) {
  constexpr double kStraight = 0.05;  // a line that bends less than this has no knee
  const Range memory = memory_of(points);
  const Range slowdown{points.back().slowdown, points.front().slowdown};
  size_t knee = points.size() - 1;
  double furthest = kStraight;
  if (slowdown.high < slowdown.low * 1.02) return 0;  // nothing is lost down to the smallest
  for (size_t i = 0; i < points.size(); ++i) {
    const double below = 1 - memory.share(points[i].gib) - slowdown.share(points[i].slowdown);
    if (below > furthest) {
      furthest = below;
      knee = i;
    }
  }
  return knee;
}

std::string advise_ascii(const std::vector<PlotPoint>& points) {
  constexpr int kWidth = 60, kHeight = 12;
  const Range memory = memory_of(points), slowdown = slowdown_of(points);
  std::vector<std::string> rows(kHeight + 1, std::string(kWidth + 1, ' '));
  const auto row_of = [&](double value) {
    return kHeight - static_cast<int>(std::lround(slowdown.share(value) * kHeight));
  };
  // Lines between the points, then the points on top.
  for (size_t i = 1; i < points.size(); ++i) {
    const PlotPoint &a = points[i - 1], &b = points[i];
    const int from = static_cast<int>(std::lround(memory.share(a.gib) * kWidth));
    const int to = static_cast<int>(std::lround(memory.share(b.gib) * kWidth));
    for (int x = from; x <= to; ++x) {
      const double t = to > from ? double(x - from) / (to - from) : 0;
      const int y = row_of(a.slowdown + t * (b.slowdown - a.slowdown));
      rows[static_cast<size_t>(y)][static_cast<size_t>(x)] = '.';
    }
  }
  for (const PlotPoint& p : points) {
    const auto x = static_cast<size_t>(std::lround(memory.share(p.gib) * kWidth));
    char& at = rows[static_cast<size_t>(row_of(p.slowdown))][x];
    if (at != 'K') at = p.knee ? 'K' : 'o';
  }
  std::string out;
  for (int y = 0; y <= kHeight; ++y) {
    const double value = slowdown.high - (slowdown.high - slowdown.low) * y / kHeight;
    std::string row = rows[static_cast<size_t>(y)];
    row.erase(row.find_last_not_of(' ') + 1);
    out += y % 3 == 0 ? fmt::format("{:7.2f}x |", value) : fmt::format("{:8} |", "");
    out += row + "\n";
  }
  out += fmt::format("{:8} +{}\n", "", std::string(kWidth + 1, '-'));
  out += fmt::format("{:10}{:<30}{:>31}\n", "",
                     human_bytes(static_cast<uint64_t>(memory.low * (1 << 30))),
                     human_bytes(static_cast<uint64_t>(memory.high * (1 << 30))));
  return out;
}

std::string advise_svg(const std::vector<PlotPoint>& points, const std::string& title) {
  constexpr double kLeft = 64, kTop = 48, kWidth = 620, kHeight = 300;
  const Range memory = memory_of(points), slowdown = slowdown_of(points);
  const auto x_of = [&](double gib) { return kLeft + memory.share(gib) * kWidth; };
  const auto y_of = [&](double value) { return kTop + kHeight * (1 - slowdown.share(value)); };
  std::string out =
      R"(<svg xmlns="http://www.w3.org/2000/svg" width="720" height="400" viewBox="0 0 720 400"
  role="img">
)";
  out += fmt::format("<title>{}</title>\n", escaped(title));
  out += R"(<style>
  svg { background: #fff; font: 13px system-ui, sans-serif; }
  text { fill: #222; } .grid { stroke: #ddd; }
  .line { fill: none; stroke: #2563a8; stroke-width: 2; }
  .dot { fill: #2563a8; } .knee { fill: #c4420c; }
  @media (prefers-color-scheme: dark) {
    svg { background: #16181d; } text { fill: #e6e6e6; } .grid { stroke: #3a3f4a; }
    .line { stroke: #7ab8ff; } .dot { fill: #7ab8ff; } .knee { fill: #ff9a5c; }
  }
</style>
)";
  out += fmt::format("<text x=\"{}\" y=\"24\" font-size=\"15\">{}</text>\n", kLeft, escaped(title));
  constexpr int kLines = 4;
  for (int i = 0; i <= kLines; ++i) {
    const double value = slowdown.low + (slowdown.high - slowdown.low) * i / kLines;
    out += fmt::format(
        "<line class=\"grid\" x1=\"{:.1f}\" y1=\"{:.1f}\" x2=\"{:.1f}\" y2=\"{:.1f}\"/>"
        "<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"end\">{:.2f}x</text>\n",
        kLeft, y_of(value), kLeft + kWidth, y_of(value), kLeft - 8, y_of(value) + 4, value);
    const double gib = memory.low + (memory.high - memory.low) * i / kLines;
    out += fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"middle\">{:.1f}</text>\n",
                       x_of(gib), kTop + kHeight + 20, gib);
  }
  out += fmt::format(
      "<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"middle\">device memory, GiB</text>\n",
      kLeft + kWidth / 2, kTop + kHeight + 42);
  std::string line;
  for (const PlotPoint& p : points)
    line += fmt::format("{:.1f},{:.1f} ", x_of(p.gib), y_of(p.slowdown));
  out += fmt::format("<polyline class=\"line\" points=\"{}\"/>\n", line);
  for (const PlotPoint& p : points) {
    out += fmt::format(
        "<circle class=\"{}\" cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"{}\"><title>{:.2f} GiB: {:.2f} times "
        "the time</title></circle>\n",
        p.knee ? "knee" : "dot", x_of(p.gib), y_of(p.slowdown), p.knee ? 6 : 4, p.gib, p.slowdown);
    if (!p.knee) continue;
    out += fmt::format(
        "<text class=\"knee\" x=\"{:.1f}\" y=\"{:.1f}\">knee: {:.1f} GiB, {:.2f}x"
        "</text>\n",
        std::min(x_of(p.gib) + 10, kLeft + kWidth - 150), y_of(p.slowdown) - 10, p.gib, p.slowdown);
  }
  return out + "</svg>\n";
}

}  // namespace flexlom::tool
