#include "tests/simcuda/fault.hpp"

#include <fcntl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "tests/simcuda/simcuda.h"

namespace flexlom::sim {
namespace {

struct Rule {
  std::string call;  // a symbol, a base name, or *
  uint64_t nth = 0;  // 0: no counting
  bool onwards = false;
  double probability = -1;  // below 0: not random
  uint64_t random = 1;      // xorshift state; guarded by Faults::lock
  int delay_us = 0;
  CUresult code = CUDA_ERROR_OUT_OF_MEMORY;
  uint64_t seen = 0;  // guarded by Faults::lock
};

struct Faults {
  std::mutex lock;
  std::vector<Rule> rules;       // guarded by lock
  std::atomic<bool> any{false};  // lets a call without rules skip the lock
  std::atomic<Site*> sites{nullptr};
  int trace_fd = -1;  // written once while the options are read
};
Faults& faults() {
  static Faults* const shared = new Faults;
  return *shared;
}

// cuMemcpyHtoDAsync_v2_ptsz -> cuMemcpyHtoDAsync
std::string_view base_name(std::string_view symbol) {
  for (std::string_view twin : {"_ptsz", "_ptds"})
    if (symbol.ends_with(twin)) symbol.remove_suffix(twin.size());
  const size_t n = symbol.size();
  if (n > 3 && symbol[n - 3] == '_' && symbol[n - 2] == 'v') symbol.remove_suffix(3);
  return symbol;
}

bool matches(std::string_view wanted, std::string_view symbol) {
  return wanted == "*" || wanted == symbol || wanted == base_name(symbol);
}

std::vector<std::string> split(const std::string& text, char separator) {
  std::vector<std::string> parts;
  size_t start = 0;
  for (;;) {
    const size_t end = text.find(separator, start);
    parts.push_back(text.substr(start, end - start));
    if (end == std::string::npos) return parts;
    start = end + 1;
  }
}

bool parse_rule(const std::string& text, Rule& rule) {
  const std::vector<std::string> parts = split(text, ':');
  rule.call = parts[0];
  if (rule.call.empty()) return false;
  for (size_t i = 1; i < parts.size(); ++i) {
    const size_t equals = parts[i].find('=');
    if (equals == std::string::npos) return false;
    const std::string key = parts[i].substr(0, equals);
    const std::string value = parts[i].substr(equals + 1);
    char* end = nullptr;
    const double number = strtod(value.c_str(), &end);
    if (end == value.c_str() || number < 0) return false;
    const bool plus = *end == '+' && end[1] == 0;
    if (*end && !(plus && key == "n")) return false;
    if (key == "n") {
      rule.nth = static_cast<uint64_t>(number);
      rule.onwards = plus;
      if (!rule.nth) return false;
    } else if (key == "p") {
      rule.probability = number;
    } else if (key == "seed") {
      rule.random = static_cast<uint64_t>(number) * 0x9E3779B97F4A7C15u + 1;
    } else if (key == "err") {
      rule.code = static_cast<CUresult>(static_cast<int>(number));
    } else if (key == "delay_us") {
      rule.delay_us = static_cast<int>(number);
    } else {
      return false;
    }
  }
  return true;
}

bool replace_rules(const char* text) {
  std::vector<Rule> rules;
  for (const std::string& part : split(text ? text : "", ';')) {
    if (part.empty()) continue;
    Rule rule;
    if (!parse_rule(part, rule)) return false;
    rules.push_back(std::move(rule));
  }
  Faults& f = faults();
  std::lock_guard guard(f.lock);
  f.any.store(!rules.empty(), std::memory_order_relaxed);
  f.rules = std::move(rules);
  return true;
}

double next_random(uint64_t& random) {
  random ^= random << 13;
  random ^= random >> 7;
  random ^= random << 17;
  return static_cast<double>(random >> 11) / 9007199254740992.0;
}

}  // namespace

CUresult inject(Site& site) {
  Faults& f = faults();
  if (!f.any.load(std::memory_order_relaxed)) return CUDA_SUCCESS;
  CUresult code = CUDA_SUCCESS;
  int64_t delay_us = 0;
  {
    std::lock_guard guard(f.lock);
    for (Rule& rule : f.rules) {
      if (!matches(rule.call, site.symbol)) continue;
      ++rule.seen;
      delay_us += rule.delay_us;
      bool hit = rule.nth ? (rule.onwards ? rule.seen >= rule.nth : rule.seen == rule.nth)
                          : rule.probability >= 0 || !rule.delay_us;
      if (hit && rule.probability >= 0) hit = next_random(rule.random) < rule.probability;
      if (hit && !code) code = rule.code;
    }
  }
  if (delay_us) usleep(static_cast<useconds_t>(delay_us));
  if (code) site.failed.fetch_add(1, std::memory_order_relaxed);
  return code;
}

void read_fault_environment() {
  if (const char* rules = getenv("SIMCUDA_FAULT"); rules && !replace_rules(rules))
    fprintf(stderr, "simcuda: SIMCUDA_FAULT not understood: %s\n", rules);
  if (const char* path = getenv("SIMCUDA_TRACE"); path && *path)
    faults().trace_fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
}

void record_entry(Site& site) {
  Faults& f = faults();
  site.entered.fetch_add(1, std::memory_order_relaxed);
  if (!site.linked.exchange(true, std::memory_order_relaxed)) {
    site.next = f.sites.load(std::memory_order_relaxed);
    while (!f.sites.compare_exchange_weak(site.next, &site, std::memory_order_release)) {
    }
  }
  if (f.trace_fd >= 0) {
    char line[128];
    const int n = snprintf(line, sizeof line, "%ld %s\n", static_cast<long>(syscall(SYS_gettid)),
                           site.symbol);
    [[maybe_unused]] const ssize_t written = write(f.trace_fd, line, static_cast<size_t>(n));
  }
}

}  // namespace flexlom::sim

using namespace flexlom::sim;
#define SIM_HOOK extern "C" __attribute__((visibility("default")))

SIM_HOOK int simcuda_fault(const char* rules) {
  try {
    return replace_rules(rules) ? 0 : -1;
  } catch (...) {
    return -1;
  }
}

SIM_HOOK uint64_t simcuda_counters(const char* call) {
  std::string_view wanted = call;
  const bool fault_hits = wanted.ends_with("!fault");
  if (fault_hits) wanted.remove_suffix(6);
  uint64_t sum = 0;
  for (Site* s = faults().sites.load(std::memory_order_acquire); s; s = s->next)
    if (matches(wanted, s->symbol)) sum += fault_hits ? s->failed.load() : s->entered.load();
  return sum;
}
