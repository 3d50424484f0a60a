// Call stacks for the reports of guard mode: those that the doors take for every allocation and
// free (stacks/stacks.h), put into words when there is something to report.
//
// Names come from flexlom-tool, which is run once for each report (ask_tool.h); without it, or when
// it takes too long, frames are "libx.so+0x1234".
#pragma once

#include "interpose/guard/ledger.h"
#include "interpose/stacks/stacks.h"

namespace flexlom::guard {

class NamedStacks final : public CallStacks {
 public:
  // `stacks` outlives it.
  explicit NamedStacks(stacks::Stacks& stacks) noexcept : stacks_(stacks) {}

  uint32_t current() noexcept override { return stacks::here(); }
  uint32_t here() noexcept override { return stacks_.on() ? stacks_.capture_all() : 0; }
  std::map<uint32_t, Lines> lines(const std::set<uint32_t>& stacks) override;
  bool may_end_early() const noexcept override { return stacks_.by_frame_pointers(); }

 private:
  stacks::Stacks& stacks_;
};

}  // namespace flexlom::guard
