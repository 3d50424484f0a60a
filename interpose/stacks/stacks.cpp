#include "interpose/stacks/stacks.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>

#include "interpose/stacks/unwind.h"
#include "interpose/trace/clock.h"
#include "interpose/trace/overhead.h"

namespace flexlom::stacks {
namespace {

thread_local NodeId current __attribute__((tls_model("initial-exec"))) = 0;

constexpr size_t kMostOwn = 16;  // frames of this library before those of its caller

}  // namespace

NodeId here() noexcept { return current; }

// Its frame is between the walk and the door, and has to be one that can be walked.
__attribute__((noinline)) void Caller::enter(Stacks& stacks) noexcept {
  const trace::Overhead::Use use;
  current = stacks.capture();
}
void Caller::leave() noexcept { current = 0; }

Stacks::Stacks(StackMode mode, size_t depth, Sink* sink) noexcept
    : mode_(mode), depth_(std::clamp<size_t>(depth, 1, kMostFrames)), sink_(sink) {
  if (mode_ == StackMode::dwarf) problem_ = open_libunwind();
}

NodeId Stacks::capture() noexcept {
  uintptr_t addresses[kMostFrames + kMostOwn];
  const size_t most = depth_ + kMostOwn;
  size_t count = mode_ == StackMode::dwarf ? walk_tables(addresses, most) : 0;
  if (count == 0) count = walk_frame_pointers(addresses, most);
  return number_of_stack(addresses, count);
}

NodeId Stacks::capture_all() noexcept {
  uintptr_t addresses[kMostFrames + kMostOwn];
  return number_of_stack(addresses, walk_slowly(addresses, depth_ + kMostOwn));
}

NodeId Stacks::number_of_stack(const uintptr_t* addresses, size_t count) noexcept {
  size_t own = 0;
  while (own < count && is_own_code(addresses[own])) ++own;
  const uintptr_t* const callers = addresses + own;
  count = std::min(count - own, depth_);
  try {
    const LoaderState loader = loader_state();
    std::unique_lock lock(mutex_);
    if (loader != state_) [[unlikely]] {
      lock.unlock();
      LoaderState listed;
      std::vector<Module> now = list_modules(&listed);
      lock.lock();
      take_modules(std::move(now), listed);
    }
    size_t known = known_code(callers, count);
    if (known < count && may_look_for_code()) [[unlikely]] {
      lock.unlock();
      const uint64_t begin_ns = trace::monotonic_ns();
      std::vector<CodeRange> found = list_anonymous_code();
      const uint64_t end_ns = trace::monotonic_ns();
      lock.lock();
      anonymous_ = std::move(found);
      looked_at_ns_ = end_ns;
      look_took_ns_ = end_ns - begin_ns;
      known = known_code(callers, count);
    }
    return intern(callers, known);
  } catch (...) {
    return 0;  // no memory: this call has no stack
  }
}

// Looking takes a while, and damaged chains lead to addresses that are never found: at most one
// part in fifty of the time is spent on it.
bool Stacks::may_look_for_code() const noexcept {
  return trace::monotonic_ns() - looked_at_ns_ > 50 * look_took_ns_;
}

uint32_t Stacks::number_of(Module&& module) {
  for (size_t i = 1; i < every_module_.size(); ++i) {
    if (every_module_[i] == module) return static_cast<uint32_t>(i);
  }
  every_module_.push_back(std::move(module));
  return static_cast<uint32_t>(every_module_.size() - 1);
}

void Stacks::take_modules(std::vector<Module> now, LoaderState state) {
  // Another thread may have been here with a later list.
  if (state.loaded < state_.loaded || state.unloaded < state_.unloaded || state == state_) return;
  if (every_module_.empty()) every_module_.emplace_back();
  std::vector<uint32_t> before;
  for (const Code& code : code_) before.push_back(code.module);
  std::vector<Code> code;
  for (Module& module : now) {
    const uint32_t number = number_of(std::move(module));
    const Module& kept = every_module_[number];
    for (const Module::Segment& segment : kept.segments) {
      if (segment.code) code.push_back({segment.begin, segment.end, number});
    }
    const bool is_new = std::find(before.begin(), before.end(), number) == before.end();
    // Not recorded: everything is offered again with the next stack.
    if (is_new && sink_ != nullptr && !sink_->module(kept)) return;
  }
  std::sort(code.begin(), code.end(),
            [](const Code& a, const Code& b) { return a.begin < b.begin; });
  // Where something was unloaded, something else may lie now.
  if (state.unloaded != state_.unloaded) tree_.forget();
  code_ = std::move(code);
  state_ = state;
}

// The number of the module whose code this is, 0 when there is none.
uint32_t Stacks::module_at(uintptr_t address) const noexcept {
  auto after = std::upper_bound(code_.begin(), code_.end(), address,
                                [](uintptr_t a, const Code& code) { return a < code.begin; });
  if (after == code_.begin()) return 0;
  --after;
  return address < after->end ? after->module : 0;
}

// How many of the addresses, from the first, lie in code. A chain of frame pointers that runs
// through code without them leads anywhere.
size_t Stacks::known_code(const uintptr_t* addresses, size_t count) const noexcept {
  for (size_t i = 0; i < count; ++i) {
    if (module_at(addresses[i]) != 0) continue;
    const bool anonymous =
        std::any_of(anonymous_.begin(), anonymous_.end(), [&](const CodeRange& range) {
          return addresses[i] >= range.begin && addresses[i] < range.end;
        });
    if (!anonymous) return i;
  }
  return count;
}

NodeId Stacks::intern(const uintptr_t* addresses, size_t count) {
  NodeId id = 0;
  for (size_t i = count; i-- > 0;) {
    const NodeId parent = id;
    id = tree_.find(parent, addresses[i]);
    if (id != 0) [[likely]]
      continue;
    const uint32_t module = module_at(addresses[i]);
    id = tree_.add(parent, addresses[i], module);
    if (id == 0) return parent;  // too many: the outer frames of it
    if (sink_ == nullptr) continue;
    if (module == 0 && !perf_map_told_) {
      char path[64];
      snprintf(path, sizeof path, "/tmp/perf-%d.map", static_cast<int>(getpid()));
      perf_map_told_ = access(path, R_OK) != 0 || sink_->perf_map(path);
    }
    if (!sink_->frame(id, tree_[id])) {
      tree_.remove_last();
      return 0;
    }
  }
  return id;
}

std::vector<Stacks::Frame> Stacks::frames(NodeId id) {
  std::vector<Frame> found;
  std::lock_guard lock(mutex_);
  for (; id != 0; id = tree_[id].parent) {
    const Node& node = tree_[id];
    found.push_back({node.address, node.module != 0 ? &every_module_[node.module] : nullptr});
  }
  return found;
}

}  // namespace flexlom::stacks
