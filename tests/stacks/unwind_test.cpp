#include "interpose/stacks/unwind.h"

#include <pthread.h>
#include <sys/mman.h>
#include <ucontext.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <thread>
#include <vector>

#include "interpose/stacks/modules.h"
#include "interpose/stacks/stacks.h"
#include "interpose/stacks/tree.h"

// Calls walk(out, most) with `frame` in the register of the frame pointer.
extern "C" size_t stacks_test_call_with(uintptr_t frame, size_t (*walk)(uintptr_t*, size_t),
                                        uintptr_t* out, size_t most);
asm(R"(
  .text
  .type stacks_test_call_with, @function
stacks_test_call_with:
  push %rbp
  mov %rdi, %rbp
  mov %rsi, %rax
  mov %rdx, %rdi
  mov %rcx, %rsi
  call *%rax
  pop %rbp
  ret
  .size stacks_test_call_with, . - stacks_test_call_with
)");

namespace {

using namespace flexlom::stacks;

using Walk = size_t (*)(uintptr_t*, size_t);

// `depth` frames of itself above the walk.
__attribute__((noinline)) size_t descend(Walk walk, int depth, uintptr_t* out, size_t most) {
  const size_t count = depth == 0 ? walk(out, most) : descend(walk, depth - 1, out, most);
  asm volatile("" : : : "memory");
  return count;
}

size_t equal_neighbours(const uintptr_t* addresses, size_t count) {
  size_t found = 0;
  for (size_t i = 1; i < count; ++i) found += addresses[i] == addresses[i - 1];
  return found;
}

struct Recorded : Sink {
  bool module(const Module& m) noexcept override {
    modules.push_back(m.path);
    return accept;
  }
  bool frame(NodeId id, const Node& node) noexcept override {
    if (accept) frames.push_back({id, node.parent});
    return accept;
  }
  bool perf_map(const char*) noexcept override { return true; }
  bool accept = true;
  std::vector<std::string> modules;
  std::vector<std::pair<NodeId, NodeId>> frames;
};

}  // namespace

TEST_CASE("frame pointers lead through every caller") {
  uintptr_t addresses[kMostFrames];
  const size_t count = descend(&walk_frame_pointers, 10, addresses, kMostFrames);
  REQUIRE(count >= 12);
  CHECK(equal_neighbours(addresses, count) >= 8);
  CHECK(is_own_code(addresses[0]));
}

TEST_CASE("the unwinder of exceptions finds the same callers") {
  uintptr_t walked[kMostFrames], slowly[kMostFrames];
  const size_t a = descend(&walk_frame_pointers, 10, walked, kMostFrames);
  const size_t b = descend(&walk_slowly, 10, slowly, kMostFrames);
  REQUIRE(b >= 12);
  CHECK(equal_neighbours(slowly, b) == equal_neighbours(walked, a));
  CHECK(descend(&walk_slowly, 10, slowly, 3) == 3);
}

TEST_CASE("a stack of this moment is at most as deep as was asked for") {
  Stacks by_pointers(flexlom::StackMode::fp, 32, nullptr);
  const NodeId stack = by_pointers.capture_all();
  // All of this program is "own code" here but what called main.
  CHECK(by_pointers.frames(stack).size() <= 32);
  CHECK(by_pointers.by_frame_pointers());
  CHECK_FALSE(Stacks(flexlom::StackMode::off, 32, nullptr).by_frame_pointers());
}

TEST_CASE("no more frames than there is room for") {
  uintptr_t addresses[4] = {0, 0, 0, 42};
  CHECK(descend(&walk_frame_pointers, 10, addresses, 3) == 3);
  CHECK(addresses[3] == 42);
}

TEST_CASE("a damaged chain of frame pointers ends the walk") {
  // The registers of a caller without frame pointers hold anything.
  for (const uintptr_t damaged :
       {uintptr_t{0}, uintptr_t{1}, uintptr_t{0x1234}, ~uintptr_t{0}, ~uintptr_t{0} - 7,
        uintptr_t{0x7fff'ffff'fff8}, uintptr_t{0x5000'0000'0000}}) {
    uintptr_t addresses[kMostFrames];
    size_t count = 0;
    std::thread([&] {
      count = stacks_test_call_with(damaged, &walk_frame_pointers, addresses, kMostFrames);
    }).join();
    CAPTURE(damaged);
    CHECK(count >= 1);
    CHECK(count < 8);
  }
}

