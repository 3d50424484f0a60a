// The numbers of `--stats`, as the key=value text of one line each. Keys are never renamed or
// removed: scripts read them. Bytes and counts are since the start of the process unless they say
// `held`; rates are GB/s (10^9 bytes) over the time in which the gate was shut.
#pragma once

#include <cstdint>
#include <string>

#include "interpose/trace/writer.h"
#include "pool/device_pool.h"
#include "pool/residency/residency.h"

namespace flexlom {

// What moved between device and host, of all devices.
std::string moves_text(const pool::ResidencyStats& stats);
// One device. `at_ms`: since flexlom became active. `warnings`: of the process, printed or not.
std::string device_text(const pool::PoolStats& stats, int device, uint64_t at_ms,
                        uint64_t warnings);

// The same for the trace log.
trace::MoveTotals move_totals(const pool::ResidencyStats& stats);
trace::Stats trace_stats(const pool::PoolStats& stats, int device);

// The word for a reason in keys and in the log.
const char* word_of(pool::GaveUp why) noexcept;

}  // namespace flexlom
