// What the guard tells people. Every line stands for itself and goes to the log as well.
#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "interpose/doors/originals.h"
#include "interpose/guard/guard.h"
#include "interpose/listener.h"

namespace flexlom::guard {

namespace {

constexpr size_t kLaunches = 8;
constexpr unsigned kWords = 12;

const char* name_of(CUresult r) {
  const char* name = nullptr;
  const auto get = FLEXLOM_ORIGINAL(cuGetErrorName);
  return get != nullptr && get(r, &name) == CUDA_SUCCESS && name != nullptr ? name : "error";
}

std::string stream_name(uint64_t stream) {
  if (stream == reinterpret_cast<uint64_t>(CU_STREAM_LEGACY)) return "the default stream";
  return fmt::format("stream {:#x}", stream);
}

std::string hex(const unsigned char* bytes, unsigned count) {
  std::string text;
  for (unsigned i = 0; i < count; ++i) text += fmt::format("{}{:02x}", i > 0 ? " " : "", bytes[i]);
  return text;
}

const char* plural(uint64_t n) { return n == 1 ? "" : "s"; }

}  // namespace

bool Guard::first_of(Kind kind) noexcept {
  const unsigned before = found_[kind].fetch_add(1, std::memory_order_relaxed);
  if (before == kMostOfAKind) say("further reports of this kind are left out, and counted");
  return before < kMostOfAKind;
}

void Guard::say(std::string_view text) noexcept {
  listener_.finding(nullptr, text, 0);
  listener_.say("guard", text);
}

// The log first, and the lines before the first stack: names may take a while, and nobody knows
// how long the program has.
void Guard::tell(const Report& report) {
  const char* bug = report.bug;
  std::set<uint32_t> stacks;
  for (const auto& [text, stack] : report.lines) {
    listener_.finding(std::exchange(bug, nullptr), text, stack);
    if (stack != 0) stacks.insert(stack);
  }
  if (!listener_.says()) return;
  std::map<uint32_t, CallStacks::Lines> named;
  for (const auto& [text, stack] : report.lines) {
    listener_.say("guard", text);
    if (stack == 0 || stacks_ == nullptr) continue;
    if (named.empty()) named = stacks_->lines(stacks);
    const std::string margin(text.find_first_not_of(' ') + 2, ' ');
    for (const std::string& line : named[stack]) listener_.say("guard", margin + line);
  }
}

std::string Guard::text_of(const Who& by) const {
  return fmt::format("{} on thread {} at {:.3f} s", by.call, by.tid,
                     static_cast<double>(by.at_ns) / 1e9);
}

std::string Guard::text_of(const Block& b) const {
  std::string text =
      fmt::format("allocation {}: {} byte{} at {:#x}-{:#x} on device {}, by {}", b.number, b.bytes,
                  plural(b.bytes), b.base, b.end(), b.device, text_of(b.allocated));
  if (!b.live()) text += ", freed by " + text_of(b.freed);
  return text;
}

void Guard::add_stacks(Report& report, const Block& block, size_t indent) {
  if (!report.explained.insert(block.number).second) return;
  const std::string margin(indent, ' ');
  if (block.allocated.stack != 0)
    report.say(fmt::format("{}allocation {}: allocated by", margin, block.number),
               block.allocated.stack);
  if (block.freed.stack != 0)
    report.say(fmt::format("{}allocation {}: freed by", margin, block.number), block.freed.stack);
}

// What the program did just now, which the driver's answer goes to.
void Guard::add_this_call(Report& report, const char* call) const {
  report.say(fmt::format("  this one: {}; the answer is CUDA_ERROR_INVALID_VALUE, as the driver's",
                         text_of(who(call))),
             stacks_ != nullptr ? stacks_->here() : 0);
}

std::string Guard::text_of(CUdeviceptr address) const {
  const Found found = ledger_.find(address);
  const Block& b = found.block;
  const char* freed = b.live() ? "" : "FREED memory, ";
  switch (found.beside) {
    case Beside::inside:
      if (found.distance_bytes == 0)
        return fmt::format("{:#x}: {}the start of {}", address, freed, text_of(b));
      return fmt::format("{:#x}: {}{} byte{} into {}", address, freed, found.distance_bytes,
                         plural(found.distance_bytes), text_of(b));
    case Beside::before:
      return fmt::format("{:#x}: {}{} byte{} BEFORE {}", address, freed, found.distance_bytes,
                         plural(found.distance_bytes), text_of(b));
    case Beside::behind:
      if (found.distance_bytes == 0)
        return fmt::format("{:#x}: {}the end of {}", address, freed, text_of(b));
      return fmt::format("{:#x}: {}{} byte{} BEHIND THE END of {}", address, freed,
                         found.distance_bytes, plural(found.distance_bytes), text_of(b));
    case Beside::nothing:
      break;
  }
  return fmt::format("{:#x}: no allocation, and none near", address);
}

// `stacks`: of the memory that it names.
void Guard::add_launch(Report& report, const Launch& l, bool stacks) {
  std::string text = fmt::format("  {} {} ", l.kernel ? "kernel" : "call", *l.name);
  if (l.kernel) {
    text += fmt::format("<<<({}, {}, {}), ({}, {}, {})>>> ", l.shape.grid[0], l.shape.grid[1],
                        l.shape.grid[2], l.shape.block[0], l.shape.block[1], l.shape.block[2]);
  }
  text += fmt::format("on {}, submission {}, by thread {} at {:.3f} s", stream_name(l.stream),
                      l.number, l.tid, static_cast<double>(l.at_ns) / 1e9);
  report.say(text);
  for (unsigned i = 0; i < std::min(l.count, kWords); ++i) {
    report.say("    names " + text_of(l.words[i]));
    const Found found = ledger_.find(l.words[i]);
    if (stacks && found.beside != Beside::nothing) add_stacks(report, found.block, 6);
  }
  if (l.count > kWords || l.more) report.say("    and more");
  if (l.unknown) report.say("    its arguments could not be read");
  if (l.count == 0 && !l.unknown) report.say("    names no memory of this pool in its arguments");
}

void Guard::report_fault(const char* call, CUresult r) {
  first_of(fault);
  Report report{"kernel_fault"};
  report.say(fmt::format("{} ({}) came back from {}: a kernel failed before it", name_of(r),
                         static_cast<int>(r), call));
  std::vector<Launch> suspects = launches_.suspects(nullptr);
  std::erase_if(suspects, [](const Launch& l) { return !l.kernel && l.count == 0; });
  if (suspects.empty()) {
    report.say("  no launch that could still have been running is known");
    return tell(report);
  }
  const auto names_bad = [&](const Launch& l) {
    return std::any_of(l.words, l.words + l.count, [&](CUdeviceptr word) {
      const Found found = ledger_.find(word);
      return found.beside == Beside::inside
                 ? !found.block.live() && found.block.freed.at_ns < l.at_ns
                 : found.beside != Beside::behind || found.distance_bytes > 0;
    });
  };
  // What names freed memory, or none, is the likeliest; else the order of submission says most.
  std::stable_partition(suspects.begin(), suspects.end(), names_bad);
  const bool certain = names_bad(suspects.front());
  report.say(fmt::format(
      "  {} submission{} may have been running{}:", suspects.size(), plural(suspects.size()),
      certain ? "; those that name freed or no memory come first, then the latest"
              : ", the latest first"));
  for (size_t i = 0; i < std::min(suspects.size(), kLaunches); ++i)
    add_launch(report, suspects[i], true);
  if (suspects.size() > kLaunches)
    report.say(fmt::format("  and {} more", suspects.size() - kLaunches));
  if (suspects.size() > 1) {
    report.say(
        "  next: run again with CUDA_LAUNCH_BLOCKING=1, and the launch that fails is the first one "
        "named; addresses are the same in every run that allocates in the same order");
  }
  if (!certain) {
    report.say(
        "  memory ends where its pages end, so a kernel that goes past the end of what it names "
        "faults; its size is beside its address above");
  }
  tell(report);
}

void Guard::report_damage(const Block& block, const Damage& d, const char* when) {
  if (!first_of(overflow)) return;
  Report report{"damaged_canary"};
  if (d.behind) {
    report.say(fmt::format("written past the end, {}: {} byte{} from {} to {} behind the end of {}",
                           when, d.bytes, plural(d.bytes), d.first, d.last, text_of(block)));
  } else {
    report.say(fmt::format("written before the start, {}: {} byte{} from {} to {} of {}", when,
                           d.bytes, plural(d.bytes), d.first, d.last, text_of(block)));
  }
  report.say(
      fmt::format("  found there: {}{}", hex(d.found, d.shown), d.bytes > d.shown ? " ..." : ""));
  add_stacks(report, block, 2);
  unsigned told = 0;
  for (const Launch& l : launches_.suspects(nullptr, true)) {
    const bool names = std::any_of(l.words, l.words + l.count, [&](CUdeviceptr word) {
      return word >= block.base && word <= block.end();
    });
    if (!names || !l.kernel || told == 3) continue;
    if (told++ == 0) report.say("  the last kernels that named it:");
    add_launch(report, l, false);
  }
  tell(report);
}

void Guard::refused_free(const char* call, CUdeviceptr p) noexcept {
  try {
    if (!first_of(bad_free)) return;
    Report report{"refused_free"};
    const Found found = ledger_.find(p);
    const bool start = found.beside == Beside::inside && found.distance_bytes == 0;
    if (start && !found.block.live()) {
      report.say(
          fmt::format("{} of memory that was freed before (double free); {}", call, text_of(p)));
    } else if (found.beside == Beside::inside && found.block.live()) {
      report.say(
          fmt::format("{} of an address inside an allocation: only its start can be freed; {}",
                      call, text_of(p)));
    } else {
      report.say(fmt::format("{} of an address that was never handed out; {}", call, text_of(p)));
    }
    if (found.beside == Beside::inside) add_stacks(report, found.block, 2);
    add_this_call(report, call);
    tell(report);
  } catch (...) {
  }
}

void Guard::refused_copy(const char* call, CUdeviceptr p, size_t bytes) noexcept {
  try {
    if (!first_of(bad_copy)) return;
    Report report{"refused_copy"};
    const Found found = ledger_.find(p);
    if (found.beside == Beside::inside && found.block.live()) {
      const uint64_t over = bytes - (found.block.bytes - found.distance_bytes);
      report.say(fmt::format("{} of {} bytes goes {} byte{} past the end; {}", call, bytes, over,
                             plural(over), text_of(p)));
    } else {
      report.say(
          fmt::format("{} of {} bytes touches no live allocation; {}", call, bytes, text_of(p)));
    }
    if (found.beside == Beside::inside) add_stacks(report, found.block, 2);
    add_this_call(report, call);
    tell(report);
  } catch (...) {
  }
}

void Guard::read_back(const ReadBack& copy) noexcept {
  if (!contents_.is_telling() || !contents_.is_pattern(copy.host, copy.from, copy.bytes)) return;
  try {
    const Found found = ledger_.find(copy.from);
    if (found.beside != Beside::inside || !first_of(never_written)) return;
    Report report{"never_written"};
    report.say(
        fmt::format("{} of {} bytes brought nothing but the pattern {:#010x} that new memory is "
                    "filled with: nothing has written there; {}",
                    copy.call, copy.bytes, contents_.pattern(), text_of(copy.from)));
    add_stacks(report, found.block, 2);
    const uint32_t reader = stacks_ != nullptr ? stacks_->here() : 0;
    if (reader != 0) report.say("  the call that brought it, or waited for it:", reader);
    tell(report);
  } catch (...) {
  }
}

void Guard::finish() noexcept {
  try {
    constexpr const char* kWhat[kinds] = {"kernel failures", "damaged canaries", "refused frees",
                                          "refused copies", "reads of never-written memory"};
    std::string text;
    for (unsigned i = 0; i < kinds; ++i) {
      const unsigned n = found_[i].load(std::memory_order_relaxed);
      if (n > 0) text += fmt::format("{}{} {}", text.empty() ? "" : ", ", n, kWhat[i]);
    }
    if (text.empty()) return;
    say(fmt::format("found: {}, in {} allocations", text, ledger_.count()));
    if (stacks_ != nullptr && stacks_->may_end_early())
      say("callers were followed along frame pointers, which much code has none of: run again with "
          "FLEXLOM_STACKS=dwarf where they end early");
  } catch (...) {
  }
}

}  // namespace flexlom::guard
