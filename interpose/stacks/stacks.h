// Who called: the stack of a driver call as one number, for the records of the trace log and for
// the leak check.
//
// A stack is captured by the door that was called, before the pool and none of its locks are
// entered, and what the call leads to on its thread is recorded with it. Addresses stay raw;
// flexlom report names them.
#pragma once

#include <cstdint>
#include <deque>
#include <mutex>
#include <string>
#include <vector>

#include "interpose/options.h"
#include "interpose/stacks/modules.h"
#include "interpose/stacks/tree.h"

namespace flexlom::stacks {

// Where modules and frames are recorded before anything that refers to them. False: it was not
// recorded, and must be offered again.
class Sink {
 public:
  virtual ~Sink() = default;
  virtual bool module(const Module&) noexcept = 0;
  virtual bool frame(NodeId id, const Node&) noexcept = 0;
  virtual bool perf_map(const char* path) noexcept = 0;  // names of code without a file
};

// Thread safe, but for `sink`, which is called with a lock held and must not come back here.
class Stacks {
 public:
  // `depth`: frames of a stack that are kept, the innermost ones. `sink` may be null.
  Stacks(StackMode mode, size_t depth, Sink* sink) noexcept;

  bool on() const noexcept { return mode_ != StackMode::off; }
  bool by_frame_pointers() const noexcept {
    return mode_ == StackMode::fp || (mode_ == StackMode::dwarf && problem_ != nullptr);
  }
  // Why the mode that was asked for is not the one in use; null when it is.
  const char* problem() const noexcept { return problem_; }

  // The stack of this thread without this library's own frames; 0 when there is none. Requires no
  // lock, and an InsidePool: the unwinder allocates, and a program's allocation hook may call CUDA.
  NodeId capture() noexcept;
  // The same through all code, whatever the mode: takes some 10 us, and walks with no library that
  // might be absent.
  NodeId capture_all() noexcept;

  // A stack, innermost first, and the modules of its addresses, which live as long as this.
  struct Frame {
    uintptr_t address;
    const Module* module;  // null: code without a file
  };
  std::vector<Frame> frames(NodeId id);

 private:
  NodeId number_of_stack(const uintptr_t* addresses, size_t count) noexcept;
  void take_modules(std::vector<Module> now, LoaderState state);
  uint32_t number_of(Module&& module);
  uint32_t module_at(uintptr_t address) const noexcept;
  size_t known_code(const uintptr_t* addresses, size_t count) const noexcept;
  bool may_look_for_code() const noexcept;
  NodeId intern(const uintptr_t* addresses, size_t count);

  const StackMode mode_;
  const size_t depth_;
  Sink* const sink_;
  const char* problem_ = nullptr;

  std::mutex mutex_;   // guards what follows; never held while the loader is asked anything
  LoaderState state_;  // that code_ belongs to
  // That ever was; [0] stands for code without a file. Frame points in here: none is ever moved or
  // changed.
  std::deque<Module> every_module_;
  struct Code {
    uintptr_t begin, end;
    uint32_t module;
  };
  std::vector<Code> code_;  // of the modules there are now, by address
  std::vector<CodeRange> anonymous_;
  uint64_t looked_at_ns_ = 0, look_took_ns_ = 0;  // for anonymous_
  bool perf_map_told_ = false;
  Tree tree_;
};

// The stack that this thread's records belong to.
NodeId here() noexcept;

// Held by a door while it works for its caller.
class Caller {
 public:
  explicit Caller(Stacks& stacks) noexcept : set_(stacks.on()) {
    if (set_) [[unlikely]]
      enter(stacks);
  }
  ~Caller() {
    if (set_) [[unlikely]]
      leave();
  }
  Caller(const Caller&) = delete;
  Caller& operator=(const Caller&) = delete;

 private:
  static void enter(Stacks& stacks) noexcept;
  static void leave() noexcept;
  const bool set_;
};

}  // namespace flexlom::stacks
