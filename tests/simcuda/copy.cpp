// Copies. Every form becomes a 3D copy between two addresses, run on a stream thread.
#include <algorithm>
#include <cstring>

#include "tests/simcuda/array.hpp"
#include "tests/simcuda/copy.hpp"
#include "tests/simcuda/memory.hpp"
#include "tests/simcuda/raw_memory.hpp"
#include "tests/simcuda/stream.hpp"
#include "tests/simcuda/vmm.hpp"

namespace flexlom::sim {
namespace {

enum class Side { host, device, unified };

// The bytes from the first to the last that a side of the copy touches.
size_t span(size_t pitch, size_t height, const CUDA_MEMCPY3D& w) {
  if (!w.WidthInBytes || !w.Height || !w.Depth) return 0;
  return ((w.Depth - 1) * height + w.Height - 1) * pitch + w.WidthInBytes;
}

CUdeviceptr origin(CUmemorytype type, const void* host, CUdeviceptr device) {
  switch (type) {
    case CU_MEMORYTYPE_HOST:
      return reinterpret_cast<CUdeviceptr>(host);
    case CU_MEMORYTYPE_DEVICE:
    case CU_MEMORYTYPE_UNIFIED:
      return device;
    case CU_MEMORYTYPE_ARRAY:
      break;
  }
  fail(CUDA_ERROR_INVALID_VALUE);
}

void check_inside(const Array& array, size_t x, size_t y, size_t z, const CUDA_MEMCPY3D& w) {
  const size_t rows = std::max<size_t>(array.shape.Height, 1);
  const size_t slices = std::max<size_t>(array.shape.Depth, 1);
  require(x <= array.row_bytes && w.WidthInBytes <= array.row_bytes - x);
  require(y <= rows && w.Height <= rows - y);
  require(z <= slices && w.Depth <= slices - z);
}

CUDA_MEMCPY3D linear(CUdeviceptr to, Side to_side, CUdeviceptr from, Side from_side, size_t bytes) {
  const auto type = [](Side side) {
    return side == Side::host     ? CU_MEMORYTYPE_HOST
           : side == Side::device ? CU_MEMORYTYPE_DEVICE
                                  : CU_MEMORYTYPE_UNIFIED;
  };
  CUDA_MEMCPY3D w{};
  w.dstMemoryType = type(to_side);
  w.dstDevice = to;
  w.dstHost = reinterpret_cast<void*>(to);
  w.srcMemoryType = type(from_side);
  w.srcDevice = from;
  w.srcHost = reinterpret_cast<const void*>(from);
  w.WidthInBytes = bytes;
  w.Height = w.Depth = 1;
  return w;
}

CUDA_MEMCPY3D from_2d(const CUDA_MEMCPY2D& p) {
  CUDA_MEMCPY3D w{};
  w.srcXInBytes = p.srcXInBytes;
  w.srcY = p.srcY;
  w.srcMemoryType = p.srcMemoryType;
  w.srcHost = p.srcHost;
  w.srcDevice = p.srcDevice;
  w.srcArray = p.srcArray;
  w.srcPitch = p.srcPitch;
  w.dstXInBytes = p.dstXInBytes;
  w.dstY = p.dstY;
  w.dstMemoryType = p.dstMemoryType;
  w.dstHost = p.dstHost;
  w.dstDevice = p.dstDevice;
  w.dstArray = p.dstArray;
  w.dstPitch = p.dstPitch;
  w.WidthInBytes = p.WidthInBytes;
  w.Height = p.Height;
  w.Depth = 1;
  return w;
}

// The peer form differs only in naming contexts, which unified addresses make needless.
CUDA_MEMCPY3D from_peer(const CUDA_MEMCPY3D_PEER& p) {
  static_assert(sizeof(CUDA_MEMCPY3D_PEER) == sizeof(CUDA_MEMCPY3D));
  CUDA_MEMCPY3D w;
  memcpy(&w, &p, sizeof w);
  w.reserved0 = w.reserved1 = nullptr;
  return w;
}

constexpr unsigned char kDevicePlace = 1, kHostPlace = 2;
unsigned char places_of(CUdeviceptr address, size_t bytes) {
  unsigned char places = 0;
  std::lock_guard guard(state().memory_lock);
  const CUdeviceptr end = address + bytes;
  while (address < end) {
    if (const Mapping* mapping = mapping_at(address)) {
      places |= mapping->handle->on_device() ? kDevicePlace : kHostPlace;
      address = mapping->address + mapping->bytes;
    } else {
      const Allocation* allocation = allocation_at(address);
      if (allocation && allocation->kind == Kind::device) places |= kDevicePlace;
      break;
    }
  }
  return places;
}

// `peer`: the forms that name two contexts need no access.
CUresult go(const Call& c, const CUDA_MEMCPY3D& what, CUstream handle, bool wait,
            bool peer = false) {
  StreamRef stream = stream_of(c, handle);
  CUDA_MEMCPY3D w = checked_copy(what);
  if (!w.WidthInBytes || !w.Height || !w.Depth) return CUDA_SUCCESS;
  const auto reached = [&](CUdeviceptr at, size_t bytes) {
    if (!peer || places_of(at, bytes) == kHostPlace)
      check_reach(*stream->context, at, bytes, false);
  };
  reached(w.srcDevice, span(w.srcPitch, w.srcHeight, w));
  reached(w.dstDevice, span(w.dstPitch, w.dstHeight, w));
  if (wait) {
    submit_and_wait(*stream, CopyTask{w});
  } else {
    submit(*stream, CopyTask{w});
  }
  return CUDA_SUCCESS;
}
CUdeviceptr address(const void* host) { return reinterpret_cast<CUdeviceptr>(host); }

CUresult htod(Call& c, CUdeviceptr to, const void* from, size_t n) {
  return go(c, linear(to, Side::device, address(from), Side::host, n), nullptr, true);
}
CUresult dtoh(Call& c, void* to, CUdeviceptr from, size_t n) {
  return go(c, linear(address(to), Side::host, from, Side::device, n), nullptr, true);
}
CUresult dtod(Call& c, CUdeviceptr to, CUdeviceptr from, size_t n) {
  return go(c, linear(to, Side::device, from, Side::device, n), nullptr, true);
}
CUresult htod_async(Call& c, CUdeviceptr to, const void* from, size_t n, CUstream s) {
  return go(c, linear(to, Side::device, address(from), Side::host, n), s, false);
}
CUresult dtoh_async(Call& c, void* to, CUdeviceptr from, size_t n, CUstream s) {
  return go(c, linear(address(to), Side::host, from, Side::device, n), s, false);
}
CUresult dtod_async(Call& c, CUdeviceptr to, CUdeviceptr from, size_t n, CUstream s) {
  return go(c, linear(to, Side::device, from, Side::device, n), s, false);
}
CUresult unified(Call& c, CUdeviceptr to, CUdeviceptr from, size_t n) {
  return go(c, linear(to, Side::unified, from, Side::unified, n), nullptr, true);
}
CUresult unified_async(Call& c, CUdeviceptr to, CUdeviceptr from, size_t n, CUstream s) {
  return go(c, linear(to, Side::unified, from, Side::unified, n), s, false);
}
CUresult peer(Call& c, CUdeviceptr to, CUcontext to_context, CUdeviceptr from,
              CUcontext from_context, size_t n) {
  context_of(to_context);
  context_of(from_context);
  return go(c, linear(to, Side::unified, from, Side::unified, n), nullptr, true, true);
}
CUresult peer_async(Call& c, CUdeviceptr to, CUcontext to_context, CUdeviceptr from,
                    CUcontext from_context, size_t n, CUstream s) {
  context_of(to_context);
  context_of(from_context);
  return go(c, linear(to, Side::unified, from, Side::unified, n), s, false, true);
}
CUresult copy_2d(Call& c, const CUDA_MEMCPY2D* p) {
  require(p);
  return go(c, from_2d(*p), nullptr, true);
}
CUresult copy_2d_async(Call& c, const CUDA_MEMCPY2D* p, CUstream s) {
  require(p);
  return go(c, from_2d(*p), s, false);
}
CUresult copy_3d(Call& c, const CUDA_MEMCPY3D* p) {
  require(p);
  return go(c, *p, nullptr, true);
}
CUresult copy_3d_async(Call& c, const CUDA_MEMCPY3D* p, CUstream s) {
  require(p);
  return go(c, *p, s, false);
}
CUresult copy_3d_peer(Call& c, const CUDA_MEMCPY3D_PEER* p) {
  require(p);
  return go(c, from_peer(*p), nullptr, true, true);
}
CUresult copy_3d_peer_async(Call& c, const CUDA_MEMCPY3D_PEER* p, CUstream s) {
  require(p);
  return go(c, from_peer(*p), s, false, true);
}

// The batch form refuses the NULL stream; the copies of a batch have no order, so one after the
// other is allowed.
CUresult batch_v2(Call& c, CUdeviceptr* to, CUdeviceptr* from, size_t* bytes, size_t count,
                  CUmemcpyAttributes* attributes, size_t* first_uses, size_t attribute_count,
                  CUstream s) {
  require(to && from && bytes && count && attributes && first_uses && attribute_count);
  require(s && s != CU_STREAM_LEGACY);
  for (size_t i = 0; i < count; ++i) unified_async(c, to[i], from[i], bytes[i], s);
  return CUDA_SUCCESS;
}
CUresult batch(Call& c, CUdeviceptr* to, CUdeviceptr* from, size_t* bytes, size_t count,
               CUmemcpyAttributes* attributes, size_t* first_uses, size_t attribute_count,
               size_t* fail_index, CUstream s) {
  if (fail_index) *fail_index = SIZE_MAX;
  return batch_v2(c, to, from, bytes, count, attributes, first_uses, attribute_count, s);
}

}  // namespace

void note_places(Task& task) {
  auto* copy = std::get_if<CopyTask>(&task);
  if (!copy) return;
  const CUDA_MEMCPY3D& w = copy->what;
  copy->source = places_of(w.srcDevice, span(w.srcPitch, w.srcHeight, w));
  copy->target = places_of(w.dstDevice, span(w.dstPitch, w.dstHeight, w));
}

CUDA_MEMCPY3D checked_copy(const CUDA_MEMCPY3D& what) {
  CUDA_MEMCPY3D w = what;
  if (!w.WidthInBytes || !w.Height || !w.Depth) return w;
  if (w.srcMemoryType == CU_MEMORYTYPE_ARRAY) {
    const Array array = array_of(w.srcArray);
    check_inside(array, w.srcXInBytes, w.srcY, w.srcZ, w);
    w.srcMemoryType = CU_MEMORYTYPE_DEVICE;
    w.srcDevice = array.address;
    w.srcPitch = array.row_bytes;
    w.srcHeight = array.shape.Height;
  }
  if (w.dstMemoryType == CU_MEMORYTYPE_ARRAY) {
    const Array array = array_of(w.dstArray);
    check_inside(array, w.dstXInBytes, w.dstY, w.dstZ, w);
    w.dstMemoryType = CU_MEMORYTYPE_DEVICE;
    w.dstDevice = array.address;
    w.dstPitch = array.row_bytes;
    w.dstHeight = array.shape.Height;
  }
  const bool flat = w.Height == 1 && w.Depth == 1;
  if (!w.srcPitch) w.srcPitch = w.srcXInBytes + w.WidthInBytes;
  if (!w.dstPitch) w.dstPitch = w.dstXInBytes + w.WidthInBytes;
  if (!w.srcHeight) w.srcHeight = w.Height;
  if (!w.dstHeight) w.dstHeight = w.Height;
  require(flat || (w.WidthInBytes + w.srcXInBytes <= w.srcPitch &&
                   w.WidthInBytes + w.dstXInBytes <= w.dstPitch));
  const auto start = [](CUdeviceptr base, size_t x, size_t y, size_t z, size_t pitch,
                        size_t height) { return base + (z * height + y) * pitch + x; };
  w.srcDevice = start(origin(w.srcMemoryType, w.srcHost, w.srcDevice), w.srcXInBytes, w.srcY,
                      w.srcZ, w.srcPitch, w.srcHeight);
  w.dstDevice = start(origin(w.dstMemoryType, w.dstHost, w.dstDevice), w.dstXInBytes, w.dstY,
                      w.dstZ, w.dstPitch, w.dstHeight);
  require(w.srcDevice && w.dstDevice);
  check_range(w.srcDevice, span(w.srcPitch, w.srcHeight, w),
              w.srcMemoryType == CU_MEMORYTYPE_DEVICE);
  check_range(w.dstDevice, span(w.dstPitch, w.dstHeight, w),
              w.dstMemoryType == CU_MEMORYTYPE_DEVICE);
  w.srcHost = reinterpret_cast<const void*>(w.srcDevice);
  w.dstHost = reinterpret_cast<void*>(w.dstDevice);
  w.srcXInBytes = w.srcY = w.srcZ = w.dstXInBytes = w.dstY = w.dstZ = 0;
  return w;
}

void run_copy(const CUDA_MEMCPY3D& w) {
  cost_us(static_cast<double>(w.WidthInBytes * w.Height * w.Depth) / 55400);
  for (size_t z = 0; z < w.Depth; ++z) {
    for (size_t y = 0; y < w.Height; ++y) {
      raw_copy(reinterpret_cast<void*>(w.dstDevice + (z * w.dstHeight + y) * w.dstPitch),
               reinterpret_cast<const void*>(w.srcDevice + (z * w.srcHeight + y) * w.srcPitch),
               w.WidthInBytes);
    }
  }
}

}  // namespace flexlom::sim

