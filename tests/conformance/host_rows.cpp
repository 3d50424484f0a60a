// Pinned, registered and managed memory, which flexlom counts but does not own.
#include <cstdlib>

#include "tests/conformance/pointer_kinds.hpp"

namespace flexlom::conformance {
namespace {

CONFORMANCE_GROUP(host_device_pointer, 60) {
  Gpu gpu;
  for (const PointerKind& kind : make_pointer_kinds()) {
    row(kind.name + ".device_pointer", [&] {
      CUdeviceptr p = 77;
      const CUresult result = CU(cuMemHostGetDevicePointer)(&p, host_address(kind.p), 0);
      return result_and(result, p == kind.p ? "itself" : relation(p, kind.base, kind.bytes));
    });
    row(kind.name + ".flags", [&] {
      unsigned flags = 77;
      const CUresult result = CU(cuMemHostGetFlags)(&flags, host_address(kind.p));
      return result_and(result, fmt::format("{}", flags));
    });
  }
  row("null_out", [] { return CU(cuMemHostGetDevicePointer)(nullptr, nullptr, 0); });
}

CONFORMANCE_GROUP(host_alloc, 60) {
  Gpu gpu;
  for (unsigned flags : {0u, 1u, 2u, 3u, 4u, 7u, 8u, 99u}) {
    row(fmt::format("flags_{}", flags), [&] {
      void* p = nullptr;
      const CUresult result = CU(cuMemHostAlloc)(&p, 5000, flags);
      return result == CUDA_SUCCESS ? "SUCCESS, free " + result_name(CU(cuMemFreeHost)(p))
                                    : result_name(result);
    });
  }
  row("zero", [] {
    void* p = nullptr;
    return CU(cuMemHostAlloc)(&p, 0, 0);
  });
  row("huge", [] {
    void* p = nullptr;
    return CU(cuMemHostAlloc)(&p, uint64_t{1} << 50, 0);
  });
  row("null_out", [] { return CU(cuMemHostAlloc)(nullptr, 5000, 0); });
  row("alloc_host_zero", [] {
    void* p = nullptr;
    return CU(cuMemAllocHost)(&p, 0);
  });
  void* p = nullptr;
  must(CU(cuMemHostAlloc)(&p, 5000, 0), "cuMemHostAlloc");
  row("free_interior", [&] { return CU(cuMemFreeHost)(static_cast<char*>(p) + 64); });
  row("free", [&] { return CU(cuMemFreeHost)(p); });
  row("free_twice", [&] { return CU(cuMemFreeHost)(p); });
  row("free_malloc", [] { return CU(cuMemFreeHost)(std::malloc(100)); });
}

CONFORMANCE_GROUP(host_register, 60) {
  Gpu gpu;
  char* const p = static_cast<char*>(std::aligned_alloc(65536, 4 * kMiB));
  row("plain", [&] { return CU(cuMemHostRegister)(p, kMiB, 0); });
  row("twice", [&] { return CU(cuMemHostRegister)(p, kMiB, 0); });
  row("overlapping", [&] { return CU(cuMemHostRegister)(p + kMiB / 2, kMiB, 0); });
  row("interior_unregister", [&] { return CU(cuMemHostUnregister)(p + 4096); });
  row("unregister", [&] { return CU(cuMemHostUnregister)(p); });
  row("unregister_twice", [&] { return CU(cuMemHostUnregister)(p); });
  row("odd_address", [&] {
    const CUresult result = CU(cuMemHostRegister)(p + 100, 1000, 0);
    return result_name(result) + " " + result_name(CU(cuMemHostUnregister)(p + 100));
  });
  row("zero", [&] { return CU(cuMemHostRegister)(p, 0, 0); });
  row("null", [&] { return CU(cuMemHostRegister)(nullptr, kMiB, 0); });
  row("bad_flags", [&] { return CU(cuMemHostRegister)(p, kMiB, 0xff00); });
  row("unregister_null", [&] { return CU(cuMemHostUnregister)(nullptr); });
  row("device_memory",
      [&] { return CU(cuMemHostRegister)(host_address(allocate(3 * kMiB)), 3 * kMiB, 0); });
}

CONFORMANCE_GROUP(host_managed, 60) {
  Gpu gpu;
  Kernels kernels;
  CUdeviceptr p = 0;
  row("zero", [&] { return CU(cuMemAllocManaged)(&p, 0, CU_MEM_ATTACH_GLOBAL); });
  row("flags_0", [&] { return CU(cuMemAllocManaged)(&p, 5000, 0); });
  row("flags_9", [&] { return CU(cuMemAllocManaged)(&p, 5000, 9); });
  row("null_out", [&] { return CU(cuMemAllocManaged)(nullptr, 5000, CU_MEM_ATTACH_GLOBAL); });
  row("plain", [&] { return CU(cuMemAllocManaged)(&p, kMiB, CU_MEM_ATTACH_GLOBAL); });
  row("contents", [&] {
    kernels.fill(p, kMiB, 3);
    return kernels.contents(p, kMiB, 3);
  });
  row("free_async", [&] { return CU(cuMemFreeAsync)(p, nullptr); });
  row("free", [&] { return CU(cuMemFree)(p); });
}

// Arrays, textures and tensor maps over plain allocations.
CONFORMANCE_GROUP(host_arrays, 60) {
  Gpu gpu;
  Kernels kernels;
  CUDA_ARRAY_DESCRIPTOR shape = {256, 64, CU_AD_FORMAT_UNSIGNED_INT32, 1};
  CUarray array = nullptr;
  const uint64_t bytes = 256 * 64 * 4;
  const CUdeviceptr p = allocate(bytes);
  const CUdeviceptr q = allocate(bytes);
  must(kernels.fill(p, bytes, 8), "fill");
  row("create", [&] { return CU(cuArrayCreate)(&array, &shape); });
  row("create_null", [&] { return CU(cuArrayCreate)(nullptr, &shape); });
  row("there_and_back", [&]() -> std::string {
    if (array == nullptr) {
      return "no array";
    }
    CUDA_MEMCPY2D copy = {};
    copy.srcMemoryType = CU_MEMORYTYPE_DEVICE;
    copy.srcDevice = p;
    copy.dstMemoryType = CU_MEMORYTYPE_ARRAY;
    copy.dstArray = array;
    copy.srcPitch = copy.WidthInBytes = 1024;
    copy.Height = 64;
    std::string text = result_name(CU(cuMemcpy2D)(&copy));
    CUDA_MEMCPY2D back = {};
    back.srcMemoryType = CU_MEMORYTYPE_ARRAY;
    back.srcArray = array;
    back.dstMemoryType = CU_MEMORYTYPE_DEVICE;
    back.dstDevice = q;
    back.dstPitch = back.WidthInBytes = 1024;
    back.Height = 64;
    text += " " + result_name(CU(cuMemcpy2D)(&back));
    return text + " " + kernels.contents(q, bytes, 8);
  });
  row("destroy", [&] { return CU(cuArrayDestroy)(array); });
  CUDA_RESOURCE_DESC resource = {};
  CUDA_TEXTURE_DESC texture = {};
  row("texture_linear", [&] {
    resource.resType = CU_RESOURCE_TYPE_LINEAR;
    resource.res.linear.devPtr = p;
    resource.res.linear.format = CU_AD_FORMAT_UNSIGNED_INT32;
    resource.res.linear.numChannels = 1;
    resource.res.linear.sizeInBytes = bytes;
    CUtexObject object = 0;
    const CUresult result = CU(cuTexObjectCreate)(&object, &resource, &texture, nullptr);
    return result == CUDA_SUCCESS ? "SUCCESS " + result_name(CU(cuTexObjectDestroy)(object))
                                  : result_name(result);
  });
  row("texture_pitch", [&] {
    resource = {};
    resource.resType = CU_RESOURCE_TYPE_PITCH2D;
    resource.res.pitch2D.devPtr = p;
    resource.res.pitch2D.format = CU_AD_FORMAT_UNSIGNED_INT32;
    resource.res.pitch2D.numChannels = 1;
    resource.res.pitch2D.width = 256;
    resource.res.pitch2D.height = 64;
    resource.res.pitch2D.pitchInBytes = 1024;
    CUtexObject object = 0;
    const CUresult result = CU(cuTexObjectCreate)(&object, &resource, &texture, nullptr);
    return result == CUDA_SUCCESS ? "SUCCESS " + result_name(CU(cuTexObjectDestroy)(object))
                                  : result_name(result);
  });
  row("tensor_map", [&] {
    CUtensorMap map;
    const cuuint64_t dims[] = {256, 64};
    const cuuint64_t strides[] = {1024};
    const cuuint32_t box[] = {32, 8};
    const cuuint32_t steps[] = {1, 1};
    const CUresult result = CU(cuTensorMapEncodeTiled)(
        &map, CU_TENSOR_MAP_DATA_TYPE_UINT32, 2, host_address(p), dims, strides, box, steps,
        CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_NONE, CU_TENSOR_MAP_L2_PROMOTION_NONE,
        CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
    return result_and(result, map.opaque[0] == p ? "address in word 0" : "address elsewhere");
  });
}

}  // namespace
}  // namespace flexlom::conformance
