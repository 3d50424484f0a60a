// The records of submissions: what flexlom advise replays.
//
//   function  fn, and name and threads of a kernel, call of a copy, or graph
//   launch    t, fn, device, on: bases of the allocations touched, divided by 2 MiB, hexadecimal,
//             separated by commas. More than fit a line follow in records with the same t and fn.
//   timed     fn, launch: which of its launches, ns on the device, host_ns, spilled_bytes
//   wait      t of its end, ns
//
// There may be hundreds of thousands in a second, so they are short.
#include "interpose/trace/line_buffer.h"
#include "interpose/trace/overhead.h"
#include "interpose/trace/writer.h"

namespace flexlom::trace {
namespace {

constexpr unsigned base_shift = 21;
constexpr unsigned most_digits = 11;  // of a shifted address
constexpr unsigned bases_per_line = 48;

char* put_hex(char* at, uint64_t value) {
  char digits[16];
  unsigned count = 0;
  do {
    digits[count++] = "0123456789abcdef"[value & 15];
    value >>= 4;
  } while (value != 0);
  while (count > 0) *at++ = digits[--count];
  return at;
}

}  // namespace

void Writer::function(const FunctionRecord& f) noexcept {
  LineBuffer line("function");
  line.number("t", now_ns());
  line.number("fn", f.number);
  if (f.graph) line.number("graph", 1);
  if (f.call != nullptr) line.text("call", f.call);
  if (f.threads != 0) line.number("threads", f.threads);
  if (f.name != nullptr) line.text("name", f.name);
  append(line.finish());
}

void Writer::launch(const LaunchRecord& launch) noexcept {
  const Overhead::Use use;
  for (unsigned first = 0; first < launch.count; first += bases_per_line) {
    char list[bases_per_line * (most_digits + 1)];
    char* end = list;
    for (unsigned i = first; i < launch.count && i < first + bases_per_line; i++) {
      if (end != list) *end++ = ',';
      end = put_hex(end, launch.bases[i] >> base_shift & ((uint64_t{1} << 43) - 1));
    }
    LineBuffer line("launch");
    line.number("t", launch.t_ns);
    line.number("fn", launch.function);
    if (launch.device != 0) line.number("device", static_cast<uint64_t>(launch.device));
    line.literal("on", {list, static_cast<size_t>(end - list)});
    append(line.finish());
  }
}

void Writer::timed(const TimedRecord& timed) noexcept {
  LineBuffer line("timed");
  line.number("fn", timed.function);
  if (timed.launch != 0) line.number("launch", timed.launch);
  line.number("ns", timed.elapsed_ns);
  line.number("host_ns", timed.host_ns);
  if (timed.spilled_bytes != 0) line.number("spilled_bytes", timed.spilled_bytes);
  append(line.finish());
}

void Writer::wait(uint64_t waited_ns) noexcept {
  LineBuffer line("wait");
  line.number("t", now_ns());
  line.number("ns", waited_ns);
  append(line.finish());
}

}  // namespace flexlom::trace
