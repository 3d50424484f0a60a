#include "tests/simcuda/state.hpp"

#include <pthread.h>
#include <time.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>

#include "tests/simcuda/context.hpp"
#include "tests/simcuda/fault.hpp"
#include "tests/simcuda/host_callback.hpp"
#include "tests/simcuda/pool.hpp"
#include "tests/simcuda/simcuda.h"

namespace flexlom::sim {
namespace {

// Read at every door, so relaxed apart from the step to running, which publishes the devices.
std::atomic<Phase> current_phase{Phase::fresh};

size_t parse_bytes(const char* name, size_t otherwise) {
  const char* text = getenv(name);
  if (!text || !*text) return otherwise;
  char* end = nullptr;
  double value = strtod(text, &end);
  switch (*end) {
    case 'k':
    case 'K':
      value *= 1024.0;
      ++end;
      break;
    case 'm':
    case 'M':
      value *= 1024.0 * 1024;
      ++end;
      break;
    case 'g':
    case 'G':
      value *= 1024.0 * 1024 * 1024;
      ++end;
      break;
    default:
      break;
  }
  if (end == text || *end || value < 0) {
    fprintf(stderr, "simcuda: %s=%s not understood, want a number with K, M or G\n", name, text);
    return otherwise;
  }
  return static_cast<size_t>(value);
}

Options read_options() {
  Options o;
  if (const char* text = getenv("SIMCUDA_DEVICES")) o.devices = atoi(text);
  if (o.devices < 0 || o.devices > 64) o.devices = 1;
  o.memory_bytes = parse_bytes("SIMCUDA_MEMORY", o.memory_bytes);
  o.host_memory_bytes = parse_bytes("SIMCUDA_HOST_MEMORY", 0);
  if (const char* text = getenv("SIMCUDA_DRIVER_VERSION")) o.driver_version = atoi(text);
  if (const char* text = getenv("SIMCUDA_NO_HOST_VMM")) o.host_vmm = atoi(text) == 0;
  if (const char* text = getenv("SIMCUDA_NO_PEERS")) o.peers = atoi(text) == 0;
  if (const char* text = getenv("SIMCUDA_ILLEGAL_ADDRESS")) o.illegal_address = atoi(text) != 0;
  if (const char* text = getenv("SIMCUDA_DELAY")) o.delay_scale = atof(text);
  read_fault_environment();
  return o;
}

std::atomic<bool> broken{false};

// Nothing of the context's work is asked of these.
bool answers_when_broken(std::string_view symbol) {
  for (const char* start :
       {"cuCtxGet", "cuCtxPush", "cuCtxPop", "cuCtxSet", "cuDeviceGet", "cuGet", "cuThread"})
    if (symbol.starts_with(start)) return true;
  return false;
}

void forked_child() {
  if (current_phase.load(std::memory_order_relaxed) == Phase::running)
    current_phase.store(Phase::forked, std::memory_order_relaxed);
}

// Registered by cuInit, so handlers that the program registered before it find the driver gone, as
// with the real one. Streams are not waited for: a kernel that never ends must not block the exit.
void at_exit() { current_phase.store(Phase::exited, std::memory_order_relaxed); }

CUresult init(Call&, unsigned flags) {
  require(flags == 0);
  State& s = state();
  std::lock_guard guard(s.context_lock);
  if (phase() == Phase::running) return CUDA_SUCCESS;
  if (phase() == Phase::forked) return CUDA_ERROR_NOT_INITIALIZED;
  require(options().devices > 0, CUDA_ERROR_NO_DEVICE);
  s.host.open(-1, options().host_memory_bytes);
  for (int i = 0; i < options().devices; ++i) {
    auto* device = new Device;
    device->ordinal = i;
    device->place.open(i, options().memory_bytes);
    device->primary = new_primary_context(i);
    device->default_pool = device->current_pool = new_default_pool(i);
    s.devices.push_back(device);
  }
  pthread_atfork(nullptr, nullptr, forked_child);
  atexit(at_exit);
  current_phase.store(Phase::running, std::memory_order_release);
  return CUDA_SUCCESS;
}

CUresult driver_get_version(Call&, int* version) {
  require(version);
  *version = options().driver_version;
  return CUDA_SUCCESS;
}

struct ErrorText {
  CUresult code;
  const char* name;
  const char* text;
};
constexpr ErrorText error_texts[] = {
    {CUDA_SUCCESS, "CUDA_SUCCESS", "no error"},
    {CUDA_ERROR_INVALID_VALUE, "CUDA_ERROR_INVALID_VALUE", "invalid argument"},
    {CUDA_ERROR_OUT_OF_MEMORY, "CUDA_ERROR_OUT_OF_MEMORY", "out of memory"},
    {CUDA_ERROR_NOT_INITIALIZED, "CUDA_ERROR_NOT_INITIALIZED", "initialization error"},
    {CUDA_ERROR_DEINITIALIZED, "CUDA_ERROR_DEINITIALIZED", "driver shutting down"},
    {CUDA_ERROR_NO_DEVICE, "CUDA_ERROR_NO_DEVICE", "no CUDA-capable device is detected"},
    {CUDA_ERROR_INVALID_DEVICE, "CUDA_ERROR_INVALID_DEVICE", "invalid device ordinal"},
    {CUDA_ERROR_INVALID_CONTEXT, "CUDA_ERROR_INVALID_CONTEXT", "invalid device context"},
    {CUDA_ERROR_INVALID_HANDLE, "CUDA_ERROR_INVALID_HANDLE", "invalid resource handle"},
    {CUDA_ERROR_NOT_FOUND, "CUDA_ERROR_NOT_FOUND", "named symbol not found"},
    {CUDA_ERROR_NOT_READY, "CUDA_ERROR_NOT_READY", "device not ready"},
    {CUDA_ERROR_ILLEGAL_ADDRESS, "CUDA_ERROR_ILLEGAL_ADDRESS",
     "an illegal memory access was encountered"},
    {CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED, "CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED",
     "peer access is already enabled"},
    {CUDA_ERROR_PEER_ACCESS_UNSUPPORTED, "CUDA_ERROR_PEER_ACCESS_UNSUPPORTED",
     "peer access is not supported between these two devices"},
    {CUDA_ERROR_PEER_ACCESS_NOT_ENABLED, "CUDA_ERROR_PEER_ACCESS_NOT_ENABLED",
     "peer access has not been enabled"},
    {CUDA_ERROR_CONTEXT_IS_DESTROYED, "CUDA_ERROR_CONTEXT_IS_DESTROYED", "context is destroyed"},
    {CUDA_ERROR_PRIMARY_CONTEXT_ACTIVE, "CUDA_ERROR_PRIMARY_CONTEXT_ACTIVE",
     "cannot set while device is active in this process"},
    {CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED, "CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED",
     "part or all of the requested memory range is already mapped"},
    {CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED, "CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED",
     "pointer does not correspond to a registered memory region"},
    {CUDA_ERROR_NOT_PERMITTED, "CUDA_ERROR_NOT_PERMITTED", "operation not permitted"},
    {CUDA_ERROR_NOT_SUPPORTED, "CUDA_ERROR_NOT_SUPPORTED", "operation not supported"},
    {CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED",
     "operation not permitted when stream is capturing"},
    {CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED",
     "operation failed due to a previous error during capture"},
    {CUDA_ERROR_STREAM_CAPTURE_UNMATCHED, "CUDA_ERROR_STREAM_CAPTURE_UNMATCHED",
     "capture was not ended in the same stream as it began"},
    {CUDA_ERROR_STREAM_CAPTURE_UNJOINED, "CUDA_ERROR_STREAM_CAPTURE_UNJOINED",
     "capturing stream has unjoined work"},
    {CUDA_ERROR_STREAM_CAPTURE_ISOLATION, "CUDA_ERROR_STREAM_CAPTURE_ISOLATION",
     "dependency created on uncaptured work in another stream"},
    {CUDA_ERROR_STREAM_CAPTURE_IMPLICIT, "CUDA_ERROR_STREAM_CAPTURE_IMPLICIT",
     "operation would make the legacy stream depend on a capturing blocking stream"},
    {CUDA_ERROR_CAPTURED_EVENT, "CUDA_ERROR_CAPTURED_EVENT",
     "operation not permitted on an event last recorded in a capturing stream"},
    {CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD, "CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD",
     "attempt to terminate a thread-local capture sequence from another thread"},
    {CUDA_ERROR_GRAPH_EXEC_UPDATE_FAILURE, "CUDA_ERROR_GRAPH_EXEC_UPDATE_FAILURE",
     "the graph update was not performed because it included changes which violated constraints"},
    {CUDA_ERROR_UNKNOWN, "CUDA_ERROR_UNKNOWN", "unknown error"},
};

CUresult error_text(CUresult code, const char** out, const char* ErrorText::*member) {
  require(out);
  for (const ErrorText& known : error_texts) {
    if (known.code != code) continue;
    *out = known.*member;
    return CUDA_SUCCESS;
  }
  *out = nullptr;
  return CUDA_ERROR_INVALID_VALUE;
}
CUresult get_error_name(Call&, CUresult code, const char** out) {
  return error_text(code, out, &ErrorText::name);
}
CUresult get_error_string(Call&, CUresult code, const char** out) {
  return error_text(code, out, &ErrorText::text);
}

}  // namespace

const Options& options() {
  static const Options* const read = new Options(read_options());
  return *read;
}

State& state() {
  static State* const shared = new State;
  return *shared;
}

Phase phase() { return current_phase.load(std::memory_order_acquire); }

Device& device_at(CUdevice ordinal) {
  State& s = state();
  require(ordinal >= 0 && static_cast<size_t>(ordinal) < s.devices.size(),
          CUDA_ERROR_INVALID_DEVICE);
  return *s.devices[static_cast<size_t>(ordinal)];
}

uint64_t now_ns() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return static_cast<uint64_t>(t.tv_sec) * 1000000000u + static_cast<uint64_t>(t.tv_nsec);
}