using namespace flexlom::sim;
SIM_EXPORT_PTDS(cuMemcpyHtoD_v2, htod);
SIM_EXPORT_PTDS(cuMemcpyDtoH_v2, dtoh);
SIM_EXPORT_PTDS(cuMemcpyDtoD_v2, dtod);
SIM_EXPORT_PTSZ(cuMemcpyHtoDAsync_v2, htod_async);
SIM_EXPORT_PTSZ(cuMemcpyDtoHAsync_v2, dtoh_async);
SIM_EXPORT_PTSZ(cuMemcpyDtoDAsync_v2, dtod_async);
SIM_EXPORT_PTDS(cuMemcpy, unified);
SIM_EXPORT_PTSZ(cuMemcpyAsync, unified_async);
SIM_EXPORT_PTDS(cuMemcpyPeer, peer);
SIM_EXPORT_PTSZ(cuMemcpyPeerAsync, peer_async);
SIM_EXPORT_PTDS(cuMemcpy2D_v2, copy_2d);
SIM_EXPORT_PTDS(cuMemcpy2DUnaligned_v2, copy_2d);
SIM_EXPORT_PTSZ(cuMemcpy2DAsync_v2, copy_2d_async);
SIM_EXPORT_PTDS(cuMemcpy3D_v2, copy_3d);
SIM_EXPORT_PTSZ(cuMemcpy3DAsync_v2, copy_3d_async);
SIM_EXPORT_PTDS(cuMemcpy3DPeer, copy_3d_peer);
SIM_EXPORT_PTSZ(cuMemcpy3DPeerAsync, copy_3d_peer_async);
SIM_EXPORT_PTSZ(cuMemcpyBatchAsync, batch);
SIM_EXPORT_PTSZ(cuMemcpyBatchAsync_v2, batch_v2);
