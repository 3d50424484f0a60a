// A job replayed with less device memory: the decisions are those of pool/residency (the same
// functions), the times are a model's.
//
// What is modelled: one processor thread that submits at the recorded pace, one device queue that
// works in order, a link, and what moving pages costs. A submission takes its measured time when
// its data is on the device; in place it takes what its bytes take over the link, rereading
// included, if that is longer. Moving stops both: the queue drains, the pages are copied both ways
// at once, and the program goes on.
//
// What is not: several streams at a time, a framework that frees its cache when memory is short,
// the time to make host memory in the background, and a host without enough of it.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "interpose/tool/advise_log.h"
#include "pool/residency/policy.h"

namespace flexlom::tool {

// Rates in bytes per second, times in ns. The defaults were measured on an H200 with PCIe 5 x16.
struct LinkModel {
  double copy = 55.4e9;       // P: pages moved one way
  double copy_both = 47.5e9;  // each way, while both are busy
  double in_place = 51e9;     // Z: kernels that read host memory in order
  double device = 4.3e12;     // kernels that read device memory in order
  double host_frames = 5e9;   // making pinned host memory
  double batch_ns = 350'000;  // stopping and starting the device
  double begin_up_ns = 340'000, begin_down_ns = 500'000;  // until the first bytes of a batch arrive
  double place_ns = 340'000, remap_ns = 420'000;          // of one page, up and down
};

struct Prediction {
  uint64_t budget_bytes = 0;
  double seconds = 0;        // of the part that is compared
  double whole_seconds = 0;  // of everything
  uint64_t host_peak_bytes = 0;
  uint64_t up_bytes = 0, down_bytes = 0, in_place_bytes = 0;  // of the part that is compared
  uint64_t batches = 0;
};

// The part that is compared begins at `from_ns` of the log: what comes before is learning.
// `progress` is called now and then with the share that is done; may be empty.
Prediction predict(const AdviseJob& job, const LinkModel& link, uint64_t budget_bytes,
                   uint64_t from_ns, const std::function<void(double)>& progress = {});

}  // namespace flexlom::tool
