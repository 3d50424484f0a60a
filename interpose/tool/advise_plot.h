// Device memory against predicted slowdown, drawn.
#pragma once

#include <string>
#include <vector>

namespace flexlom::tool {

struct PlotPoint {
  double gib = 0, slowdown = 1;
  bool knee = false;
};

// Points in ascending order of memory, at least one.
std::string advise_ascii(const std::vector<PlotPoint>& points);
// One SVG file, without scripts, in the colours of light or dark as the viewer has it.
std::string advise_svg(const std::vector<PlotPoint>& points, const std::string& title);

// The point after which less memory costs much more: the one that lies furthest below the straight
// line between both ends, in units of the ranges. The last point when there is no bend.
size_t knee_of(const std::vector<PlotPoint>& points);

}  // namespace flexlom::tool
