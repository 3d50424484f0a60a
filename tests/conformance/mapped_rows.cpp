// Memory that a program makes, reserves and maps for itself: what it is told of it, and which calls
// are refused.
#include <unistd.h>

#include <array>

#include "tests/conformance/driver.hpp"

namespace flexlom::conformance {
namespace {

constexpr uint64_t kRange = 256 * kMiB;

struct Memory {
  CUdeviceptr p = 0;
  std::array<CUmemGenericAllocationHandle, 3> handles{};
  static constexpr std::array<uint64_t, 3> kBytes = {8 * kMiB, 4 * kMiB, 20 * kMiB};

  explicit Memory(CUmemAllocationHandleType types = CU_MEM_HANDLE_TYPE_NONE) {
    CUmemAllocationProp props = {};
    props.type = CU_MEM_ALLOCATION_TYPE_PINNED;
    props.location = device_location(0);
    props.requestedHandleTypes = types;
    must(CU(cuMemAddressReserve)(&p, kRange, 0, 0, 0), "cuMemAddressReserve");
    for (size_t i = 0; i < handles.size(); ++i)
      must(CU(cuMemCreate)(&handles[i], kBytes[i], &props, 0), "cuMemCreate");
  }
  CUresult map(uint64_t at, size_t which) const {
    return CU(cuMemMap)(p + at, kBytes[which], 0, handles[which], 0);
  }
  CUresult open(uint64_t at, uint64_t bytes,
                CUmemAccess_flags flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE) const {
    const CUmemAccessDesc access = {device_location(0), flags};
    return CU(cuMemSetAccess)(p + at, bytes, &access, 1);
  }
  std::string access(uint64_t at) const {
    CUmemLocation here = device_location(0);
    unsigned long long flags = 77;
    const CUresult result = CU(cuMemGetAccess)(&flags, &here, p + at);
    return result_and(result, fmt::format("{}", flags));
  }
  std::string attribute(CUpointer_attribute which, uint64_t at) const {
    uint64_t value[2] = {0, 0};
    const CUresult result = CU(cuPointerGetAttribute)(value, which, p + at);
    const bool place = which == CU_POINTER_ATTRIBUTE_DEVICE_POINTER ||
                       which == CU_POINTER_ATTRIBUTE_RANGE_START_ADDR ||
                       which == CU_POINTER_ATTRIBUTE_MAPPING_BASE_ADDR;
    return result_and(
        result, place ? fmt::format("+{}", size_name(value[0] - p)) : fmt::format("{}", value[0]));
  }
  std::string address_range(uint64_t at) const {
    CUdeviceptr base = 0;
    size_t bytes = 0;
    const CUresult result = CU(cuMemGetAddressRange)(&base, &bytes, p + at);
    return result_and(result, fmt::format("+{} {}", size_name(base - p), size_name(bytes)));
  }
  std::string retain(uint64_t at) const {
    CUmemGenericAllocationHandle again = 0;
    const CUresult result = CU(cuMemRetainAllocationHandle)(&again, host_address(p + at));
    for (size_t i = 0; result == CUDA_SUCCESS && i < handles.size(); ++i)
      if (handles[i] == again) return fmt::format("SUCCESS handle {}", i);
    return result_and(result, "another handle");
  }
};

void describe(const Memory& m, const std::string& name, uint64_t at) {
  for (const CUpointer_attribute which :
       {CU_POINTER_ATTRIBUTE_CONTEXT, CU_POINTER_ATTRIBUTE_MEMORY_TYPE,
        CU_POINTER_ATTRIBUTE_DEVICE_POINTER, CU_POINTER_ATTRIBUTE_HOST_POINTER,
        CU_POINTER_ATTRIBUTE_IS_MANAGED, CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL,
        CU_POINTER_ATTRIBUTE_IS_LEGACY_CUDA_IPC_CAPABLE, CU_POINTER_ATTRIBUTE_RANGE_START_ADDR,
        CU_POINTER_ATTRIBUTE_RANGE_SIZE, CU_POINTER_ATTRIBUTE_MAPPED,
        CU_POINTER_ATTRIBUTE_ALLOWED_HANDLE_TYPES, CU_POINTER_ATTRIBUTE_IS_GPU_DIRECT_RDMA_CAPABLE,
        CU_POINTER_ATTRIBUTE_ACCESS_FLAGS, CU_POINTER_ATTRIBUTE_MEMPOOL_HANDLE,
        CU_POINTER_ATTRIBUTE_MAPPING_SIZE, CU_POINTER_ATTRIBUTE_MAPPING_BASE_ADDR})
    row(fmt::format("{}.attribute_{}", name, static_cast<int>(which)),
        [&] { return m.attribute(which, at); });
  row(name + ".address_range", [&] { return m.address_range(at); });
  row(name + ".access", [&] { return m.access(at); });
  row(name + ".retain", [&] { return m.retain(at); });
}

CONFORMANCE_GROUP(mapped_asking, 120) {
  Gpu gpu;
  const Memory m;
  describe(m, "reserved", 0);
  must(m.map(0, 0), "cuMemMap");
  must(m.map(8 * kMiB, 1), "cuMemMap");
  describe(m, "closed", 64);
  must(m.open(0, 12 * kMiB), "cuMemSetAccess");
  describe(m, "open", 64);
  describe(m, "second", 9 * kMiB);
  describe(m, "behind", 12 * kMiB);
  must(m.open(0, 8 * kMiB, CU_MEM_ACCESS_FLAGS_PROT_READ), "cuMemSetAccess");
  describe(m, "read_only", 64);
  must(m.open(0, 8 * kMiB, CU_MEM_ACCESS_FLAGS_PROT_NONE), "cuMemSetAccess");
  describe(m, "closed_again", 64);
  must(CU(cuMemUnmap)(m.p, 12 * kMiB), "cuMemUnmap");
  describe(m, "unmapped", 64);
}

CONFORMANCE_GROUP(mapped_refusals, 120) {
  Gpu gpu;
  const Memory m;
  CUdeviceptr other = 0;
  row("reserve_alignment_3MiB",
      [&] { return CU(cuMemAddressReserve)(&other, 4 * kMiB, 3 * kMiB, 0, 0); });
  row("reserve_1MiB", [&] { return CU(cuMemAddressReserve)(&other, kMiB, 0, 0, 0); });
  row("reserve_0", [&] { return CU(cuMemAddressReserve)(&other, 0, 0, 0, 0); });
  row("reserve_flags", [&] { return CU(cuMemAddressReserve)(&other, 4 * kMiB, 0, 0, 1); });
  row("reserve_aligned", [&] {
    const CUresult result = CU(cuMemAddressReserve)(&other, 4 * kMiB, 64 * kMiB, 0, 0);
    return result_and(result, fmt::format("{}", other % (64 * kMiB)));
  });
  row("map_part", [&] { return CU(cuMemMap)(m.p, 4 * kMiB, 0, m.handles[0], 0); });
  row("map_more", [&] { return CU(cuMemMap)(m.p, 16 * kMiB, 0, m.handles[0], 0); });
  row("map_offset", [&] { return CU(cuMemMap)(m.p, 6 * kMiB, 2 * kMiB, m.handles[0], 0); });
  row("map_odd", [&] { return CU(cuMemMap)(m.p + kMiB, 8 * kMiB, 0, m.handles[0], 0); });
  row("map_flags", [&] { return CU(cuMemMap)(m.p, 8 * kMiB, 0, m.handles[0], 1); });
  row("map_size_0", [&] { return CU(cuMemMap)(m.p, 0, 0, m.handles[0], 0); });
  row("access_of_nothing", [&] { return m.open(0, 8 * kMiB); });
  row("map", [&] { return m.map(0, 0); });
  row("map_second", [&] { return m.map(8 * kMiB, 1); });
  row("map_over", [&] { return m.map(0, 1); });
  row("map_into", [&] { return m.map(4 * kMiB, 1); });
  row("access_part", [&] { return m.open(0, 4 * kMiB); });
  row("access_beyond", [&] { return m.open(0, 16 * kMiB); });
  row("access_size_0", [&] { return m.open(0, 0); });
  row("access_count_0", [&] { return CU(cuMemSetAccess)(m.p, 8 * kMiB, nullptr, 0); });
  row("access_device_9", [&] {
    const CUmemAccessDesc access = {device_location(9), CU_MEM_ACCESS_FLAGS_PROT_READWRITE};
    return CU(cuMemSetAccess)(m.p, 8 * kMiB, &access, 1);
  });
  row("access_twice", [&] {
    const CUmemAccessDesc access[2] = {{device_location(0), CU_MEM_ACCESS_FLAGS_PROT_READWRITE},
                                       {device_location(0), CU_MEM_ACCESS_FLAGS_PROT_READ}};
    const CUresult result = CU(cuMemSetAccess)(m.p, 8 * kMiB, access, 2);
    return result_name(result) + " " + m.access(0);
  });
  row("access", [&] { return m.open(0, 12 * kMiB); });
  row("set_over_both", [&] { return CU(cuMemsetD8)(m.p + 4 * kMiB, 7, 7 * kMiB); });
  row("set_beyond", [&] { return CU(cuMemsetD8)(m.p + 4 * kMiB, 7, 9 * kMiB); });
  // Unmapping does not wait for work.
  row("wait", [&] { return CU(cuCtxSynchronize)(); });
  row("free", [&] { return CU(cuMemFree)(m.p); });
  row("free_async", [&] { return CU(cuMemFreeAsync)(m.p, nullptr); });
  row("ipc", [&] {
    CUipcMemHandle handle;
    return CU(cuIpcGetMemHandle)(&handle, m.p);
  });
  row("sync_memops", [&] {
    const unsigned on = 1;
    return CU(cuPointerSetAttribute)(&on, CU_POINTER_ATTRIBUTE_SYNC_MEMOPS, m.p);
  });
  row("host_register", [&] { return CU(cuMemHostRegister)(host_address(m.p), kMiB, 0); });
  row("export", [&] {
    int fd = -1;
    return CU(cuMemExportToShareableHandle)(&fd, m.handles[0],
                                            CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, 0);
  });
  row("unmap_part", [&] { return CU(cuMemUnmap)(m.p, 4 * kMiB); });
  row("unmap_part_of_second", [&] { return CU(cuMemUnmap)(m.p, 10 * kMiB); });
  row("unmap_inside", [&] { return CU(cuMemUnmap)(m.p + 2 * kMiB, 6 * kMiB); });
  row("unmap_size_0", [&] { return CU(cuMemUnmap)(m.p, 0); });
  row("release", [&] { return CU(cuMemRelease)(m.handles[0]); });
  row("release_again", [&] { return CU(cuMemRelease)(m.handles[0]); });
  row("retain_after_release", [&] { return m.retain(5 * kMiB); });
  row("release_retained", [&] { return CU(cuMemRelease)(m.handles[0]); });
  row("range_free_mapped", [&] { return CU(cuMemAddressFree)(m.p, kRange); });
  row("range_free_inside", [&] { return CU(cuMemAddressFree)(m.p + 2 * kMiB, kRange - 2 * kMiB); });
  row("unmap", [&] { return CU(cuMemUnmap)(m.p, 12 * kMiB); });
  row("range_free_part", [&] { return CU(cuMemAddressFree)(m.p, kRange / 2); });
  row("range_free", [&] { return CU(cuMemAddressFree)(m.p, kRange); });
  row("range_free_again", [&] { return CU(cuMemAddressFree)(m.p, kRange); });
}

// What another process could be given.
CONFORMANCE_GROUP(mapped_shareable, 120) {
  Gpu gpu;
  Kernels kernels;
  const Memory m(CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR);
  must(m.map(0, 0), "cuMemMap");
  must(m.map(8 * kMiB, 2), "cuMemMap");
  must(m.open(0, 28 * kMiB), "cuMemSetAccess");
  describe(m, "open", 64);
  row("properties", [&] {
    CUmemAllocationProp seen = {};
    const CUresult result = CU(cuMemGetAllocationPropertiesFromHandle)(&seen, m.handles[0]);
    return result_and(result, fmt::format("{}", static_cast<int>(seen.requestedHandleTypes)));
  });
  row("fill", [&] { return kernels.fill(m.p, 28 * kMiB, 3); });
  // 8 MiB and 20 MiB: what PyTorch's expandable segments are made of is the latter.
  for (const size_t which : {size_t{0}, size_t{2}}) {
    const uint64_t bytes = Memory::kBytes[which];
    const std::string name = size_name(bytes);
    int fd = -1;
    row(name + ".export_type_8", [&] {
      return CU(cuMemExportToShareableHandle)(&fd, m.handles[which],
                                              static_cast<CUmemAllocationHandleType>(8), 0);
    });
    row(name + ".export", [&] {
      return CU(cuMemExportToShareableHandle)(&fd, m.handles[which],
                                              CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, 0);
    });
    if (fd < 0) continue;
    CUmemGenericAllocationHandle seen = 0;
    row(name + ".import", [&] {
      return CU(cuMemImportFromShareableHandle)(&seen, host_address(static_cast<CUdeviceptr>(fd)),
                                                CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR);
    });
    close(fd);
    row(name + ".map_import", [&] { return CU(cuMemMap)(m.p + 64 * kMiB, bytes, 0, seen, 0); });
    row(name + ".open_import", [&] { return m.open(64 * kMiB, bytes); });
    row(name + ".range_of_import", [&] { return m.address_range(65 * kMiB); });
    row(name + ".same_memory", [&] {
      const CUresult filled = kernels.fill(m.p + 64 * kMiB, bytes, 9);
      return result_name(filled) + " " +
             kernels.contents(m.p + (which == 0 ? 0 : 8 * kMiB), bytes, 9);
    });
    row(name + ".unmap_import", [&] { return CU(cuMemUnmap)(m.p + 64 * kMiB, bytes); });
    row(name + ".release_import", [&] { return CU(cuMemRelease)(seen); });
  }
}

// More than one page of ours is exported all the same, as long as there is room.
CONFORMANCE_GROUP(mapped_several_pages, 120) {
  Gpu gpu;
  CUmemAllocationProp props = {};
  props.type = CU_MEM_ALLOCATION_TYPE_PINNED;
  props.location = device_location(0);
  props.requestedHandleTypes = CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR;
  for (const uint64_t bytes : {6 * kMiB, 12 * kMiB, 24 * kMiB}) {
    CUmemGenericAllocationHandle handle = 0;
    must(CU(cuMemCreate)(&handle, bytes, &props, 0), "cuMemCreate");
    row(size_name(bytes) + ".export", [&] {
      int fd = -1;
      const CUresult result = CU(cuMemExportToShareableHandle)(
          &fd, handle, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, 0);
      if (fd >= 0) close(fd);
      return result;
    });
    row(size_name(bytes) + ".release", [&] { return CU(cuMemRelease)(handle); });
  }
}

// Contents go with the frame, wherever and however often it is mapped.
CONFORMANCE_GROUP(mapped_contents, 120) {
  Gpu gpu;
  Kernels kernels;
  const Memory m;
  must(m.map(0, 0), "cuMemMap");
  must(m.map(8 * kMiB, 1), "cuMemMap");
  must(m.open(0, 12 * kMiB), "cuMemSetAccess");
  row("fill_both", [&] { return kernels.fill(m.p, 12 * kMiB, 3); });
  row("both", [&] { return kernels.contents(m.p, 12 * kMiB, 3); });
  row("fill_first", [&] { return kernels.fill(m.p, 8 * kMiB, 4); });
  must(CU(cuMemUnmap)(m.p, 12 * kMiB), "cuMemUnmap");
  must(m.map(64 * kMiB, 0), "cuMemMap");
  must(m.open(64 * kMiB, 8 * kMiB), "cuMemSetAccess");
  row("elsewhere", [&] { return kernels.contents(m.p + 64 * kMiB, 8 * kMiB, 4); });
  row("alias", [&] { return m.map(128 * kMiB, 0); });
  row("alias_access", [&] { return m.open(128 * kMiB, 8 * kMiB); });
  row("alias_contents", [&] { return kernels.contents(m.p + 128 * kMiB, 8 * kMiB, 4); });
  row("alias_fill", [&] { return kernels.fill(m.p + 128 * kMiB, 8 * kMiB, 5); });
  row("seen", [&] { return kernels.contents(m.p + 64 * kMiB, 8 * kMiB, 5); });
  describe(m, "alias", 129 * kMiB);
  row("unmap_first", [&] { return CU(cuMemUnmap)(m.p + 64 * kMiB, 8 * kMiB); });
  row("release", [&] { return CU(cuMemRelease)(m.handles[0]); });
  row("alias_alone", [&] { return kernels.contents(m.p + 128 * kMiB, 8 * kMiB, 5); });
  row("unmap_alias", [&] { return CU(cuMemUnmap)(m.p + 128 * kMiB, 8 * kMiB); });
}

}  // namespace
}  // namespace flexlom::conformance
