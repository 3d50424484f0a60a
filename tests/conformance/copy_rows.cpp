// Every flavour of memcpy, contents verified, on small, large and stream-ordered memory.
#include <cstring>
#include <functional>
#include <vector>

#include "kernels/testing_host.h"
#include "tests/conformance/driver.hpp"

namespace flexlom::conformance {
namespace {

// A device source that holds the pattern, an empty device destination, host memory for either side.
struct Buffers {
  CUdeviceptr source = 0;
  CUdeviceptr target = 0;
  void* host_source = nullptr;
  void* host_target = nullptr;
  size_t bytes = 0;  // rows * pitch
  size_t pitch = 0;
  size_t rows = 0;
  CUstream stream = nullptr;
  CUcontext context = nullptr;
};

enum class Way { kHostToDevice, kDeviceToHost, kDeviceToDevice };

struct Flavour {
  const char* name;
  Way way;
  std::function<CUresult(const Buffers&, bool per_thread)> run;
};

// The ends of a copy, which the descriptions of planes and volumes name alike.
template <class Copy>
Copy between(const Buffers& b, Way way) {
  Copy copy = {};
  copy.srcMemoryType = way == Way::kHostToDevice ? CU_MEMORYTYPE_HOST : CU_MEMORYTYPE_DEVICE;
  copy.dstMemoryType = way == Way::kDeviceToHost ? CU_MEMORYTYPE_HOST : CU_MEMORYTYPE_DEVICE;
  copy.srcHost = b.host_source;
  copy.srcDevice = b.source;
  copy.dstHost = b.host_target;
  copy.dstDevice = b.target;
  copy.srcPitch = copy.dstPitch = copy.WidthInBytes = b.pitch;
  copy.Height = b.rows;
  return copy;
}

CUDA_MEMCPY2D plane(const Buffers& b, Way way) { return between<CUDA_MEMCPY2D>(b, way); }

template <class Copy = CUDA_MEMCPY3D>
Copy volume(const Buffers& b, Way way) {
  Copy copy = between<Copy>(b, way);
  copy.srcHeight = copy.dstHeight = copy.Height = b.rows / 2;
  copy.Depth = 2;
  return copy;
}

CUDA_MEMCPY3D_PEER peer_volume(const Buffers& b) {
  CUDA_MEMCPY3D_PEER copy = volume<CUDA_MEMCPY3D_PEER>(b, Way::kDeviceToDevice);
  copy.srcContext = copy.dstContext = b.context;
  return copy;
}

constexpr Way kAllWays[] = {Way::kHostToDevice, Way::kDeviceToHost, Way::kDeviceToDevice};

CUdeviceptr unified_source(const Buffers& b, Way way) {
  return way == Way::kHostToDevice ? device_address(b.host_source) : b.source;
}
CUdeviceptr unified_target(const Buffers& b, Way way) {
  return way == Way::kDeviceToHost ? device_address(b.host_target) : b.target;
}

std::vector<Flavour> one_dimension() {
  std::vector<Flavour> all = {
      {"HtoD", Way::kHostToDevice,
       [](const Buffers& b, bool t) {
         return CU_TWIN(cuMemcpyHtoD, t)(b.target, b.host_source, b.bytes);
       }},
      {"DtoH", Way::kDeviceToHost,
       [](const Buffers& b, bool t) {
         return CU_TWIN(cuMemcpyDtoH, t)(b.host_target, b.source, b.bytes);
       }},
      {"DtoD", Way::kDeviceToDevice,
       [](const Buffers& b, bool t) {
         return CU_TWIN(cuMemcpyDtoD, t)(b.target, b.source, b.bytes);
       }},
      {"HtoDAsync", Way::kHostToDevice,
       [](const Buffers& b, bool t) {
         return CU_TWIN(cuMemcpyHtoDAsync, t)(b.target, b.host_source, b.bytes, b.stream);
       }},
      {"DtoHAsync", Way::kDeviceToHost,
       [](const Buffers& b, bool t) {
         return CU_TWIN(cuMemcpyDtoHAsync, t)(b.host_target, b.source, b.bytes, b.stream);
       }},
      {"DtoDAsync", Way::kDeviceToDevice,
       [](const Buffers& b, bool t) {
         return CU_TWIN(cuMemcpyDtoDAsync, t)(b.target, b.source, b.bytes, b.stream);
       }},
      {"Peer", Way::kDeviceToDevice,
       [](const Buffers& b, bool t) {
         return CU_TWIN(cuMemcpyPeer, t)(b.target, b.context, b.source, b.context, b.bytes);
       }},
      {"PeerAsync", Way::kDeviceToDevice, [](const Buffers& b, bool t) {
         return CU_TWIN(cuMemcpyPeerAsync, t)(b.target, b.context, b.source, b.context, b.bytes,
                                              b.stream);
       }}};
  for (Way way : kAllWays) {
    all.push_back({"unified", way, [way](const Buffers& b, bool t) {
                     return CU_TWIN(cuMemcpy, t)(unified_target(b, way), unified_source(b, way),
                                                 b.bytes);
                   }});
    all.push_back({"unifiedAsync", way, [way](const Buffers& b, bool t) {
                     return CU_TWIN(cuMemcpyAsync, t)(unified_target(b, way),
                                                      unified_source(b, way), b.bytes, b.stream);
                   }});
  }
  return all;
}

std::vector<Flavour> more_dimensions() {
  std::vector<Flavour> all;
  for (Way way : kAllWays) {
    all.push_back({"2D", way, [way](const Buffers& b, bool t) {
                     const CUDA_MEMCPY2D copy = plane(b, way);
                     return CU_TWIN(cuMemcpy2D, t)(&copy);
                   }});
    all.push_back({"2DUnaligned", way, [way](const Buffers& b, bool t) {
                     const CUDA_MEMCPY2D copy = plane(b, way);
                     return CU_TWIN(cuMemcpy2DUnaligned, t)(&copy);
                   }});
    all.push_back({"2DAsync", way, [way](const Buffers& b, bool t) {
                     const CUDA_MEMCPY2D copy = plane(b, way);
                     return CU_TWIN(cuMemcpy2DAsync, t)(&copy, b.stream);
                   }});
    all.push_back({"3D", way, [way](const Buffers& b, bool t) {
                     const CUDA_MEMCPY3D copy = volume(b, way);
                     return CU_TWIN(cuMemcpy3D, t)(&copy);
                   }});
    all.push_back({"3DAsync", way, [way](const Buffers& b, bool t) {
                     const CUDA_MEMCPY3D copy = volume(b, way);
                     return CU_TWIN(cuMemcpy3DAsync, t)(&copy, b.stream);
                   }});
  }
  all.push_back({"3DPeer", Way::kDeviceToDevice, [](const Buffers& b, bool t) {
                   const CUDA_MEMCPY3D_PEER copy = peer_volume(b);
                   return CU_TWIN(cuMemcpy3DPeer, t)(&copy);
                 }});
  all.push_back({"3DPeerAsync", Way::kDeviceToDevice, [](const Buffers& b, bool t) {
                   const CUDA_MEMCPY3D_PEER copy = peer_volume(b);
                   return CU_TWIN(cuMemcpy3DPeerAsync, t)(&copy, b.stream);
                 }});
  all.push_back({"batch", Way::kDeviceToDevice, [](const Buffers& b, bool t) {
                   CUdeviceptr to[] = {b.target, b.target + b.bytes / 2};
                   CUdeviceptr from[] = {b.source, b.source + b.bytes / 2};
                   size_t sizes[] = {b.bytes / 2, b.bytes / 2};
                   CUmemcpyAttributes how = {};
                   how.srcAccessOrder = CU_MEMCPY_SRC_ACCESS_ORDER_STREAM;
                   size_t first = 0;
                   return CU_TWIN(cuMemcpyBatchAsync, t)(to, from, sizes, 2, &how, &first, 1,
                                                         b.stream);
                 }});
  return all;
}

std::string one_copy(const Kernels& kernels, const Buffers& b, const Flavour& flavour,
                     bool per_thread) {
  must(kernels.fill(b.source, b.bytes, 31), "fill");
  must(CU(cuMemsetD8)(b.target, 0, b.bytes), "cuMemsetD8");
  auto* const from = static_cast<uint32_t*>(b.host_source);
  for (size_t i = 0; i < b.bytes / 4; ++i) {
    from[i] = flexlom_testing_hash(31, i);
  }
  std::memset(b.host_target, 0, b.bytes);
  must(CU(cuCtxSynchronize)(), "cuCtxSynchronize");
  const CUresult result = flavour.run(b, per_thread);
  must(CU(cuCtxSynchronize)(), "cuCtxSynchronize");
  if (result != CUDA_SUCCESS) {
    return result_name(result);
  }
  if (flavour.way != Way::kDeviceToHost) {
    return kernels.contents(b.target, b.bytes, 31);
  }
  uint64_t wrong = 0;
  for (size_t i = 0; i < b.bytes / 4; ++i) {
    wrong += static_cast<const uint32_t*>(b.host_target)[i] != flexlom_testing_hash(31, i);
  }
  return wrong == 0 ? "right" : fmt::format("{} words wrong", wrong);
}

void copy_rows(const std::string& kind, const Kernels& kernels, const Buffers& buffers) {
  const char* const way_names[] = {"to_device", "to_host", "on_device"};
  std::vector<Flavour> flavours = one_dimension();
  for (Flavour& flavour : more_dimensions()) {
    flavours.push_back(std::move(flavour));
  }
  for (const Flavour& flavour : flavours) {
    for (bool per_thread : {false, true}) {
      row(fmt::format("{}.{}_{}{}", kind, flavour.name, way_names[static_cast<int>(flavour.way)],
                      per_thread ? ".per_thread" : ""),
          [&] { return one_copy(kernels, buffers, flavour, per_thread); });
    }
  }
}

Buffers host_side(const Gpu& gpu, size_t bytes, bool pinned) {
  Buffers buffers;
  buffers.context = gpu.context;
  buffers.rows = 8;
  buffers.pitch = bytes / 8;
  buffers.bytes = bytes;
  must(CU(cuStreamCreate)(&buffers.stream, CU_STREAM_NON_BLOCKING), "cuStreamCreate");
  if (pinned) {
    must(CU(cuMemHostAlloc)(&buffers.host_source, bytes, 0), "cuMemHostAlloc");
    must(CU(cuMemHostAlloc)(&buffers.host_target, bytes, 0), "cuMemHostAlloc");
  } else {
    buffers.host_source = std::malloc(bytes);
    buffers.host_target = std::malloc(bytes);
  }
  return buffers;
}

void allocated_rows(size_t bytes, bool pinned) {
  Gpu gpu;
  Kernels kernels;
  Buffers buffers = host_side(gpu, bytes, pinned);
  buffers.source = allocate(bytes);
  buffers.target = allocate(bytes);
  copy_rows(pinned ? "pinned" : "pageable", kernels, buffers);
}

CONFORMANCE_GROUP(copy_small, 120) { allocated_rows(64 * kKiB, false); }
CONFORMANCE_GROUP(copy_small_pinned, 120) { allocated_rows(64 * kKiB, true); }
CONFORMANCE_GROUP(copy_large, 240) { allocated_rows(large_bytes() / 2, false); }
CONFORMANCE_GROUP(copy_large_pinned, 240) { allocated_rows(large_bytes() / 2, true); }

CONFORMANCE_GROUP(copy_async_memory, 120) {
  Gpu gpu;
  Kernels kernels;
  Buffers buffers = host_side(gpu, kMiB, true);
  must(CU(cuMemAllocAsync)(&buffers.source, kMiB, buffers.stream), "cuMemAllocAsync");
  must(CU(cuMemAllocAsync)(&buffers.target, kMiB, buffers.stream), "cuMemAllocAsync");
  must(CU(cuStreamSynchronize)(buffers.stream), "cuStreamSynchronize");
  copy_rows("async", kernels, buffers);
}

}  // namespace
}  // namespace flexlom::conformance
