#include "tests/simcuda/copy.hpp"
#include "tests/simcuda/memory.hpp"
#include "tests/simcuda/raw_memory.hpp"
#include "tests/simcuda/stream.hpp"

namespace flexlom::sim {

void check_memset(const CUDA_MEMSET_NODE_PARAMS& w) {
  require(w.elementSize == 1 || w.elementSize == 2 || w.elementSize == 4);
  if (!w.width || !w.height) return;
  require(w.dst && w.dst % w.elementSize == 0);
  require(w.width <= SIZE_MAX / w.elementSize / w.height);
  require(w.height == 1 || w.pitch >= w.width * w.elementSize);
  check_range(w.dst, (w.height - 1) * w.pitch + w.width * w.elementSize, true);
}

void run_memset(const CUDA_MEMSET_NODE_PARAMS& w) {
  for (size_t row = 0; row < w.height; ++row) {
    void* to = reinterpret_cast<void*>(w.dst + row * w.pitch);
    switch (w.elementSize) {
      case 1:
        raw_set8(to, static_cast<uint8_t>(w.value), w.width);
        break;
      case 2:
        raw_set16(to, static_cast<uint16_t>(w.value), w.width);
        break;
      default:
        raw_set32(to, w.value, w.width);
        break;
    }
  }
}

namespace {

CUDA_MEMSET_NODE_PARAMS make(CUdeviceptr to, size_t pitch, unsigned value, unsigned element_bytes,
                             size_t width, size_t height) {
  CUDA_MEMSET_NODE_PARAMS w{};
  w.dst = to;
  w.pitch = pitch;
  w.value = value;
  w.elementSize = element_bytes;
  w.width = width;
  w.height = height;
  return w;
}

// A synchronous memset does not wait either: for device memory the real one returns early too.
CUresult go(const Call& c, const CUDA_MEMSET_NODE_PARAMS& what, CUstream handle) {
  StreamRef stream = stream_of(c, handle);
  check_memset(what);
  if (what.width && what.height)
    check_reach(*stream->context, what.dst,
                (what.height - 1) * what.pitch + what.width * what.elementSize, true);
  if (what.width && what.height) submit(*stream, MemsetTask{what});
  return CUDA_SUCCESS;
}

template <unsigned element_bytes, class Value>
CUresult set(Call& c, CUdeviceptr to, Value value, size_t count) {
  return go(c, make(to, 0, value, element_bytes, count, 1), nullptr);
}
template <unsigned element_bytes, class Value>
CUresult set_async(Call& c, CUdeviceptr to, Value value, size_t count, CUstream s) {
  return go(c, make(to, 0, value, element_bytes, count, 1), s);
}
template <unsigned element_bytes, class Value>
CUresult set_2d(Call& c, CUdeviceptr to, size_t pitch, Value value, size_t width, size_t height) {
  return go(c, make(to, pitch, value, element_bytes, width, height), nullptr);
}
template <unsigned element_bytes, class Value>
CUresult set_2d_async(Call& c, CUdeviceptr to, size_t pitch, Value value, size_t width,
                      size_t height, CUstream s) {
  return go(c, make(to, pitch, value, element_bytes, width, height), s);
}

constexpr auto set8 = set<1, unsigned char>;
constexpr auto set16 = set<2, unsigned short>;
constexpr auto set32 = set<4, unsigned>;
constexpr auto set8_async = set_async<1, unsigned char>;
constexpr auto set16_async = set_async<2, unsigned short>;
constexpr auto set32_async = set_async<4, unsigned>;
constexpr auto set8_2d = set_2d<1, unsigned char>;
constexpr auto set16_2d = set_2d<2, unsigned short>;
constexpr auto set32_2d = set_2d<4, unsigned>;
constexpr auto set8_2d_async = set_2d_async<1, unsigned char>;
constexpr auto set16_2d_async = set_2d_async<2, unsigned short>;
constexpr auto set32_2d_async = set_2d_async<4, unsigned>;

}  // namespace
}  // namespace flexlom::sim

using namespace flexlom::sim;
SIM_EXPORT_PTDS(cuMemsetD8_v2, set8);
SIM_EXPORT_PTDS(cuMemsetD16_v2, set16);
SIM_EXPORT_PTDS(cuMemsetD32_v2, set32);
SIM_EXPORT_PTDS(cuMemsetD2D8_v2, set8_2d);
SIM_EXPORT_PTDS(cuMemsetD2D16_v2, set16_2d);
SIM_EXPORT_PTDS(cuMemsetD2D32_v2, set32_2d);
SIM_EXPORT_PTSZ(cuMemsetD8Async, set8_async);
SIM_EXPORT_PTSZ(cuMemsetD16Async, set16_async);
SIM_EXPORT_PTSZ(cuMemsetD32Async, set32_async);
SIM_EXPORT_PTSZ(cuMemsetD2D8Async, set8_2d_async);
SIM_EXPORT_PTSZ(cuMemsetD2D16Async, set16_2d_async);
SIM_EXPORT_PTSZ(cuMemsetD2D32Async, set32_2d_async);
