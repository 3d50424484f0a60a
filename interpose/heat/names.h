// The device addresses in the arguments of a submission, by prototype: every function with one of
// these prototypes means the same by it, or is told apart by its entry.
//
// To be called before the driver gets the call, with the arguments as the program gave them. Never
// allocates after the first sight of a function, never waits for the device, changes no argument
// and no state that the program could see; the failing questions about parameters show in the
// driver's own error log (cuLogsDumpToFile), nowhere else. Any thread.
//
// Submissions that name nothing by design: arrays and graphics resources (not pool memory), events,
// host functions, external semaphores, and the calls of CUDA 1 and 2 with 32-bit addresses. The
// launches whose parameters were set before by cuParamSet* are `unknown`.
#pragma once

#include <cuda.h>

#include "interpose/doors/entries.h"
#include "interpose/heat/graphs.h"
#include "interpose/heat/launch.h"
#include "interpose/heat/named.h"

namespace flexlom::heat {

using doors::Entry;

template <class... A>
inline void names(Entry, Named&, const A&...) noexcept {}

inline void name_entry(Entry e, Named& n) noexcept {
  n.function = doors::entry_info[doors::index_of(e)].name;
}

// Launches (CUDA Driver API 6.24).
inline void names(Entry, Named& n, CUfunction f, unsigned gx, unsigned gy, unsigned gz, unsigned bx,
                  unsigned by, unsigned bz, unsigned, CUstream, void** params,
                  void** extra) noexcept {
  name_launch(n, f, {{gx, gy, gz}, {bx, by, bz}}, params, extra);
}
inline void names(Entry, Named& n, CUfunction f, unsigned gx, unsigned gy, unsigned gz, unsigned bx,
                  unsigned by, unsigned bz, unsigned, CUstream, void** params) noexcept {
  name_launch(n, f, {{gx, gy, gz}, {bx, by, bz}}, params, nullptr);
}
inline void names(Entry, Named& n, const CUlaunchConfig* c, CUfunction f, void** params,
                  void** extra) noexcept {
  if (c == nullptr) return;
  name_launch(n, f,
              {{c->gridDimX, c->gridDimY, c->gridDimZ}, {c->blockDimX, c->blockDimY, c->blockDimZ}},
              params, extra);
  name_attributes(n, c->attrs, c->numAttrs);
}
inline void names(Entry, Named& n, CUDA_LAUNCH_PARAMS* list, unsigned count, unsigned) noexcept {
  n.many_streams = true;
  for (unsigned i = 0; list != nullptr && i < count; ++i) {
    const CUDA_LAUNCH_PARAMS& l = list[i];
    name_launch(n, l.function,
                {{l.gridDimX, l.gridDimY, l.gridDimZ}, {l.blockDimX, l.blockDimY, l.blockDimZ}},
                l.kernelParams, nullptr);
  }
}
inline void name_unseen(Named& n, CUfunction f) noexcept {
  n.function = f;
  n.unknown = true;
}
inline void names(Entry, Named& n, CUfunction f) noexcept { name_unseen(n, f); }
inline void names(Entry, Named& n, CUfunction f, int, int) noexcept { name_unseen(n, f); }
inline void names(Entry, Named& n, CUfunction f, int, int, CUstream) noexcept { name_unseen(n, f); }

// Graphs: an upload touches nothing.
inline void names(Entry e, Named& n, CUgraphExec exec, CUstream) noexcept {
  if (e == Entry::cuGraphLaunch || e == Entry::cuGraphLaunch_ptsz) name_graph(n, exec);
}

// Copies (6.13), either side.
inline void name_pair(Entry e, Named& n, CUdeviceptr to, CUdeviceptr from) noexcept {
  name_entry(e, n);
  n.add(to);
  n.add(from);
}
inline CUdeviceptr word_of(const void* p) noexcept { return reinterpret_cast<CUdeviceptr>(p); }

inline void names(Entry e, Named& n, CUdeviceptr to, CUdeviceptr from, size_t) noexcept {
  name_pair(e, n, to, from);
}
inline void names(Entry e, Named& n, CUdeviceptr to, CUdeviceptr from, size_t, CUstream) noexcept {
  name_pair(e, n, to, from);
}
inline void names(Entry e, Named& n, CUdeviceptr to, const void* from, size_t) noexcept {
  name_pair(e, n, to, word_of(from));
}
inline void names(Entry e, Named& n, CUdeviceptr to, const void* from, size_t, CUstream) noexcept {
  name_pair(e, n, to, word_of(from));
}
inline void names(Entry e, Named& n, void* to, CUdeviceptr from, size_t) noexcept {
  name_pair(e, n, word_of(to), from);
}
inline void names(Entry e, Named& n, void* to, CUdeviceptr from, size_t, CUstream) noexcept {
  name_pair(e, n, word_of(to), from);
}
inline void names(Entry e, Named& n, CUdeviceptr to, CUcontext, CUdeviceptr from, CUcontext,
                  size_t) noexcept {
  name_pair(e, n, to, from);
}
inline void names(Entry e, Named& n, CUdeviceptr to, CUcontext, CUdeviceptr from, CUcontext, size_t,
                  CUstream) noexcept {
  name_pair(e, n, to, from);
}
// Arrays at one end: DtoA, AtoD, HtoA, AtoH.
inline void names(Entry e, Named& n, CUarray, size_t, CUdeviceptr from, size_t) noexcept {
  name_pair(e, n, from, 0);
}
inline void names(Entry e, Named& n, CUdeviceptr to, CUarray, size_t, size_t) noexcept {
  name_pair(e, n, to, 0);
}
inline void names(Entry e, Named& n, CUarray, size_t, const void* from, size_t) noexcept {
  name_pair(e, n, word_of(from), 0);
}
inline void names(Entry e, Named& n, CUarray, size_t, const void* from, size_t, CUstream) noexcept {
  name_pair(e, n, word_of(from), 0);
}
inline void names(Entry e, Named& n, void* to, CUarray, size_t, size_t) noexcept {
  name_pair(e, n, word_of(to), 0);
}
inline void names(Entry e, Named& n, void* to, CUarray, size_t, size_t, CUstream) noexcept {
  name_pair(e, n, word_of(to), 0);
}

#define FLEXLOM_NAMES_COPY(Copy)                                 \
  inline void names(Entry e, Named& n, const Copy* c) noexcept { \
    name_entry(e, n);                                            \
    if (c != nullptr) name_copy(n, *c);                          \
  }                                                              \
  inline void names(Entry e, Named& n, const Copy* c, CUstream) noexcept { names(e, n, c); }
FLEXLOM_NAMES_COPY(CUDA_MEMCPY2D)
FLEXLOM_NAMES_COPY(CUDA_MEMCPY3D)
FLEXLOM_NAMES_COPY(CUDA_MEMCPY3D_PEER)
#undef FLEXLOM_NAMES_COPY

// Batches: arrays of addresses. What is not copied counts as not complete only when it is too much.
inline void name_list(Named& n, const CUdeviceptr* list, size_t count) noexcept {
  for (size_t i = 0; list != nullptr && i < count && !n.overflow; ++i) n.add(list[i]);
}
inline void names(Entry e, Named& n, CUdeviceptr* to, CUdeviceptr* from, size_t*, size_t count,
                  CUmemcpyAttributes*, size_t*, size_t, CUstream) noexcept {
  name_entry(e, n);
  name_list(n, to, count);
  name_list(n, from, count);
}
inline void names(Entry e, Named& n, CUdeviceptr* to, CUdeviceptr* from, size_t* bytes,
                  size_t count, CUmemcpyAttributes* attributes, size_t* indices,
                  size_t attribute_count, size_t*, CUstream stream) noexcept {
  names(e, n, to, from, bytes, count, attributes, indices, attribute_count, stream);
}
inline void names(Entry e, Named& n, size_t count, CUDA_MEMCPY3D_BATCH_OP* list, unsigned long long,
                  CUstream) noexcept {
  name_entry(e, n);
  const auto side = [&](const CUmemcpy3DOperand& operand) {
    if (operand.type == CU_MEMCPY_OPERAND_TYPE_POINTER) n.add(operand.op.ptr.ptr);
  };
  for (size_t i = 0; list != nullptr && i < count && !n.overflow; ++i) {
    side(list[i].src);
    side(list[i].dst);
  }
}
inline void names(Entry e, Named& n, size_t count, CUDA_MEMCPY3D_BATCH_OP* list, size_t*,
                  unsigned long long flags, CUstream stream) noexcept {
  names(e, n, count, list, flags, stream);
}
inline void names(Entry e, Named& n, CUmemDecompressParams* list, size_t count, unsigned, size_t*,
                  CUstream) noexcept {
  name_entry(e, n);
  for (size_t i = 0; list != nullptr && i < count && !n.overflow; ++i) {
    n.add(list[i].src);
    n.add(list[i].dst);
    n.add(list[i].dstActBytes);
  }
}

// Fills (6.13): one row or many.
#define FLEXLOM_NAMES_FILL(T)                                                                \
  inline void names(Entry e, Named& n, CUdeviceptr to, T, size_t) noexcept {                 \
    name_pair(e, n, to, 0);                                                                  \
  }                                                                                          \
  inline void names(Entry e, Named& n, CUdeviceptr to, T, size_t, CUstream) noexcept {       \
    name_pair(e, n, to, 0);                                                                  \
  }                                                                                          \
  inline void names(Entry e, Named& n, CUdeviceptr to, size_t, T, size_t, size_t) noexcept { \
    name_pair(e, n, to, 0);                                                                  \
  }                                                                                          \
  inline void names(Entry e, Named& n, CUdeviceptr to, size_t, T, size_t, size_t,            \
                    CUstream) noexcept {                                                     \
    name_pair(e, n, to, 0);                                                                  \
  }
FLEXLOM_NAMES_FILL(unsigned char)
FLEXLOM_NAMES_FILL(unsigned short)
FLEXLOM_NAMES_FILL(unsigned int)
#undef FLEXLOM_NAMES_FILL

// Prefetching and discarding (6.14): for managed memory, which ours is not, but named all the same.
inline void names(Entry e, Named& n, CUdeviceptr p, size_t, CUdevice, CUstream) noexcept {
  name_pair(e, n, p, 0);
}
inline void names(Entry e, Named& n, CUdeviceptr p, size_t, CUmemLocation, unsigned,
                  CUstream) noexcept {
  name_pair(e, n, p, 0);
}
inline void names(Entry e, Named& n, CUdeviceptr* list, size_t*, size_t count, CUmemLocation*,
                  size_t*, size_t, unsigned long long, CUstream) noexcept {
  name_entry(e, n);
  name_list(n, list, count);
}
inline void names(Entry e, Named& n, CUdeviceptr* list, size_t*, size_t count, unsigned long long,
                  CUstream) noexcept {
  name_entry(e, n);
  name_list(n, list, count);
}

// Stream memory operations (6.20).
inline void names(Entry e, Named& n, CUstream, CUdeviceptr p, cuuint32_t, unsigned) noexcept {
  name_pair(e, n, p, 0);
}
inline void names(Entry e, Named& n, CUstream, CUdeviceptr p, cuuint64_t, unsigned) noexcept {
  name_pair(e, n, p, 0);
}
inline void names(Entry e, Named& n, CUstream, unsigned count, CUstreamBatchMemOpParams* list,
                  unsigned) noexcept {
  name_entry(e, n);
  name_operations(n, list, count);
}

}  // namespace flexlom::heat
