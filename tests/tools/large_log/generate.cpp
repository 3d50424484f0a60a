// Writes a trace log of any length on standard output, in the writer's own form, for measuring what
// reads logs. The same arguments give the same log.
//
//   generate EVENTS [LIVE [STACKS [FILE]]]
//
// LIVE: allocations held at one time (default 20000). STACKS: different call stacks, each with its
// own call, stream and up to four sizes (default 0: none). FILE: the program that they lie in,
// which then has names for them (default: one that is not there).
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "interpose/trace/line_buffer.h"

namespace {

using flexlom::trace::LineBuffer;

constexpr uint64_t mib = uint64_t{1} << 20;
constexpr uint64_t base = 0x500000000000;
constexpr uint64_t page_bytes = 64 * mib;
constexpr uint64_t pages = 1024;

struct Held {
  uint64_t address, asked, given;
  const char* call;
};

class Log {
 public:
  explicit Log(uint64_t events) : left_(events) {}

  bool full() const { return left_ == 0; }

  template <typename Fields>
  void line(const char* kind, Fields&& fields) {
    if (left_ == 0) return;
    left_--;
    now_ns_ += 900 + random(400);
    LineBuffer line(kind);
    fields(line);
    const std::string_view text = line.finish();
    fwrite(text.data(), 1, text.size(), stdout);
  }

  uint64_t random(uint64_t below) {
    state_ = state_ * 6364136223846793005u + 1442695040888963407u;
    return (state_ >> 33) % below;
  }
  uint64_t now_ns() const { return now_ns_; }

 private:
  uint64_t left_;
  uint64_t now_ns_ = 1'000'000'000;
  uint64_t state_ = 42;
};

void page(Log& log, const char* kind, uint64_t index, const char* note) {
  log.line(kind, [&](LineBuffer& line) {
    line.number("t", log.now_ns());
    line.number("tid", 4242);
    line.number("device", 0);
    line.hex("address", base + index * page_bytes);
    line.number("given_bytes", page_bytes);
    line.text("note", note);
  });
}

// Call stacks of 20 frames: all share the outermost six, and ever fewer of them the next three.
class Stacks {
 public:
  Stacks(uint64_t count, const char* file) : innermost_(count) {
    if (count == 0) return;
    printf(R"({"kind":"module","base":"0x555555554000","begin":"0x555555554000",)"
           R"("end":"0x555557554000","path":"%s"})"
           "\n",
           file);
  }

  bool any() const { return !innermost_.empty(); }
  uint64_t pick(Log& log) const { return log.random(innermost_.size()); }

  // The number of the innermost frame; frames come in the log before they are named, as the
  // library writes them.
  uint64_t frame(uint64_t stack) {
    uint64_t& innermost = innermost_[stack];
    if (innermost != 0) return innermost;
    uint64_t parent = 0;
    for (uint64_t level = 0; level < 6; level++) parent = shared(level, 0, parent);
    parent = shared(6, stack % 16, parent);
    parent = shared(7, stack % 256, parent);
    for (uint64_t level = 8; level < 20; level++) parent = write(level * 65536 + stack, parent);
    return innermost = parent;
  }

 private:
  uint64_t shared(uint64_t level, uint64_t which, uint64_t parent) {
    uint64_t& number = shared_[level * 256 + which];
    if (number == 0) number = write(level * 65536 + which, parent);
    return number;
  }

  uint64_t write(uint64_t place, uint64_t parent) {
    LineBuffer line("frame");
    line.number("id", ++frames_);
    if (parent != 0) line.number("parent", parent);
    line.hex("ip", 0x55555556e000 + (place * 0x9e3779b97f4a7c15u >> 40) % 0x238000);
    const std::string_view text = line.finish();
    fwrite(text.data(), 1, text.size(), stdout);
    return frames_;
  }

  std::vector<uint64_t> innermost_;
  std::vector<uint64_t> shared_ = std::vector<uint64_t>(8 * 256);
  uint64_t frames_ = 0;
};

}  // namespace

