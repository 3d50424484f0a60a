// The simulated CUDA driver's own control surface, beside the driver API it exports.
//
// build/simcuda/libcuda.so.1 is a CUDA driver in software: device memory is memfd pages mapped with
// MAP_FIXED at the address a program sees, streams are threads, kernels are host functions chosen
// by name. It is meant for tests and for trying flexlom on a machine without a GPU.
//
// Environment, read once at the first call:
//   SIMCUDA_DEVICES=1            number of devices
//   SIMCUDA_MEMORY=256M          capacity of each device (K, M, G)
//   SIMCUDA_HOST_MEMORY=0        limit for host frames and pinned memory, 0 = none
//   SIMCUDA_DRIVER_VERSION=13000 what cuDriverGetVersion says; old versions lose newer abilities
//   SIMCUDA_NO_HOST_VMM=1        cuMemCreate refuses HOST and HOST_NUMA locations
//   SIMCUDA_NO_PEERS=1           no device reaches another's memory
//   SIMCUDA_FAULT=RULES          see simcuda_fault
//   SIMCUDA_DELAY=1.0            scale of the measured costs of VMM calls and copies, 0 = none
//   SIMCUDA_ILLEGAL_ADDRESS=1    a kernel that touches what is not mapped ends with the error of that
//                                name, which every later call returns; else with a real SIGSEGV
//   SIMCUDA_TRACE=PATH           appends one line for each call entered: thread id and symbol
//
// All functions below are thread-safe and may be called before cuInit.
#pragma once
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

// Replaces the fault rules: "CALL:key=value:...;CALL:...". CALL is a symbol (cuMemFree_v2), a base
// name (cuMemFree: every version of it) or *. Keys: n=3 (the 3rd matching call fails, once), n=3+
// (the 3rd and all later), p=0.01 with seed=7 (at random, repeatable), err=2 (the code, default
// OUT_OF_MEMORY), delay_us=200 (sleep before the call). Neither n nor p nor delay_us: always fails.
// Returns 0, or -1 and leaves the rules as they were when the text is not understood.
int simcuda_fault(const char* rules);

// How often the call (symbol or base name) was entered; with "!fault" appended, how often it failed
// because of a rule.
uint64_t simcuda_counters(const char* call);

// VMM allocation handles that still hold physical memory (not released, or still mapped).
uint64_t simcuda_live_handles(void);

// Bytes of physical memory in use now, and the most there ever was, on a device or in host frames
// and pinned host memory. An unknown device has 0.
uint64_t simcuda_device_bytes(int device);
uint64_t simcuda_peak_device_bytes(int device);
uint64_t simcuda_host_bytes(void);

#ifdef __cplusplus
}
#endif