TEST_CASE("a stack that is not the thread's is not read beyond our own frames") {
  // A coroutine's stack with nothing mapped above it.
  const size_t size = 256 << 10, page = 4096;
  auto* memory = static_cast<char*>(
      mmap(nullptr, size + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  REQUIRE(memory != MAP_FAILED);
  REQUIRE(mprotect(memory + size, page, PROT_NONE) == 0);
  static ucontext_t back, there;
  static size_t count;
  REQUIRE(getcontext(&there) == 0);
  there.uc_stack.ss_sp = memory;
  there.uc_stack.ss_size = size;
  there.uc_link = &back;
  makecontext(
      &there,
      +[] {
        uintptr_t addresses[kMostFrames];
        count = descend(&walk_frame_pointers, 3, addresses, kMostFrames);
      },
      0);
  REQUIRE(swapcontext(&back, &there) == 0);
  CHECK(count >= 1);
  munmap(memory, size + page);
}

TEST_CASE("libunwind finds the same callers where there are frame pointers") {
  if (const char* problem = open_libunwind()) {
    WARN("not looked at: " << problem);
    return;
  }
  uintptr_t walked[kMostFrames], tables[kMostFrames];
  const size_t a = descend(&walk_frame_pointers, 10, walked, kMostFrames);
  const size_t b = descend(&walk_tables, 10, tables, kMostFrames);
  REQUIRE(b >= 12);
  // The innermost differ by the walk itself; then both see descend() call itself.
  CHECK(equal_neighbours(tables, b) == equal_neighbours(walked, a));
}

TEST_CASE("modules are listed with their code and build ids") {
  LoaderState state;
  const std::vector<Module> modules = list_modules(&state);
  CHECK(state == loader_state());
  REQUIRE(modules.size() > 2);
  CHECK(std::is_sorted(modules.begin(), modules.end(),
                       [](const Module& a, const Module& b) { return a.begin < b.begin; }));
  const auto here = reinterpret_cast<uintptr_t>(&descend);
  const auto own = std::find_if(modules.begin(), modules.end(),
                                [&](const Module& m) { return here >= m.begin && here < m.end; });
  REQUIRE(own != modules.end());
  CHECK(own->path.front() == '/');
  CHECK(own->build_id.size() == 40);
  CHECK(std::any_of(own->segments.begin(), own->segments.end(), [&](const Module::Segment& s) {
    return s.code && here >= s.begin && here < s.end;
  }));
}

TEST_CASE("code without a file is found") {
  void* memory = mmap(nullptr, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  REQUIRE(memory != MAP_FAILED);
  const auto address = reinterpret_cast<uintptr_t>(memory);
  const std::vector<CodeRange> ranges = list_anonymous_code();
  CHECK(std::any_of(ranges.begin(), ranges.end(), [&](const CodeRange& range) {
    return address >= range.begin && address < range.end;
  }));
  const auto here = reinterpret_cast<uintptr_t>(&descend);
  CHECK(std::none_of(ranges.begin(), ranges.end(), [&](const CodeRange& range) {
    return here >= range.begin && here < range.end;
  }));
  munmap(memory, 4096);
}

TEST_CASE("a tree finds what was added, until it forgets") {
  Tree tree;
  CHECK(tree.find(0, 1) == 0);
  std::vector<NodeId> ids;
  for (uintptr_t i = 1; i <= 5000; ++i)
    ids.push_back(tree.add(i % 7 == 0 ? 0 : ids.empty() ? 0 : ids.back(), i, 3));
  NodeId parent = 0;
  for (uintptr_t i = 1; i <= 5000; ++i) {
    parent = i % 7 == 0 ? 0 : parent;
    REQUIRE(tree.find(parent, i) == ids[i - 1]);
    parent = ids[i - 1];
  }
  const NodeId last = tree.add(ids[0], 99'999, 1);
  REQUIRE(tree.find(ids[0], 99'999) == last);
  tree.remove_last();
  CHECK(tree.find(ids[0], 99'999) == 0);
  tree.forget();
  CHECK(tree.find(0, 1) == 0);
  const NodeId again = tree.add(0, 1, 3);
  CHECK(again > ids.back());
  CHECK(tree.find(0, 1) == again);
  CHECK(tree[ids[0]].address == 1);
}

TEST_CASE("the same call has the same stack, and what is not recorded is offered again") {
  // Our own frames are dropped, and the test is all one program: what is left are libc's.
  Recorded sink;
  Stacks stacks(flexlom::StackMode::fp, 32, &sink);
  REQUIRE(stacks.on());
  sink.accept = false;
  CHECK(stacks.capture() == 0);
  CHECK(sink.frames.empty());
  const size_t offered = sink.modules.size();
  CHECK(offered == 1);  // the first that was refused ended it
  sink.accept = true;
  const NodeId first = stacks.capture();
  CHECK(sink.modules.size() > offered);
  const size_t frames = sink.frames.size();
  CHECK(stacks.capture() == first);
  CHECK(sink.frames.size() == frames);
  NodeId most = 0;
  for (const auto& [id, parent] : sink.frames) {
    CHECK(parent < id);
    most = std::max(most, id);
  }
  CHECK(most == sink.frames.size());
}
