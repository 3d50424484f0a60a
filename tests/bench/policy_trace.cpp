#include "tests/bench/policy_trace.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>
#include <sstream>
#include <stdexcept>

#include "pool/types.h"

namespace flexlom::sim {
namespace {

constexpr uint64_t kMiB = uint64_t{1} << 20;
constexpr uint64_t kPage = 64 * kMiB;
using Pages = std::vector<uint32_t>;

uint64_t share(uint64_t bytes, double ratio) {
  return static_cast<uint64_t>(static_cast<double>(bytes) / ratio);
}

std::string text(double value) {
  std::ostringstream out;
  out << value;
  return out.str();
}

// One large page after the other, round and round.
Trace cyclic(double ratio, double host = 0) {
  Trace trace;
  trace.name = "cyclic " + text(ratio) + "x" + (host > 0 ? ", little host memory" : "");
  trace.target = 1.05;
  constexpr uint32_t count = 330;
  for (uint32_t i = 0; i < count; ++i) trace.add_page(kPage);
  trace.budget_bytes = share(trace.bytes(), ratio) / kPage * kPage;
  trace.host_bytes = host > 0 ? share(trace.bytes() - trace.budget_bytes, 1 / host) : 0;
  for (int round = 0; round < 24; ++round) {
    if (round == 4) trace.count_from_here();
    for (uint32_t i = 0; i < count; ++i) trace.begin(), trace.touch(i);
  }
  return trace;
}

// A decoder: seven weights a layer, small launches between, activations and a cache that are always
// in use.
Trace decode(double ratio) {
  Trace trace;
  trace.name = "decode " + text(ratio) + "x";
  trace.target = 1.05;
  const uint64_t sizes[] = {32, 8, 8, 32, 86, 86, 86};
  std::vector<Pages> weights, cache;
  for (int layer = 0; layer < 32; ++layer) {
    for (const uint64_t size : sizes) weights.push_back(trace.add_allocation(size * kMiB));
    cache.push_back(trace.add_allocation(4 * kMiB));
  }
  const Pages activations = trace.add_allocation(20 * kMiB);
  trace.budget_bytes = share(trace.bytes(), ratio);
  for (int token = 0; token < 24; ++token) {
    if (token == 4) trace.count_from_here();
    for (size_t layer = 0; layer < 32; ++layer) {
      for (size_t w = 0; w < 7; ++w) {
        trace.begin();
        trace.touch(weights[layer * 7 + w]);
        trace.touch(activations, true);
        if (w != 2) continue;
        trace.begin();
        trace.touch(cache[layer], true);
        trace.touch(activations, true);
      }
      for (int small = 0; small < 6; ++small) trace.begin(), trace.touch(activations, true);
    }
  }
  return trace;
}

// Forward, backward with recomputation, then an optimizer in several launches over all weights.
Trace training(double ratio) {
  Trace trace;
  trace.name = "training " + text(ratio) + "x";
  trace.target = 1.3;
  struct Layer {
    Pages weight, gradient, moments, kept;
  };
  std::vector<Layer> layers(24);
  for (Layer& layer : layers) layer.weight = trace.add_allocation(192 * kMiB);
  for (Layer& layer : layers) layer.gradient = trace.add_allocation(192 * kMiB);
  for (Layer& layer : layers) layer.moments = trace.add_allocation(384 * kMiB);
  for (Layer& layer : layers) layer.kept = trace.add_allocation(32 * kMiB);
  trace.budget_bytes = share(trace.bytes(), ratio);
  for (int step = 0; step < 20; ++step) {
    if (step == 4) trace.count_from_here();
    for (Layer& layer : layers) {
      for (int launch = 0; launch < 12; ++launch) trace.begin(), trace.touch(layer.weight);
      trace.begin(), trace.touch(layer.kept, true);
    }
    for (auto layer = layers.rbegin(); layer != layers.rend(); ++layer) {
      trace.begin(), trace.touch(layer->kept);
      for (int launch = 0; launch < 30; ++launch) trace.begin(), trace.touch(layer->weight);
      for (int launch = 0; launch < 4; ++launch) {
        trace.begin(), trace.touch(layer->weight), trace.touch(layer->gradient, true);
      }
    }
    for (Layer& layer : layers) {
      for (int launch = 0; launch < 5; ++launch) {
        trace.begin();
        trace.touch(layer.gradient), trace.touch(layer.moments, true);
        if (launch == 4) trace.touch(layer.weight, true);
      }
    }
  }
  return trace;
}

// All pages up, all pages down.
Trace sweep(double ratio, double host = 0) {
  Trace trace;
  trace.name = "sweep up and down " + text(ratio) + "x" + (host > 0 ? ", little host memory" : "");
  trace.target = 1.3;
  constexpr uint32_t count = 200;
  for (uint32_t i = 0; i < count; ++i) trace.add_page(kPage);
  trace.budget_bytes = share(trace.bytes(), ratio) / kPage * kPage;
  trace.host_bytes = host > 0 ? share(trace.bytes() - trace.budget_bytes, 1 / host) : 0;
  for (int round = 0; round < 24; ++round) {
    if (round == 4) trace.count_from_here();
    for (uint32_t i = 0; i < count; ++i) trace.begin(), trace.touch(i);
    for (uint32_t i = count; i-- > 0;) trace.begin(), trace.touch(i);
  }
  return trace;
}

class Zipf {
 public:
  Zipf(uint32_t count, double skew) {
    double sum = 0;
    for (uint32_t i = 0; i < count; ++i) sums_.push_back(sum += 1 / std::pow(i + 1, skew));
  }
  uint32_t operator()(std::mt19937& random) const {
    const double at = static_cast<double>(random()) / 4294967296.0 * sums_.back();
    return static_cast<uint32_t>(std::upper_bound(sums_.begin(), sums_.end(), at) - sums_.begin());
  }

