// The generated table of exported symbols.
#pragma once

namespace flexlom::sim {

struct Export {
  const char* symbol;
  void (*address)();
};
extern const Export exports[];
extern const unsigned export_count;

}  // namespace flexlom::sim