void cost_us(double microseconds) {
  const double scaled_ns = microseconds * options().delay_scale * 1000;
  if (scaled_ns < 1) return;
  const uint64_t end = now_ns() + static_cast<uint64_t>(scaled_ns);
  // A sleep is late by some 60 us: too coarse for the short costs, which spin.
  if (scaled_ns > 200e3) usleep(static_cast<useconds_t>(scaled_ns / 1000 - 100));
  while (now_ns() < end) {
  }
}

void break_contexts() { broken.store(true, std::memory_order_release); }

CUresult enter(Site& site, bool needs_init) {
  options();
  record_entry(site);
  switch (phase()) {
    case Phase::exited:
      return CUDA_ERROR_DEINITIALIZED;
    case Phase::running:
      break;
    case Phase::fresh:
    case Phase::forked:
      if (needs_init) return CUDA_ERROR_NOT_INITIALIZED;
  }
  if (needs_init && inside_host_callback()) return CUDA_ERROR_NOT_PERMITTED;
  if (needs_init && broken.load(std::memory_order_acquire) && !answers_when_broken(site.symbol))
    return CUDA_ERROR_ILLEGAL_ADDRESS;
  return inject(site);
}

CUresult leave(const Site& site, bool needs_init, CUresult result) {
  if (result != CUDA_SUCCESS || !broken.load(std::memory_order_acquire)) return result;
  const std::string_view symbol = site.symbol;
  const bool waits =
      symbol.find("Synchronize") != symbol.npos || symbol.starts_with("cuMemcpyDtoH");
  return needs_init && waits ? CUDA_ERROR_ILLEGAL_ADDRESS : result;
}

}  // namespace flexlom::sim

using namespace flexlom::sim;
SIM_EXPORT_EARLY(cuInit, init);
SIM_EXPORT_EARLY(cuDriverGetVersion, driver_get_version);
SIM_EXPORT_EARLY(cuGetErrorName, get_error_name);
SIM_EXPORT_EARLY(cuGetErrorString, get_error_string);

#define SIM_HOOK extern "C" __attribute__((visibility("default")))
static Place* place_of(int device) {
  if (phase() != Phase::running || device < 0) return nullptr;
  auto& devices = state().devices;
  return static_cast<size_t>(device) < devices.size() ? &devices[static_cast<size_t>(device)]->place
                                                      : nullptr;
}
SIM_HOOK uint64_t simcuda_device_bytes(int device) {
  const Place* place = place_of(device);
  return place ? place->used_bytes.load() : 0;
}
SIM_HOOK uint64_t simcuda_peak_device_bytes(int device) {
  const Place* place = place_of(device);
  return place ? place->peak_bytes.load() : 0;
}
SIM_HOOK uint64_t simcuda_host_bytes(void) { return state().host.used_bytes.load(); }
