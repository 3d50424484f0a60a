// Virtual memory management, managed-memory hints and dma-buf on pointers of every kind: what a
// program gets when it treats plain allocations as if it had mapped them itself.
#include <unistd.h>

#include "tests/conformance/pointer_kinds.hpp"

namespace flexlom::conformance {
namespace {

CONFORMANCE_GROUP(vmm_on_pointers, 120) {
  Gpu gpu;
  for (const PointerKind& kind : make_pointer_kinds()) {
    row(kind.name + ".retain_handle", [&] {
      CUmemGenericAllocationHandle handle = 0;
      const CUresult result = CU(cuMemRetainAllocationHandle)(&handle, host_address(kind.p));
      return result == CUDA_SUCCESS ? "SUCCESS, release " + result_name(CU(cuMemRelease)(handle))
                                    : result_name(result);
    });
    row(kind.name + ".get_access", [&] {
      CUmemLocation here = device_location(0);
      unsigned long long flags = 77;
      const CUresult result = CU(cuMemGetAccess)(&flags, &here, kind.p);
      return result_and(result, fmt::format("{}", flags));
    });
  }
}

// Calls that would pull a mapping from under the allocator: all of them are refused.
CONFORMANCE_GROUP(vmm_attacks, 120) {
  Gpu gpu;
  Kernels kernels;
  CUmemAllocationProp props = {};
  props.type = CU_MEM_ALLOCATION_TYPE_PINNED;
  props.location = device_location(0);
  CUmemGenericAllocationHandle handle = 0;
  must(CU(cuMemCreate)(&handle, 2 * kMiB, &props, 0), "cuMemCreate");
  const CUmemAccessDesc access = {device_location(0), CU_MEM_ACCESS_FLAGS_PROT_READWRITE};
  for (uint64_t bytes : {uint64_t{1000}, 2 * kMiB, large_bytes()}) {
    const std::string name = bytes == large_bytes() ? "large" : size_name(bytes);
    const CUdeviceptr p = allocate(bytes);
    must(kernels.fill(p, bytes, 4), "fill");
    row(name + ".unmap", [&] { return CU(cuMemUnmap)(p, bytes); });
    row(name + ".unmap_2MiB", [&] { return CU(cuMemUnmap)(p, 2 * kMiB); });
    row(name + ".address_free", [&] { return CU(cuMemAddressFree)(p, bytes); });
    row(name + ".address_free_2MiB", [&] { return CU(cuMemAddressFree)(p, 2 * kMiB); });
    row(name + ".map_over", [&] { return CU(cuMemMap)(p, 2 * kMiB, 0, handle, 0); });
    row(name + ".set_access", [&] { return CU(cuMemSetAccess)(p, 2 * kMiB, &access, 1); });
    row(name + ".ipc_close", [&] { return CU(cuIpcCloseMemHandle)(p); });
    row(name + ".host_unregister", [&] { return CU(cuMemHostUnregister)(host_address(p)); });
    row(name + ".free_host", [&] { return CU(cuMemFreeHost)(host_address(p)); });
    row(name + ".contents", [&] { return kernels.contents(p, bytes, 4); });
    row(name + ".free", [&] { return CU(cuMemFree)(p); });
  }
}

// The program's own use of the same calls, beside the allocator.
CONFORMANCE_GROUP(vmm_own, 120) {
  Gpu gpu;
  Kernels kernels;
  CUmemAllocationProp props = {};
  props.type = CU_MEM_ALLOCATION_TYPE_PINNED;
  props.location = device_location(0);
  for (CUmemAllocationGranularity_flags which :
       {CU_MEM_ALLOC_GRANULARITY_MINIMUM, CU_MEM_ALLOC_GRANULARITY_RECOMMENDED}) {
    row(fmt::format("granularity_{}", static_cast<int>(which)), [&] {
      size_t bytes = 0;
      const CUresult result = CU(cuMemGetAllocationGranularity)(&bytes, &props, which);
      return result_and(result, size_name(bytes));
    });
  }
  CUdeviceptr p = 0;
  CUmemGenericAllocationHandle handle = 0;
  row("reserve", [&] { return CU(cuMemAddressReserve)(&p, 8 * kMiB, 0, 0, 0); });
  row("create", [&] { return CU(cuMemCreate)(&handle, 4 * kMiB, &props, 0); });
  row("create_odd_size", [&] {
    CUmemGenericAllocationHandle odd = 0;
    return CU(cuMemCreate)(&odd, 4 * kMiB + 1, &props, 0);
  });
  row("map", [&] { return CU(cuMemMap)(p, 4 * kMiB, 0, handle, 0); });
  row("fill_without_access", [&] { return CU(cuMemsetD8)(p, 1, 4 * kMiB); });
  const CUmemAccessDesc access = {device_location(0), CU_MEM_ACCESS_FLAGS_PROT_READWRITE};
  row("access", [&] { return CU(cuMemSetAccess)(p, 4 * kMiB, &access, 1); });
  row("fill", [&] { return kernels.fill(p, 4 * kMiB, 5); });
  row("contents", [&] { return kernels.contents(p, 4 * kMiB, 5); });
  row("free", [&] { return CU(cuMemFree)(p); });
  row("free_async", [&] { return CU(cuMemFreeAsync)(p, nullptr); });
  row("retain", [&] {
    CUmemGenericAllocationHandle again = 0;
    const CUresult result = CU(cuMemRetainAllocationHandle)(&again, host_address(p + 5000));
    return result_and(result, again == handle ? "same handle" : "other handle") + ", release " +
           result_name(CU(cuMemRelease)(again));
  });
  row("properties", [&] {
    CUmemAllocationProp seen = {};
    const CUresult result = CU(cuMemGetAllocationPropertiesFromHandle)(&seen, handle);
    return result_and(result, fmt::format("type {} location {} {}", static_cast<int>(seen.type),
                                          static_cast<int>(seen.location.type), seen.location.id));
  });
  row("unmap_part", [&] { return CU(cuMemUnmap)(p, 2 * kMiB); });
  row("address_free_mapped", [&] { return CU(cuMemAddressFree)(p, 8 * kMiB); });
  row("unmap", [&] { return CU(cuMemUnmap)(p, 4 * kMiB); });
  row("release", [&] { return CU(cuMemRelease)(handle); });
  row("address_free_part", [&] { return CU(cuMemAddressFree)(p, 4 * kMiB); });
  row("address_free", [&] { return CU(cuMemAddressFree)(p, 8 * kMiB); });
}

CONFORMANCE_GROUP(vmm_dma_buf, 120) {
  Gpu gpu;
  const size_t page = 65536;
  const auto ask = [&](CUdeviceptr p, uint64_t bytes) {
    int fd = -1;
    const CUresult result =
        CU(cuMemGetHandleForAddressRange)(&fd, p, bytes, CU_MEM_RANGE_HANDLE_TYPE_DMA_BUF_FD, 0);
    if (fd >= 0) {
      close(fd);
    }
    return result_and(result, fd >= 0 ? "fd" : "no fd");
  };
  for (uint64_t bytes : {2 * kMiB, large_bytes()}) {
    const CUdeviceptr p = allocate(bytes);
    const std::string name = bytes == 2 * kMiB ? "2MiB" : "large";
    row(name + ".whole", [&] { return ask(p, bytes); });
    row(name + ".first_page", [&] { return ask(p, page); });
    row(name + ".odd_size", [&] { return ask(p, 1000); });
    row(name + ".odd_address", [&] { return ask(p + 512, page); });
    row(name + ".zero_size", [&] { return ask(p, 0); });
    row(name + ".too_long", [&] { return ask(p, bytes + (uint64_t{1} << 40)); });
    row(name + ".null_out", [&] {
      return CU(cuMemGetHandleForAddressRange)(nullptr, p, page,
                                               CU_MEM_RANGE_HANDLE_TYPE_DMA_BUF_FD, 0);
    });
    row(name + ".type_9", [&] {
      int fd = -1;
      return CU(cuMemGetHandleForAddressRange)(&fd, p, page, static_cast<CUmemRangeHandleType>(9),
                                               0);
    });
  }
  row("null", [&] { return ask(0, page); });
  row("unused", [&] { return ask(0x600000000000, page); });
}

CONFORMANCE_GROUP(vmm_managed_hints, 120) {
  Gpu gpu;
  const CUmemLocation here = device_location(0);
  for (const PointerKind& kind : make_pointer_kinds()) {
    const uint64_t bytes = std::min<uint64_t>(kind.bytes, 4096);
    for (int attribute = 1; attribute <= 8; ++attribute) {
      row(fmt::format("{}.range_attribute_{}", kind.name, attribute), [&] {
        int value = 77;
        const CUresult result = CU(cuMemRangeGetAttribute)(
            &value, sizeof value, static_cast<CUmem_range_attribute>(attribute), kind.p, bytes);
        return result_and(result, fmt::format("{}", value));
      });
    }
    // Hints to host memory of the process itself depend on the kernel's HMM: not asked.
    if (kind.name == "malloc" || kind.name == "variable") {
      continue;
    }
    for (int advice = 1; advice <= 6; ++advice) {
      row(fmt::format("{}.advice_{}", kind.name, advice),
          [&] { return CU(cuMemAdvise)(kind.p, bytes, static_cast<CUmem_advise>(advice), here); });
    }
    row(kind.name + ".prefetch", [&] {
      const CUresult result = CU(cuMemPrefetchAsync)(kind.p, bytes, here, 0, nullptr);
      return result_name(result) + " " + result_name(CU(cuStreamSynchronize)(nullptr));
    });
  }
}

}  // namespace
}  // namespace flexlom::conformance
