// How an exported driver symbol is made: a door that counts, traces, injects faults and checks that
// the driver is up, then calls a plain function. The symbol itself is a jump through a slot, as in
// the real driver, so that one implementation can serve several symbols without spelling its
// parameter list again, and the door's type is checked against cuda.h.
#pragma once
#define __CUDA_API_VERSION_INTERNAL
#include <cuda.h>
#include <cudaProfiler.h>

// Deprecated calls are part of the ABI all the same.
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"

#include <atomic>
#include <cstdint>
#include <new>
#include <type_traits>

namespace flexlom::sim {

// Thrown by an implementation, turned into the return code at the door: nothing crosses the C ABI.
struct Failure {
  CUresult code;
};
[[noreturn]] inline void fail(CUresult code) { throw Failure{code}; }
inline void require(bool condition, CUresult code = CUDA_ERROR_INVALID_VALUE) {
  if (!condition) fail(code);
}

// One exported symbol: its counters. Constant-initialised; linked into a list at its first call.
struct Site {
  const char* symbol;
  std::atomic<uint64_t> entered{0};
  std::atomic<uint64_t> failed{0};
  std::atomic<bool> linked{false};
  Site* next = nullptr;  // written once, before the site is published
  constexpr explicit Site(const char* name) : symbol(name) {}
};

struct Call {
  const Site& site;
  bool per_thread;  // a _ptsz or _ptds twin: stream 0 means the calling thread's stream
};

// Counts, traces, injects a fault; then checks the driver's phase when the call needs cuInit.
CUresult enter(Site& site, bool needs_init);

// The answer of a call that may have waited for a kernel's fault.
CUresult leave(const Site& site, bool needs_init, CUresult result);

template <size_t N>
struct Name {
  char text[N];
  constexpr Name(const char (&from)[N]) {
    for (size_t i = 0; i < N; ++i) text[i] = from[i];
  }
};

template <Name name, bool needs_init, bool per_thread, auto impl>
struct Door;

template <Name name, bool needs_init, bool per_thread, class... A, CUresult (*impl)(Call&, A...)>
struct Door<name, needs_init, per_thread, impl> {
  static inline constinit Site site{name.text};

  static CUresult call(A... arguments) {
    if (CUresult code = enter(site, needs_init)) return code;
    try {
      Call c{site, per_thread};
      return leave(site, needs_init, impl(c, arguments...));
    } catch (const Failure& failure) {
      return failure.code;
    } catch (const std::bad_alloc&) {
      return CUDA_ERROR_OUT_OF_MEMORY;
    }
  }
};

}  // namespace flexlom::sim

#if !defined(__x86_64__)
#error "the doors of the simulated driver are written for x86-64"
#endif

// The jump. `binding` is globl, or weak for a stub that a real implementation replaces.
#define SIM_DOOR(symbol, binding, needs_init, per_thread, impl)                           \
  [[gnu::used]] static decltype(&::flexlom::sim::Door<#symbol, needs_init, per_thread,    \
                                                      impl>::call)                        \
      const simcuda_slot_##symbol asm("simcuda_slot_" #symbol) =                          \
          &::flexlom::sim::Door<#symbol, needs_init, per_thread, impl>::call;             \
  asm(".pushsection .text\n\t." binding " " #symbol "\n\t.type " #symbol                  \
      ",@function\n\t"                                                                    \
      ".p2align 4\n" #symbol ":\n\tjmp *simcuda_slot_" #symbol "(%rip)\n\t.size " #symbol \
      ",.-" #symbol "\n\t.popsection")

#define SIM_CHECK_TYPE(symbol, impl)                                                               \
  static_assert(std::is_same_v<decltype(&::symbol),                                                \
                               decltype(&::flexlom::sim::Door<#symbol, true, false, impl>::call)>, \
                "not the type that cuda.h gives " #symbol)

// A symbol that works only after cuInit / before it as well / and its per-thread-stream twin.
#define SIM_EXPORT(symbol, impl) \
  SIM_CHECK_TYPE(symbol, impl);  \
  SIM_DOOR(symbol, "globl", true, false, impl)
#define SIM_EXPORT_EARLY(symbol, impl)                                                     \
  static_assert(                                                                           \
      std::is_same_v<decltype(&::symbol),                                                  \
                     decltype(&::flexlom::sim::Door<#symbol, false, false, impl>::call)>); \
  SIM_DOOR(symbol, "globl", false, false, impl)
#define SIM_EXPORT_PTSZ(symbol, impl) \
  SIM_EXPORT(symbol, impl);           \
  SIM_DOOR(symbol##_ptsz, "globl", true, true, impl)
#define SIM_EXPORT_PTDS(symbol, impl) \
  SIM_EXPORT(symbol, impl);           \
  SIM_DOOR(symbol##_ptds, "globl", true, true, impl)
