#include "interpose/trace/frames.h"

#include <charconv>

namespace flexlom::trace {
namespace {

constexpr size_t longest_path = 4096, longest_build_id = 128;

std::string hexadecimal(uint64_t value) {
  char digits[16];
  const auto end = std::to_chars(digits, digits + sizeof digits, value, 16).ptr;
  return "0x" + std::string(digits, end);
}

// Names without a namer.
class RawNamer : public FrameNamer {
 public:
  const std::vector<FrameLabel>& labels(const Frames& frames, FrameId frame) override {
    label_[0].function = raw_name(frames, frame);
    return label_;
  }

 private:
  std::vector<FrameLabel> label_ = std::vector<FrameLabel>(1);
};

}  // namespace

std::vector<FrameLabel> FrameNamer::stack(const Frames& frames, FrameId innermost) {
  std::vector<FrameLabel> found;
  for (FrameId id = innermost; id != 0; id = frames[id].parent) {
    const std::vector<FrameLabel>& of_frame = labels(frames, id);
    found.insert(found.end(), of_frame.begin(), of_frame.end());
  }
  return found;
}

std::string raw_name(const Frames& frames, FrameId frame) {
  const LogFrame& f = frames[frame];
  if (f.module == 0) return hexadecimal(f.address);
  const LogModule& module = frames.module(f.module);
  std::string name = module.path.substr(module.path.rfind('/') + 1);
  if (name.empty()) name = "?";
  return name + "+" + hexadecimal(f.address - module.base);
}

const char* Frames::add_module(const JsonLine& record) {
  const auto base = record.hex("base"), begin = record.hex("begin"), end = record.hex("end");
  if (!base || !begin || !end || *begin >= *end) return "a module without addresses";
  if (modules_.size() >= most_modules) return "more modules than a log can have";
  LogModule module;
  module.path = record.text("path").value_or("").substr(0, longest_path);
  module.build_id = record.text("build_id").value_or("").substr(0, longest_build_id);
  module.base = *base;
  module.begin = *begin;
  module.end = *end;
  // What was there before was unloaded.
  auto old = by_begin_.lower_bound(*begin);
  if (old != by_begin_.begin()) {
    const auto before = std::prev(old);
    if (modules_[before->second - 1].end > *begin) old = before;
  }
  while (old != by_begin_.end() && old->first < *end) old = by_begin_.erase(old);
  modules_.push_back(std::move(module));
  by_begin_[*begin] = static_cast<uint32_t>(modules_.size());
  return nullptr;
}

const char* Frames::add_frame(const JsonLine& record) {
  const auto number = record.number("id"), parent_number = record.number("parent");
  const auto address = record.hex("ip");
  if (!number || *number == 0 || *number > most_frames || !address)
    return "a frame without a possible number and an address";
  const FrameId parent = parent_number ? find(*parent_number) : 0;
  if (parent_number && parent == 0) return "a frame whose caller is not in the log";
  if (find(*number) != 0) return "a frame with the number of another";
  const auto depth = static_cast<uint16_t>(parent == 0 ? 1 : depths_[parent - 1] + 1);
  if (depth > longest_stack) return "a frame of a stack that is too deep";
  LogFrame frame;
  frame.address = *address;
  frame.parent = parent;
  auto after = by_begin_.upper_bound(*address);
  if (after != by_begin_.begin()) {
    const uint32_t module = std::prev(after)->second;
    if (*address < modules_[module - 1].end) frame.module = module;
  }
  frames_.push_back(frame);
  depths_.push_back(depth);
  if (*number >= by_number_.size()) by_number_.resize(*number + 1);
  by_number_[*number] = static_cast<FrameId>(frames_.size());
  return nullptr;
}

std::vector<FrameLabel> Frames::stack(FrameId innermost) const {
  if (namer_ != nullptr) return namer_->stack(*this, innermost);
  RawNamer raw;
  return raw.stack(*this, innermost);
}

}  // namespace flexlom::trace