 private:
  std::vector<double> sums_;
};

// Independent draws; skew 0 is uniform. `drift`: the ranks move on by one page every so many draws.
Trace skewed(double skew, uint32_t drift = 0) {
  Trace trace;
  trace.name = skew == 0 ? "random" : "zipf " + text(skew) + (drift ? ", drifting" : "");
  trace.target = skew == 0 ? 0 : 1.3;
  constexpr uint32_t count = 256;
  std::mt19937 random(42);
  Pages order(count);
  std::iota(order.begin(), order.end(), 0u);
  std::shuffle(order.begin(), order.end(), random);
  for (uint32_t i = 0; i < count; ++i) trace.add_page(kPage);
  trace.budget_bytes = trace.bytes() / 2;
  const Zipf zipf(count, skew);
  if (!drift) {
    trace.odds.resize(count);
    for (uint32_t i = 0; i < count; ++i) trace.odds[order[i]] = 1 / std::pow(i + 1, skew);
  }
  for (uint32_t i = 0; i < 60000; ++i) {
    if (i == 20000) trace.count_from_here();
    const uint32_t rank = zipf(random) + (drift ? i / drift : 0);
    trace.begin(), trace.touch(order[rank % count]);
  }
  return trace;
}

// 32 layers of 8 experts, two used by each token; attention always. `stay`: how likely a layer uses
// an expert of the token before again.
Trace experts(double skew, double stay) {
  Trace trace;
  trace.name = "experts, skew " + text(skew) + ", reuse " + text(stay);
  trace.target = 1.3;
  std::mt19937 random(11);
  struct Layer {
    Pages attention;
    std::vector<Pages> expert;
    std::vector<uint32_t> order, last;
  };
  std::vector<Layer> layers(32);
  for (Layer& layer : layers) {
    layer.attention = trace.add_allocation(80 * kMiB);
    for (int e = 0; e < 8; ++e) layer.expert.push_back(trace.add_allocation(96 * kMiB));
    layer.order = {0, 1, 2, 3, 4, 5, 6, 7};
    std::shuffle(layer.order.begin(), layer.order.end(), random);
    layer.last = {layer.order[0], layer.order[1]};
  }
  trace.budget_bytes = trace.bytes() / 2;
  trace.odds.resize(trace.page_bytes.size(), 2);  // attention: always, more than any expert
  for (const Layer& layer : layers) {
    for (uint32_t rank = 0; rank < 8; ++rank) {
      for (const uint32_t page : layer.expert[layer.order[rank]]) {
        trace.odds[page] = 1 / std::pow(rank + 1, skew);
      }
    }
  }
  const Zipf zipf(8, skew);
  const auto stays = [&] { return static_cast<double>(random()) / 4294967296.0 < stay; };
  for (int token = 0; token < 300; ++token) {
    if (token == 60) trace.count_from_here();
    for (Layer& layer : layers) {
      trace.begin(), trace.touch(layer.attention);
      std::vector<uint32_t> chosen;
      for (const uint32_t e : layer.last) {
        if (stays()) chosen.push_back(e);
      }
      while (chosen.size() < 2) {
        const uint32_t e = layer.order[zipf(random)];
        if (std::find(chosen.begin(), chosen.end(), e) == chosen.end()) chosen.push_back(e);
      }
      layer.last = chosen;
      for (const uint32_t e : chosen) {
        for (int launch = 0; launch < 3; ++launch) trace.begin(), trace.touch(layer.expert[e]);
      }
    }
  }
  return trace;
}

// A loop of one working set, then of another that shares a part with it, and back.
Trace phases() {
  Trace trace;
  trace.name = "phase changes";
  trace.target = 1.3;
  for (int i = 0; i < 300; ++i) trace.add_page(kPage);
  trace.budget_bytes = 120 * kPage;
  const uint32_t first[] = {0, 140, 0}, count[] = {180, 160, 180};
  for (int phase = 0; phase < 3; ++phase) {
    for (int round = 0; round < 20; ++round) {
      if (phase == 0 && round == 4) trace.count_from_here();
      for (uint32_t i = 0; i < count[phase]; ++i) trace.begin(), trace.touch(first[phase] + i);
    }
  }
  return trace;
}

// A loop that nearly fits, and now and then a scan over data used once.
Trace scans() {
  Trace trace;
  trace.name = "scans across a loop";
  trace.target = 1.3;
  constexpr uint32_t loop = 120, scan = 200;
  for (uint32_t i = 0; i < loop + 6 * scan; ++i) trace.add_page(kPage);
  trace.budget_bytes = 112 * kPage;
  uint32_t scanned = loop;
  for (int round = 0; round < 40; ++round) {
    if (round == 4) trace.count_from_here();
    for (uint32_t i = 0; i < loop; ++i) {
      trace.begin(), trace.touch(i);
      // Half of the scans run between the passes, half beside one.
      if (round % 12 == 10 && i >= 10 && i < 110) {
        for (int k = 0; k < 2; ++k) trace.begin(), trace.touch(scanned++);
      }
    }
    for (uint32_t i = 0; round % 12 == 4 && i < scan; ++i) trace.begin(), trace.touch(scanned++);
  }
  return trace;
}

// Two programs' loops on one device, of different lengths.
Trace two_loops() {
  Trace trace;
  trace.name = "two loops, one 5x faster";
  trace.target = 1.3;
  for (int i = 0; i < 250; ++i) trace.add_page(kPage);
  trace.budget_bytes = 125 * kPage;
  for (uint32_t i = 0; i < 20 * 200; ++i) {
    if (i == 4 * 200) trace.count_from_here();
    trace.begin(), trace.touch(i % 200);
    if (i % 4 != 0) continue;
    for (uint32_t k = 0; k < 5; ++k) trace.begin(), trace.touch(200 + (i / 4 * 5 + k) % 50);
  }
  return trace;
}

}  // namespace

uint64_t Trace::bytes() const {
  return std::accumulate(page_bytes.begin(), page_bytes.end(), uint64_t{0});
}

uint32_t Trace::add_page(uint64_t bytes) {
  page_bytes.push_back(bytes);
  return static_cast<uint32_t>(page_bytes.size() - 1);
}

Pages Trace::add_allocation(uint64_t bytes) {
  Pages pages;
  uint64_t left = (bytes + pool::kGranule - 1) / pool::kGranule;
  for (unsigned order = pool::kMaxPageOrder + 1; order-- > 0;) {
    for (; left >= (uint64_t{1} << order); left -= uint64_t{1} << order) {
      pages.push_back(add_page(pool::page_bytes(order)));
    }
  }
  return pages;
}

std::vector<Trace> made_up_traces() {
  std::vector<Trace> traces;
  for (const double ratio : {1.1, 1.25, 1.5, 2.0, 3.0, 4.0}) traces.push_back(cyclic(ratio));
  for (const double ratio : {1.25, 2.0}) traces.push_back(cyclic(ratio, 1.2));
  for (const double ratio : {1.1, 1.33, 2.0, 4.0}) traces.push_back(decode(ratio));
  for (const double ratio : {1.33, 2.0}) traces.push_back(sweep(ratio));
  traces.push_back(sweep(1.33, 1.2));
  for (const double ratio : {1.33, 2.0}) traces.push_back(training(ratio));
  for (const double skew : {0.8, 1.0, 1.2}) traces.push_back(skewed(skew));
  traces.push_back(skewed(1.0, 200));
  for (const double skew : {1.0, 2.0}) {
    for (const double stay : {0.0, 0.5}) traces.push_back(experts(skew, stay));
  }
  traces.push_back(phases());
  traces.push_back(scans());
  traces.push_back(two_loops());
  traces.push_back(skewed(0));
  return traces;
}

Trace read_trace(std::istream& in, std::string name) {
  Trace trace;
  trace.name = std::move(name);
  std::string line;
  for (int number = 1; std::getline(in, line); ++number) {
    const auto bad = [&](const char* why) {
      return std::runtime_error(trace.name + ":" + std::to_string(number) + ": " + why);
    };
    std::istringstream words(line.substr(0, line.find('#')));
    std::string word;
    if (!(words >> word)) continue;
    uint64_t bytes = 0;
    if (word == "budget") {
      if (!(words >> trace.budget_bytes)) throw bad("budget BYTES");
    } else if (word == "page") {
      if (!(words >> bytes) || bytes == 0) throw bad("page BYTES");
      trace.add_page(bytes);
    } else if (word == "count") {
      trace.count_from_here();
    } else if (word == "touch") {
      trace.begin();
      while (words >> word) {
        size_t used = 0;
        unsigned long page = 0;
        try {
          page = std::stoul(word, &used);
        } catch (const std::exception&) {
          throw bad("not a page number");
        }
        const bool write = word.compare(used, std::string::npos, "!") == 0;
        if (used != word.size() && !write) throw bad("not a page number");
        if (page >= trace.page_bytes.size()) throw bad("a page that was not declared");
        trace.touch(static_cast<uint32_t>(page), write);
      }
    } else {
      throw bad("not one of budget, page, touch, count");
    }
  }
  if (trace.budget_bytes == 0) throw std::runtime_error(trace.name + ": no budget");
  return trace;
}

}  // namespace flexlom::sim
