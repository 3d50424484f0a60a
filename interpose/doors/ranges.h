// Copies and fills that leave their allocation, refused as the driver refuses them.
//
// The driver checks a copy against the bounds of the allocation it touches. For pages of ours it
// only sees mappings: a copy past the end would reach a neighbour, or fault and take the context
// with it. So the submissions whose prototypes name addresses and lengths are checked here, by
// type: every function with one of these prototypes means the same by it.
#pragma once

#include <cuda.h>

#include <cstddef>

namespace flexlom::doors {

// Whether [p, p + bytes) lies in one live allocation; true for addresses that are not the pool's.
bool range_valid(CUdeviceptr p, size_t bytes) noexcept;

// rows of `width` bytes, `pitch` apart, starting at p
inline bool rows_valid(CUdeviceptr p, size_t pitch, size_t width, size_t height) noexcept {
  if (width == 0 || height == 0) return true;
  size_t span = 0;
  if (__builtin_mul_overflow(pitch, height - 1, &span) ||
      __builtin_add_overflow(span, width, &span)) {
    return range_valid(p, ~size_t{0});
  }
  return range_valid(p, span);
}

template <class... A>
inline bool arguments_valid(const A&...) noexcept {
  return true;
}

// cuMemcpyHtoD, cuMemcpyDtoH, cuMemcpyDtoD and cuMemcpy, and the Async forms.
inline bool arguments_valid(CUdeviceptr to, const void*, size_t n) noexcept {
  return range_valid(to, n);
}
inline bool arguments_valid(CUdeviceptr to, const void*, size_t n, CUstream) noexcept {
  return range_valid(to, n);
}
inline bool arguments_valid(void*, CUdeviceptr from, size_t n) noexcept {
  return range_valid(from, n);
}
inline bool arguments_valid(void*, CUdeviceptr from, size_t n, CUstream) noexcept {
  return range_valid(from, n);
}
inline bool arguments_valid(CUdeviceptr to, CUdeviceptr from, size_t n) noexcept {
  return range_valid(to, n) && range_valid(from, n);
}
inline bool arguments_valid(CUdeviceptr to, CUdeviceptr from, size_t n, CUstream) noexcept {
  return range_valid(to, n) && range_valid(from, n);
}
inline bool arguments_valid(CUdeviceptr to, CUcontext, CUdeviceptr from, CUcontext,
                            size_t n) noexcept {
  return range_valid(to, n) && range_valid(from, n);
}
inline bool arguments_valid(CUdeviceptr to, CUcontext, CUdeviceptr from, CUcontext, size_t n,
                            CUstream) noexcept {
  return range_valid(to, n) && range_valid(from, n);
}

// cuMemsetD8, D16, D32: the count is of elements; cuMemsetD2D*: rows.
template <class T>
inline bool fill_valid(CUdeviceptr p, size_t count) noexcept {
  size_t bytes = 0;
  return range_valid(p, __builtin_mul_overflow(count, sizeof(T), &bytes) ? ~size_t{0} : bytes);
}
#define FLEXLOM_FILL(T)                                                                            \
  inline bool arguments_valid(CUdeviceptr p, T, size_t n) noexcept { return fill_valid<T>(p, n); } \
  inline bool arguments_valid(CUdeviceptr p, T, size_t n, CUstream) noexcept {                     \
    return fill_valid<T>(p, n);                                                                    \
  }                                                                                                \
  inline bool arguments_valid(CUdeviceptr p, size_t pitch, T, size_t width,                        \
                              size_t height) noexcept {                                            \
    return rows_valid(p, pitch, width * sizeof(T), height);                                        \
  }                                                                                                \
  inline bool arguments_valid(CUdeviceptr p, size_t pitch, T, size_t width, size_t height,         \
                              CUstream) noexcept {                                                 \
    return rows_valid(p, pitch, width * sizeof(T), height);                                        \
  }
FLEXLOM_FILL(unsigned char)
FLEXLOM_FILL(unsigned short)
FLEXLOM_FILL(unsigned int)
#undef FLEXLOM_FILL

// cuMemcpy2D: a pitch of 0 means rows without gaps.
inline bool side_valid(CUmemorytype type, CUdeviceptr device, size_t x, size_t y, size_t pitch,
                       size_t width, size_t height) noexcept {
  if (type != CU_MEMORYTYPE_DEVICE && type != CU_MEMORYTYPE_UNIFIED) return true;
  if (pitch == 0) pitch = width;
  return rows_valid(device + y * pitch + x, pitch, width, height);
}
inline bool arguments_valid(const CUDA_MEMCPY2D* c) noexcept {
  return c == nullptr || (side_valid(c->srcMemoryType, c->srcDevice, c->srcXInBytes, c->srcY,
                                     c->srcPitch, c->WidthInBytes, c->Height) &&
                          side_valid(c->dstMemoryType, c->dstDevice, c->dstXInBytes, c->dstY,
                                     c->dstPitch, c->WidthInBytes, c->Height));
}
inline bool arguments_valid(const CUDA_MEMCPY2D* c, CUstream) noexcept {
  return arguments_valid(c);
}

}  // namespace flexlom::doors
