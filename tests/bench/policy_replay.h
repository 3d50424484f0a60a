// Replays a trace on a model of the device and counts what crosses the link.
#pragma once

#include "pool/residency/policy.h"
#include "tests/bench/policy_trace.h"

namespace flexlom::sim {

struct Traffic {
  uint64_t in_bytes = 0;         // promoted, or read in place
  uint64_t out_bytes = 0;        // demoted without a right copy on the host
  uint64_t moves = 0;            // promotions
  uint64_t host_peak_bytes = 0;  // spilled pages and copies kept, when copies are kept at no cost

  uint64_t total() const { return in_bytes + out_bytes; }
};

// Every page that a submission touches must be on the device first.
Traffic replay_promoting(const Trace& trace, pool::policy::Kind kind, uint64_t batch_bytes);

// Submissions read spilled pages in place; pages that earn it are exchanged now and then.
Traffic replay_in_place(const Trace& trace, pool::policy::Kind kind, uint64_t batch_bytes);

// Belady's MIN: evicts what is used last. With `bypass` it may also leave a page on the host and
// read it in place when it would be the one to evict.
Traffic replay_min(const Trace& trace, bool bypass);

// The best that never moves a page, chosen with the trace (or its odds) known: the most touched
// stay, all others are read in place, or with `stream` pass through room for the two largest
// submissions.
Traffic best_static(const Trace& trace, bool stream);

}  // namespace flexlom::sim
