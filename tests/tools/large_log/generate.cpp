// Writes a trace log of any length on standard output, in the writer's own form, for measuring what
// reads logs. The same arguments give the same log.
//
//   generate EVENTS [LIVE]   LIVE: allocations held at one time (default 20000)
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
      log.line("free", [&](LineBuffer& line) {
        line.number("t", log.now_ns());
        line.number("tid", 4242);
        line.number("device", 0);
        line.hex("address", gone.address);
        line.number("asked_bytes", gone.asked);
        line.number("given_bytes", gone.given);
        line.literal("call", gone.call[10] == '_' ? "cuMemFree_v2" : "cuMemFreeAsync");
      });
      continue;
    }
    Held next;
    next.call = calls[log.random(3)];
    next.asked = 1 + log.random(500) * slot_bytes / 512;
    next.given = (next.asked + 511) / 512 * 512;
    next.address = base + free_slots.back() * slot_bytes;
    free_slots.pop_back();
    const uint64_t stream = next.call[10] == 'A' ? 0x55d0c0000000 + log.random(4) * 4096 : 0;
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
      line.number("tid", 4242);
      line.number("device", 0);
      if (stream != 0) line.hex("stream", stream);
      line.hex("address", next.address);
      line.number("asked_bytes", next.asked);
      line.number("given_bytes", next.given);
      line.literal("call", next.call);
    });
    held.push_back(next);
  }
  printf(R"({"kind":"end","t":%llu,"records":0,"dropped":0,"reason":"exit"})"
         "\n",
         static_cast<unsigned long long>(log.now_ns()));
  return ferror(stdout) != 0 || fflush(stdout) != 0 ? 1 : 0;
}
