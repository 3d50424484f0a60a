// What a kernel launch names, and what the pieces of copies name that graphs share with streams.
//
// Nothing is read that the driver would not read for the same call: of parameter i exactly the
// bytes it has, and none at all of a launch that cannot succeed. Any thread, no locks after the
// first sight of a function.
#pragma once

#include <cuda.h>

#include "interpose/heat/named.h"

namespace flexlom::heat {

struct Shape {
  unsigned grid[3];
  unsigned block[3];
};

// `function`: CUfunction, or CUkernel cast to one. `params` and `extra` as in cuLaunchKernel (CUDA
// Driver API 6.24): one of the two. Adds to `named.work`.
void name_launch(Named& named, CUfunction function, const Shape& shape, void* const* params,
                 void* const* extra) noexcept;
// Of the launch attributes those that hold an address.
void name_attributes(Named& named, const CUlaunchAttribute* attributes, unsigned count) noexcept;

// Either side of a copy; what is no device memory falls outside the hull.
template <class Copy>  // CUDA_MEMCPY2D, CUDA_MEMCPY3D, CUDA_MEMCPY3D_PEER
inline void name_copy(Named& named, const Copy& copy) noexcept {
  const auto side = [&](CUmemorytype type, const void* host, CUdeviceptr device) {
    if (type == CU_MEMORYTYPE_DEVICE || type == CU_MEMORYTYPE_UNIFIED) named.add(device);
    // The driver looks at host addresses too, and takes a device's for what it is.
    if (type == CU_MEMORYTYPE_HOST) named.add(host);
  };
  side(copy.srcMemoryType, copy.srcHost, copy.srcDevice);
  side(copy.dstMemoryType, copy.dstHost, copy.dstDevice);
}
void name_operations(Named& named, const CUstreamBatchMemOpParams* list, size_t count) noexcept;

}  // namespace flexlom::heat
