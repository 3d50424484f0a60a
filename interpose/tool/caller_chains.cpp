#include "interpose/tool/caller_chains.h"

namespace flexlom::tool {

uint32_t CallerChains::of(const trace::Summary& log, trace::FrameId innermost) {
  const auto [place, is_new] = known_.try_emplace({&log, innermost}, 0);
  if (!is_new) return place->second;
  std::vector<uint32_t> chain;
  for (const trace::FrameLabel& label : log.frames.stack(innermost)) {
    const bool is_address = label.function.starts_with("0x");
    const auto name = names_.try_emplace(is_address ? std::string() : label.function,
                                         static_cast<uint32_t>(names_.size()));
    chain.push_back(name.first->second);
  }
  return place->second =
             chains_.try_emplace(std::move(chain), static_cast<uint32_t>(chains_.size()))
                 .first->second;
}

}  // namespace flexlom::tool
