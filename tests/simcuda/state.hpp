// What the whole simulated driver shares: options, phase, devices, and the order of its locks.
//
// Locks, outermost first: context_lock (contexts, primary references, modules), submit_lock
// (streams, events, captures, graphs), memory_lock (address space, frames, handles, allocations,
// pools), then the queue lock of one stream. Work runs on stream threads with none of them held.
// The state is never destroyed: stream threads may still run while the process exits.
#pragma once
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <vector>

#include "tests/simcuda/api.hpp"
#include "tests/simcuda/physical.hpp"

namespace flexlom::sim {

constexpr size_t kGranularity = size_t{2} << 20;  // bytes: the VMM page, on device and host

struct Context;
struct Pool;

struct Options {
  int devices = 1;
  size_t memory_bytes = size_t{256} << 20;
  size_t host_memory_bytes = 0;  // 0: no limit
  int driver_version = 13000;
  bool host_vmm = true;
  bool peers = true;
  double delay_scale = 0;
  bool illegal_address = false;  // a kernel's fault is an error, not a signal
};
const Options& options();

struct Device {
  int ordinal = 0;
  Place place;                      // its physical memory
  Context* primary = nullptr;       // created at init, dead until retained
  unsigned primary_references = 0;  // guarded by context_lock
  unsigned primary_flags = 0;       // guarded by context_lock
  Pool* default_pool = nullptr;     // set at init
  Pool* current_pool = nullptr;     // guarded by memory_lock
};

struct State {
  std::mutex context_lock;
  std::mutex submit_lock;
  std::mutex memory_lock;
  std::vector<Device*> devices;  // fixed after cuInit
  Place host;                    // host frames and pinned memory, of the whole process
  std::atomic<uint64_t> next_id{1};
};
State& state();

// The driver's life. Every call checks it at its door.
enum class Phase : int { fresh, running, forked, exited };
Phase phase();

// A kernel faulted: from now on that is the answer to everything.
void break_contexts();

Device& device_at(CUdevice ordinal);  // throws INVALID_DEVICE

// Sleeps for what the call costs on real hardware, times SIMCUDA_DELAY.
void cost_us(double microseconds);

uint64_t now_ns();

}  // namespace flexlom::sim
