// The data on the host that a submission copies to a device, by prototype: where pointer tables
// come from. Only tracked mode looks at it (pool/residency/tracked.h).
//
// The driver's own rules say which pointers are on the host; what it knows as memory of a device is
// left alone, however it is called. Data that a pinned buffer gets only after the call, and that of
// copies in graphs, is not seen.
#pragma once

#include <cuda.h>

#include <cstring>

#include "interpose/doors/entries.h"
#include "interpose/heat/range.h"

namespace flexlom::heat {

using doors::Entry;

// Whether the processor may read there: no device memory, as far as the driver knows.
bool is_host_memory(const void* p) noexcept;

// fn(const CUdeviceptr* words, size_t count) for the aligned words that are addresses in the hull
// of the pools, some at a time; neighbours in the same 2 MiB granule are told once.
template <class F>
inline void each_address(const void* data, size_t bytes, F fn) {
  const Hull filter = hull();
  if (filter.empty || bytes < sizeof(CUdeviceptr)) return;
  constexpr size_t kMost = 64;
  CUdeviceptr found[kMost];
  size_t count = 0;
  const auto scan = [&](const std::byte* p, size_t words) {
    const auto word_at = [&](size_t i) {
      CUdeviceptr w;
      std::memcpy(&w, p + i * sizeof w, sizeof w);
      return w;
    };
    const auto look = [&](size_t i) {
      const CUdeviceptr w = word_at(i);
      // The word before is looked up beside it, so a granule's start says more than its inside.
      const auto inside = [](CUdeviceptr a) { return (a & ((CUdeviceptr{1} << 21) - 1)) != 0; };
      if (!filter.holds(w)) return;
      if (count > 0 && found[count - 1] >> 21 == w >> 21 && inside(w)) return;
      found[count++] = w;
      if (count < kMost) return;
      fn(found, count);
      count = 0;
    };
    size_t i = 0;
    for (; i + 8 <= words; i += 8) {
      bool any = false;
      for (size_t k = 0; k < 8; ++k) any |= filter.holds(word_at(i + k));
      if (!any) [[likely]]
        continue;
      for (size_t k = 0; k < 8; ++k) look(i + k);
    }
    for (; i < words; ++i) look(i);
  };
  const auto* first = static_cast<const std::byte*>(data);
  scan(first, bytes / sizeof(CUdeviceptr));
  // Pointers are aligned where they lie, or from the start of what is copied, as a packed list is.
  const size_t off = -reinterpret_cast<uintptr_t>(first) % sizeof(CUdeviceptr);
  if (off != 0 && bytes > off) scan(first + off, (bytes - off) / sizeof(CUdeviceptr));
  if (count > 0) fn(found, count);
}

// fn(const void* data, size_t bytes) for each run of data on the host.
template <class F, class... A>
inline void host_data(Entry, F&&, const A&...) noexcept {}

template <class F>
inline void host_run(F& fn, const void* p, size_t bytes) {
  if (p != nullptr && bytes > 0 && is_host_memory(p)) fn(p, bytes);
}
template <class F>
inline void host_data(Entry, F&& fn, CUdeviceptr, const void* from, size_t n) {
  host_run(fn, from, n);
}
template <class F>
inline void host_data(Entry, F&& fn, CUdeviceptr, const void* from, size_t n, CUstream) {
  host_run(fn, from, n);
}
// cuMemcpy takes any address.
template <class F>
inline void host_data(Entry, F&& fn, CUdeviceptr, CUdeviceptr from, size_t n) {
  host_run(fn, reinterpret_cast<const void*>(from), n);
}
template <class F>
inline void host_data(Entry, F&& fn, CUdeviceptr, CUdeviceptr from, size_t n, CUstream) {
  host_run(fn, reinterpret_cast<const void*>(from), n);
}
template <class F>
inline void host_data(Entry, F&& fn, CUarray, size_t, const void* from, size_t n) {
  host_run(fn, from, n);
}
template <class F>
inline void host_data(Entry, F&& fn, CUarray, size_t, const void* from, size_t n, CUstream) {
  host_run(fn, from, n);
}

// Rows: all from the first to the last, with what lies between them, which the program can read.
inline const void* host_of(CUmemorytype type, const void* host, CUdeviceptr device) noexcept {
  if (type == CU_MEMORYTYPE_HOST) return host;
  return type == CU_MEMORYTYPE_UNIFIED ? reinterpret_cast<const void*>(device) : nullptr;
}
template <class F>
inline void host_rows(F& fn, const void* p, size_t x, size_t y, size_t pitch, size_t width,
                      size_t height) {
  if (p == nullptr || width == 0 || !is_host_memory(p)) return;
  if (pitch == 0) pitch = width;
  const auto* first = static_cast<const std::byte*>(p) + y * pitch + x;
  for (size_t row = 0; row < height; ++row) fn(first + row * pitch, width);
}
template <class F>
inline void host_data(Entry, F&& fn, const CUDA_MEMCPY2D* c) {
  if (c == nullptr) return;
  host_rows(fn, host_of(c->srcMemoryType, c->srcHost, c->srcDevice), c->srcXInBytes, c->srcY,
            c->srcPitch, c->WidthInBytes, c->Height);
}
template <class F>
inline void host_data(Entry e, F&& fn, const CUDA_MEMCPY2D* c, CUstream) {
  host_data(e, fn, c);
}
template <class F, class Copy>
inline void host_volume(F& fn, const Copy* c) {
  if (c == nullptr) return;
  const void* p = host_of(c->srcMemoryType, c->srcHost, c->srcDevice);
  const size_t pitch = c->srcPitch != 0 ? c->srcPitch : c->WidthInBytes;
  const size_t slice = pitch * (c->srcHeight != 0 ? c->srcHeight : c->Height);
  for (size_t z = 0; p != nullptr && z < c->Depth; ++z) {
    host_rows(fn, static_cast<const std::byte*>(p) + (c->srcZ + z) * slice, c->srcXInBytes, c->srcY,
              pitch, c->WidthInBytes, c->Height);
  }
}
template <class F>
inline void host_data(Entry, F&& fn, const CUDA_MEMCPY3D* c) {
  host_volume(fn, c);
}
template <class F>
inline void host_data(Entry, F&& fn, const CUDA_MEMCPY3D* c, CUstream) {
  host_volume(fn, c);
}
template <class F>
inline void host_data(Entry, F&& fn, const CUDA_MEMCPY3D_PEER* c) {
  host_volume(fn, c);
}
template <class F>
inline void host_data(Entry, F&& fn, const CUDA_MEMCPY3D_PEER* c, CUstream) {
  host_volume(fn, c);
}

// Batches.
template <class F>
inline void host_data(Entry, F&& fn, CUdeviceptr*, CUdeviceptr* from, size_t* bytes, size_t count,
                      CUmemcpyAttributes*, size_t*, size_t, CUstream) {
  for (size_t i = 0; from != nullptr && bytes != nullptr && i < count; ++i)
    host_run(fn, reinterpret_cast<const void*>(from[i]), bytes[i]);
}
template <class F>
inline void host_data(Entry e, F&& fn, CUdeviceptr* to, CUdeviceptr* from, size_t* bytes,
                      size_t count, CUmemcpyAttributes* attributes, size_t* indices,
                      size_t attribute_count, size_t*, CUstream stream) {
  host_data(e, fn, to, from, bytes, count, attributes, indices, attribute_count, stream);
}
template <class F>
inline void host_data(Entry, F&& fn, size_t count, CUDA_MEMCPY3D_BATCH_OP* list, unsigned long long,
                      CUstream) {
  for (size_t i = 0; list != nullptr && i < count; ++i) {
    const CUDA_MEMCPY3D_BATCH_OP& op = list[i];
    if (op.src.type != CU_MEMCPY_OPERAND_TYPE_POINTER) continue;
    const auto& p = op.src.op.ptr;
    const size_t row = p.rowLength != 0 ? p.rowLength : op.extent.width;
    const size_t height = p.layerHeight != 0 ? p.layerHeight : op.extent.height;
    for (size_t z = 0; z < op.extent.depth; ++z) {
      host_rows(fn, reinterpret_cast<const std::byte*>(p.ptr) + z * row * height, 0, 0, row,
                op.extent.width, op.extent.height);
    }
  }
}
template <class F>
inline void host_data(Entry e, F&& fn, size_t count, CUDA_MEMCPY3D_BATCH_OP* list, size_t*,
                      unsigned long long flags, CUstream stream) {
  host_data(e, fn, count, list, flags, stream);
}

}  // namespace flexlom::heat
