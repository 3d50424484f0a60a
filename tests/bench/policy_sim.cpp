// Bytes over the link under the policy, against the best there can be: one JSON object per trace.
//
//   policy_sim [TRACE-FILE...]     without files: the made-up traces
//
// "costs" comes last: what the policy itself takes, over 10,000 pages.
#include <fmt/format.h>

#include <chrono>
#include <fstream>

#include "tests/bench/policy_replay.h"

namespace {

using namespace flexlom;
using namespace flexlom::pool::policy;

constexpr uint64_t kMiB = uint64_t{1} << 20;
constexpr uint64_t kBatch = 512 * kMiB;

std::string numbers(const char* name, const sim::Traffic& traffic) {
  return fmt::format(", \"{0}_in\": {1}, \"{0}_out\": {2}, \"{0}_moves\": {3}", name,
                     traffic.in_bytes, traffic.out_bytes, traffic.moves);
}

void show(const sim::Trace& trace) {
  const sim::Traffic moved = sim::replay_promoting(trace, Kind::automatic, kBatch);
  std::string line = fmt::format(
      "{{\"trace\": \"{}\", \"target\": {}, \"drawn\": {}, \"bytes\": {}, \"budget\": {}, "
      "\"host_peak\": {}",
      trace.name, trace.target, !trace.odds.empty(), trace.bytes(), trace.budget_bytes,
      moved.host_peak_bytes);
  line += numbers("promote", moved);
  line += numbers("single", sim::replay_promoting(trace, Kind::automatic, 0));
  line += numbers("min", sim::replay_min(trace, false));
  line += numbers("lru", sim::replay_promoting(trace, Kind::lru, 0));
  line += numbers("static", sim::best_static(trace, true));
  line += numbers("in_place", sim::replay_in_place(trace, Kind::automatic, kBatch));
  line += numbers("in_place_pin", sim::replay_in_place(trace, Kind::pin, kBatch));
  line += numbers("in_place_min", sim::replay_min(trace, true));
  line += numbers("in_place_static", sim::best_static(trace, false));
  fmt::print("{}}}\n", line);
}

template <class Work>
double best_us(int rounds, Work&& work) {
  double best = 1e12;
  for (int i = 0; i < rounds; ++i) {
    const auto start = std::chrono::steady_clock::now();
    work();
    const std::chrono::duration<double, std::micro> took = std::chrono::steady_clock::now() - start;
    best = std::min(best, took.count());
  }
  return best;
}

void show_costs() {
  std::vector<PageView> pages(10000);
  for (uint32_t i = 0; i < pages.size(); ++i) {
    pages[i].bytes = 64 * kMiB;
    pages[i].address = 0x500000000000 + i * 64 * kMiB;
    pages[i].id = i;
    pages[i].resident = i < 6000;
    pages[i].needed = i >= 6000 && i < 6016;
  }
  Tick now = 0;
  const auto touch_all = [&] {
    for (PageView& page : pages) touch(page.history, ++now);
  };
  for (int i = 0; i < 4; ++i) touch_all();
  const double touch_ns = best_us(10, touch_all) / static_cast<double>(pages.size()) * 1000;
  size_t results = 0;
  const double victims_us =
      best_us(20, [&] { results += victims(pages, 1024 * kMiB, now).size(); });
  const double plan_us =
      best_us(20, [&] { results += plan(pages, 2048 * kMiB, now).promote.size(); });
  const double exchanges_us =
      best_us(20, [&] { results += exchanges(pages, 2048 * kMiB, now).promote.size(); });
  fmt::print(
      "{{\"costs\": {}, \"touch_ns\": {:.1f}, \"victims_us\": {:.0f}, \"plan_us\": {:.0f}, "
      "\"exchanges_us\": {:.0f}, \"results\": {}}}\n",
      pages.size(), touch_ns, victims_us, plan_us, exchanges_us, results);
}

}  // namespace

int main(int argc, char** argv) {
  try {
    for (int i = 1; i < argc; ++i) {
      std::ifstream file(argv[i]);
      if (!file) throw std::runtime_error(fmt::format("{}: cannot be read", argv[i]));
      show(sim::read_trace(file, argv[i]));
    }
    if (argc > 1) return 0;
    for (const sim::Trace& trace : sim::made_up_traces()) show(trace);
    show_costs();
  } catch (const std::exception& error) {
    fmt::print(stderr, "policy_sim: {}\n", error.what());
    return 1;
  }
  return 0;
}
