// What the guard tells people. Every line stands for itself and goes to the log as well.
#include <fmt/format.h>

#include <algorithm>

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

void Guard::say(std::string_view text) noexcept { listener_.report("guard", text); }

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

void Guard::say_stacks(const Block& block) {
  if (stacks_ == nullptr) return;
  for (const auto& [word, by] :
       {std::pair{"allocated", &block.allocated}, {"freed", &block.freed}}) {
    if (by->call == nullptr || by->stack == 0) continue;
    say(fmt::format("    {} from:", word));
    for (const std::string& line : stacks_->lines(by->stack)) say("      " + line);
  }
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

void Guard::say_launch(const Launch& l) {
  std::string text = fmt::format("  {} {} ", l.kernel ? "kernel" : "call", *l.name);
  if (l.kernel) {
    text += fmt::format("<<<({}, {}, {}), ({}, {}, {})>>> ", l.shape.grid[0], l.shape.grid[1],
                        l.shape.grid[2], l.shape.block[0], l.shape.block[1], l.shape.block[2]);
  }
  text += fmt::format("on {}, submission {}, by thread {} at {:.3f} s", stream_name(l.stream),
                      l.number, l.tid, static_cast<double>(l.at_ns) / 1e9);
  say(text);
  for (unsigned i = 0; i < std::min(l.count, kWords); ++i) {
    say("    names " + text_of(l.words[i]));
    const Found found = ledger_.find(l.words[i]);
    if (found.beside != Beside::nothing && !found.block.live()) say_stacks(found.block);
  }
  if (l.count > kWords || l.more) say("    and more");
  if (l.unknown) say("    its arguments could not be read");
  if (l.count == 0 && !l.unknown) say("    names no memory of this pool in its arguments");
}

void Guard::report_fault(const char* call, CUresult r) {
  first_of(fault);
  say(fmt::format("{} ({}) came back from {}: a kernel failed before it", name_of(r),
                  static_cast<int>(r), call));
  std::vector<Launch> suspects = launches_.suspects(nullptr);
  std::erase_if(suspects, [](const Launch& l) { return !l.kernel && l.count == 0; });
  if (suspects.empty()) {
    say("  no launch that could still have been running is known");
    return;
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
  say(fmt::format("  {} submission{} may have been running{}:", suspects.size(),
                  plural(suspects.size()),
                  certain ? "; those that name freed or no memory come first, then the latest"
                          : ", the latest first"));
  for (size_t i = 0; i < std::min(suspects.size(), kLaunches); ++i) say_launch(suspects[i]);
  if (suspects.size() > kLaunches) say(fmt::format("  and {} more", suspects.size() - kLaunches));
  if (suspects.size() > 1) {
    say("  next: run again with CUDA_LAUNCH_BLOCKING=1, and the launch that fails is the first one "
        "named; addresses are the same in every run that allocates in the same order");
  }
  if (!certain) {
    say("  memory ends where its pages end, so a kernel that goes past the end of what it names "
        "faults; its size is beside its address above");
  }
}

void Guard::report_damage(const Block& block, const Damage& d, const char* when) {
  if (!first_of(overflow)) return;
  if (d.behind) {
    say(fmt::format("written past the end, {}: {} byte{} from {} to {} behind the end of {}", when,
                    d.bytes, plural(d.bytes), d.first, d.last, text_of(block)));
  } else {
    say(fmt::format("written before the start, {}: {} byte{} from {} to {} of {}", when, d.bytes,
                    plural(d.bytes), d.first, d.last, text_of(block)));
  }
  say(fmt::format("  found there: {}{}", hex(d.found, d.shown), d.bytes > d.shown ? " ..." : ""));
  say_stacks(block);
  unsigned told = 0;
  for (const Launch& l : launches_.suspects(nullptr, true)) {
    const bool names = std::any_of(l.words, l.words + l.count, [&](CUdeviceptr word) {
      return word >= block.base && word <= block.end();
    });
    if (!names || !l.kernel || told == 3) continue;
    if (told++ == 0) say("  the last kernels that named it:");
    say_launch(l);
  }
}

void Guard::refused_free(const char* call, CUdeviceptr p) noexcept {
  try {
    if (!first_of(bad_free)) return;
    const Found found = ledger_.find(p);
    const bool start = found.beside == Beside::inside && found.distance_bytes == 0;
    if (start && !found.block.live()) {
      say(fmt::format("{} of memory that was freed before (double free); {}", call, text_of(p)));
    } else if (found.beside == Beside::inside && found.block.live()) {
      say(fmt::format("{} of an address inside an allocation: only its start can be freed; {}",
                      call, text_of(p)));
    } else {
      say(fmt::format("{} of an address that was never handed out; {}", call, text_of(p)));
    }
    if (found.beside == Beside::inside) say_stacks(found.block);
    say(fmt::format("  this one: {}; the answer is CUDA_ERROR_INVALID_VALUE, as the driver's",
                    text_of(who(call))));
  } catch (...) {
  }
}

void Guard::refused_copy(const char* call, CUdeviceptr p, size_t bytes) noexcept {
  try {
    if (!first_of(bad_copy)) return;
    const Found found = ledger_.find(p);
    if (found.beside == Beside::inside && found.block.live()) {
      const uint64_t over = bytes - (found.block.bytes - found.distance_bytes);
      say(fmt::format("{} of {} bytes goes {} byte{} past the end; {}", call, bytes, over,
                      plural(over), text_of(p)));
    } else {
      say(fmt::format("{} of {} bytes touches no live allocation; {}", call, bytes, text_of(p)));
    }
    if (found.beside == Beside::inside) say_stacks(found.block);
    say(fmt::format("  this one: {}; the answer is CUDA_ERROR_INVALID_VALUE, as the driver's",
                    text_of(who(call))));
  } catch (...) {
  }
}

void Guard::read_back(const ReadBack& copy) noexcept {
  if (!contents_.fills() || !contents_.is_pattern(copy.host, copy.from, copy.bytes)) return;
  try {
    const Found found = ledger_.find(copy.from);
    if (found.beside != Beside::inside || !first_of(never_written)) return;
    say(
        fmt::format("{} of {} bytes brought nothing but the pattern {:#010x} that new memory is "
                    "filled with: nothing has written there; {}",
                    copy.call, copy.bytes, contents_.pattern(), text_of(copy.from)));
    say_stacks(found.block);
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
    if (!text.empty()) say(fmt::format("found: {}, in {} allocations", text, ledger_.count()));
  } catch (...) {
  }
}

}  // namespace flexlom::guard