int main(int argc, char** argv) {
  Log log(argc > 1 ? strtoull(argv[1], nullptr, 10) : 1000);
  const uint64_t most_live = argc > 2 ? strtoull(argv[2], nullptr, 10) : 20000;
  printf(R"({"kind":"header","format":1,"version":"0.1.0","driver_version":13000,"pid":4242,)"
         R"("host":"node7","t":1000000000,"wall_ns":1700000000000000000,)"
         R"("host_budget_bytes":68719476736,"command":["python3","train.py"],"devices":[)"
         R"({"ordinal":0,"name":"NVIDIA H200","uuid":"GPU-0","total_bytes":150323855360,)"
         R"("budget_bytes":51539607552}]})"
         "\n");
  Stacks stacks(argc > 3 ? strtoull(argv[3], nullptr, 10) : 0,
                argc > 4 ? argv[4] : "/nowhere/train");
  std::vector<bool> on_host(pages);
  for (uint64_t i = 0; i < pages; i++) {
    on_host[i] = i * page_bytes >= 48 * 1024 * mib;
    page(log, "map", i, on_host[i] ? "host" : "device");
  }

  std::vector<Held> held;
  std::vector<uint64_t> free_slots(most_live);
  for (uint64_t i = 0; i < most_live; i++) free_slots[i] = most_live - 1 - i;
  const uint64_t slot_bytes = pages * page_bytes / most_live / 512 * 512;
  const char* const calls[] = {"cuMemAlloc_v2", "cuMemAllocAsync", "cuMemAllocFromPoolAsync"};
  for (uint64_t seq = 1; !log.full(); seq++) {
    // Three of a hundred steps move a page; the others allocate until the slots are used, then
    // free one and take one.
    if (log.random(100) < 3) {
      const uint64_t index = log.random(pages);
      page(log, on_host[index] ? "promote" : "demote", index, "copied");
      on_host[index] = !on_host[index];
      continue;
    }
    if (free_slots.empty() || (!held.empty() && log.random(100) < 48)) {
      const uint64_t which = log.random(held.size());
      const Held gone = held[which];
      held[which] = held.back();
      held.pop_back();
      free_slots.push_back((gone.address - base) / slot_bytes);
      const uint64_t frame = stacks.any() ? stacks.frame(stacks.pick(log)) : 0;
      log.line("free", [&](LineBuffer& line) {
        line.number("t", log.now_ns());
        line.number("tid", 4242);
        line.number("device", 0);
        line.hex("address", gone.address);
        line.literal("call", gone.call[10] == '_' ? "cuMemFree_v2" : "cuMemFreeAsync");
        if (frame != 0) line.number("frame", frame);
      });
      continue;
    }
    Held next;
    const uint64_t stack = stacks.any() ? stacks.pick(log) : 0;
    const uint64_t frame = stacks.any() ? stacks.frame(stack) : 0;
    next.call = calls[frame != 0 ? stack % 3 : log.random(3)];
    const uint64_t size = frame != 0 ? (stack * 4 + log.random(4)) % 500 : log.random(500);
    next.asked = 1 + size * slot_bytes / 512;
    next.given = (next.asked + 511) / 512 * 512;
    next.address = base + free_slots.back() * slot_bytes;
    free_slots.pop_back();
    const uint64_t stream =
        next.call[10] == 'A' ? 0x55d0c0000000 + (frame != 0 ? stack % 4 : log.random(4)) * 4096 : 0;
    log.line("request", [&](LineBuffer& line) {
      line.number("seq", seq);
      line.number("t", log.now_ns());
      line.number("tid", 4242);
      line.number("device", 0);
      if (stream != 0) line.hex("stream", stream);
      line.number("asked_bytes", next.asked);
      line.literal("call", next.call);
    });
    log.line("alloc", [&](LineBuffer& line) {
      line.number("seq", seq);
      line.number("t", log.now_ns());
      line.number("device", 0);
      line.hex("address", next.address);
      line.number("asked_bytes", next.asked);
      if (next.given != next.asked) line.number("given_bytes", next.given);
      if (frame != 0) line.number("frame", frame);
    });
    held.push_back(next);
  }
  printf(R"({"kind":"end","t":%llu,"records":0,"dropped":0,"reason":"exit"})"
         "\n",
         static_cast<unsigned long long>(log.now_ns()));
  return ferror(stdout) != 0 || fflush(stdout) != 0 ? 1 : 0;
}
