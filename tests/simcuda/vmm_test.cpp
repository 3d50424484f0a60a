#include "tests/simcuda/testing.hpp"

#include <unistd.h>

using namespace testing;

TEST_CASE("reservations take hints, many TiB, and have a limit") {
  Session session;
  CUdeviceptr p = 0, q = 0;
  const CUdeviceptr hint = 0x500000000000;
  REQUIRE_OK(cuMemAddressReserve(&p, size_t{4} << 40, 0, hint, 0));
  CHECK(p == hint);
  REQUIRE_OK(cuMemAddressReserve(&q, kPage, 0, hint, 0));
  CHECK(q != hint);
  CHECK_OK(cuMemAddressFree(q, kPage));
  CHECK(cuMemAddressFree(p, kPage) == CUDA_ERROR_INVALID_VALUE);
  CHECK_OK(cuMemAddressFree(p, size_t{4} << 40));
  CHECK(cuMemAddressFree(p, size_t{4} << 40) == CUDA_ERROR_INVALID_VALUE);
  CHECK(cuMemAddressReserve(&p, size_t{1} << 47, 0, 0, 0) == CUDA_ERROR_OUT_OF_MEMORY);
  CHECK(cuMemAddressReserve(&p, 4096, 0, 0, 0) == CUDA_ERROR_INVALID_VALUE);
  CHECK(cuMemAddressReserve(&p, 0, 0, 0, 0) == CUDA_ERROR_INVALID_VALUE);
  REQUIRE_OK(cuMemAddressReserve(&p, kPage, size_t{1} << 30, 0, 0));
  CHECK(p % (size_t{1} << 30) == 0);
  CHECK_OK(cuMemAddressFree(p, kPage));
}

namespace {
// A reservation of some pages.
struct Range {
  CUdeviceptr address = 0;
  size_t bytes;
  explicit Range(size_t pages) : bytes(pages * kPage) {
    REQUIRE_OK(cuMemAddressReserve(&address, bytes, 0, 0, 0));
  }
  ~Range() { CHECK_OK(cuMemAddressFree(address, bytes)); }
};
}  // namespace

TEST_CASE("create, map, access, unmap, release") {
  Session session;
  Range range(4);
  CUmemGenericAllocationHandle handle = 0;
  CUmemAllocationProp properties = device_memory();
  CHECK(cuMemCreate(&handle, 4096, &properties, 0) == CUDA_ERROR_INVALID_VALUE);
  CHECK(cuMemCreate(&handle, 65u << 20, &properties, 0) == CUDA_ERROR_INVALID_VALUE);
  CHECK(cuMemCreate(&handle, 66u << 20, &properties, 0) == CUDA_ERROR_OUT_OF_MEMORY);
  REQUIRE_OK(cuMemCreate(&handle, 2 * kPage, &properties, 0));
  CHECK(simcuda_live_handles() == 1);

  CHECK(cuMemMap(range.address, kPage, 0, handle, 0) == CUDA_ERROR_NOT_SUPPORTED);
  CHECK(cuMemMap(range.address, kPage, kPage, handle, 0) == CUDA_ERROR_NOT_SUPPORTED);
  CHECK(cuMemMap(range.address + 3 * kPage, 2 * kPage, 0, handle, 0) == CUDA_ERROR_INVALID_VALUE);
  CHECK(cuMemMap(0x1000000, 2 * kPage, 0, handle, 0) == CUDA_ERROR_INVALID_VALUE);
  REQUIRE_OK(cuMemMap(range.address, 2 * kPage, 0, handle, 0));
  CHECK(cuMemMap(range.address + kPage, 2 * kPage, 0, handle, 0) == CUDA_ERROR_INVALID_VALUE);
  CHECK(cuMemsetD8(range.address, 1, 16) == CUDA_ERROR_INVALID_VALUE);  // no access yet

  CUmemAccessDesc access = read_write();
  CHECK(cuMemSetAccess(range.address, kPage, &access, 1) == CUDA_ERROR_INVALID_VALUE);
  CHECK(cuMemSetAccess(range.address, 3 * kPage, &access, 1) == CUDA_ERROR_INVALID_VALUE);
  REQUIRE_OK(cuMemSetAccess(range.address, 2 * kPage, &access, 1));
  unsigned long long flags = 0;
  CHECK_OK(cuMemGetAccess(&flags, &access.location, range.address));
  CHECK(flags == CU_MEM_ACCESS_FLAGS_PROT_READWRITE);
  CHECK_OK(cuMemsetD8(range.address, 0x77, 2 * kPage));

  // The same memory at a second address.
  REQUIRE_OK(cuMemMap(range.address + 2 * kPage, 2 * kPage, 0, handle, 0));
  REQUIRE_OK(cuMemSetAccess(range.address + 2 * kPage, 2 * kPage, &access, 1));
  unsigned char byte = 0;
  CHECK_OK(cuMemcpyDtoH(&byte, range.address + 3 * kPage + 5, 1));
  CHECK(byte == 0x77);

  // Memory goes when it is neither held nor mapped.
  CHECK_OK(cuMemRelease(handle));
  CHECK(cuMemRelease(handle) == CUDA_ERROR_INVALID_VALUE);
  CHECK(simcuda_device_bytes(0) == 2 * kPage);
  CHECK(cuMemUnmap(range.address, kPage) == CUDA_ERROR_INVALID_VALUE);
  CHECK(cuMemAddressFree(range.address, range.bytes) == CUDA_ERROR_INVALID_VALUE);
  CHECK_OK(cuMemUnmap(range.address, 4 * kPage));
  CHECK(simcuda_device_bytes(0) == 0);
}

TEST_CASE("a handle can be found again from an address") {
  Session session;
  Range range(1);
  CUmemGenericAllocationHandle handle = 0, again = 0;
  CUmemAllocationProp properties = device_memory(1), found{};
  REQUIRE_OK(cuMemCreate(&handle, kPage, &properties, 0));
  REQUIRE_OK(cuMemMap(range.address, kPage, 0, handle, 0));
  CHECK_OK(cuMemRelease(handle));
  auto* inside = reinterpret_cast<void*>(range.address + 100);
  REQUIRE_OK(cuMemRetainAllocationHandle(&again, inside));
  CHECK(again == handle);
  CHECK_OK(cuMemGetAllocationPropertiesFromHandle(&found, again));
  CHECK(found.location.id == 1);
  CHECK_OK(cuMemUnmap(range.address, kPage));
  CHECK(cuMemRetainAllocationHandle(&again, inside) == CUDA_ERROR_INVALID_VALUE);
  CHECK(simcuda_device_bytes(1) == kPage);
  CHECK_OK(cuMemRelease(handle));
  CHECK(simcuda_device_bytes(1) == 0);
}

TEST_CASE("host frames") {
  Session session;
  Range range(1);
  for (auto type : {CU_MEM_LOCATION_TYPE_HOST, CU_MEM_LOCATION_TYPE_HOST_NUMA}) {
    CUmemAllocationProp properties = device_memory();
    properties.location = {type, 0};
    size_t granularity = 0;
    CHECK_OK(
        cuMemGetAllocationGranularity(&granularity, &properties, CU_MEM_ALLOC_GRANULARITY_MINIMUM));
    CHECK(granularity == kPage);
    CUmemGenericAllocationHandle handle = 0;
    REQUIRE_OK(cuMemCreate(&handle, kPage, &properties, 0));
    CHECK(simcuda_device_bytes(0) == 0);
    REQUIRE_OK(cuMemMap(range.address, kPage, 0, handle, 0));
    CUmemAccessDesc access = read_write();
    REQUIRE_OK(cuMemSetAccess(range.address, kPage, &access, 1));
    CUmemorytype seen{};
    CHECK_OK(cuPointerGetAttribute(&seen, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, range.address));
    CHECK(seen == CU_MEMORYTYPE_HOST);
    CUcontext context = session.context;
    CHECK_OK(cuPointerGetAttribute(&context, CU_POINTER_ATTRIBUTE_CONTEXT, range.address));
    CHECK(context == nullptr);
    CHECK_OK(cuMemsetD32(range.address, 7, 100));
    CHECK_OK(cuCtxSynchronize());
    CHECK_OK(cuMemUnmap(range.address, kPage));
    CHECK_OK(cuMemRelease(handle));
  }
  CUmemAllocationProp properties = device_memory();
  CUmemGenericAllocationHandle handle = 0;
  properties.location = {CU_MEM_LOCATION_TYPE_HOST_NUMA_CURRENT, 0};
  CHECK(cuMemCreate(&handle, kPage, &properties, 0) == CUDA_ERROR_INVALID_VALUE);
  properties.location = {CU_MEM_LOCATION_TYPE_HOST_NUMA, 3};
  CHECK(cuMemCreate(&handle, kPage, &properties, 0) == CUDA_ERROR_INVALID_VALUE);
}

TEST_CASE("export and import in one process share the memory and count it once") {
  Session session;
  Range range(2);
  CUmemAllocationProp properties = device_memory();
  CUmemGenericAllocationHandle handle = 0, imported = 0;
  int fd = -1;
  REQUIRE_OK(cuMemCreate(&handle, kPage, &properties, 0));
  CHECK(cuMemExportToShareableHandle(&fd, handle, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, 0) ==
        CUDA_ERROR_INVALID_VALUE);
  CHECK_OK(cuMemRelease(handle));
  properties.requestedHandleTypes = CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR;
  REQUIRE_OK(cuMemCreate(&handle, kPage, &properties, 0));
  REQUIRE_OK(
      cuMemExportToShareableHandle(&fd, handle, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, 0));
  REQUIRE_OK(cuMemImportFromShareableHandle(&imported,
                                            reinterpret_cast<void*>(static_cast<intptr_t>(fd)),
                                            CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR));
  close(fd);
  CHECK(simcuda_device_bytes(0) == kPage);
  CUmemAccessDesc access = read_write();
  REQUIRE_OK(cuMemMap(range.address, kPage, 0, handle, 0));
  REQUIRE_OK(cuMemMap(range.address + kPage, kPage, 0, imported, 0));
  REQUIRE_OK(cuMemSetAccess(range.address, 2 * kPage, &access, 1));
  CHECK_OK(cuMemsetD8(range.address, 0x3c, kPage));
  unsigned char byte = 0;
  CHECK_OK(cuMemcpyDtoH(&byte, range.address + kPage + 77, 1));
  CHECK(byte == 0x3c);
  CHECK_OK(cuMemUnmap(range.address, 2 * kPage));
  CHECK_OK(cuMemRelease(handle));
  CHECK_OK(cuMemRelease(imported));
  CHECK(cuMemImportFromShareableHandle(&imported, reinterpret_cast<void*>(intptr_t{0}),
                                       CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR) ==
        CUDA_ERROR_INVALID_VALUE);
}

TEST_CASE("a page can be swapped under its address") {
  Session session;
  Range range(2);
  const CUdeviceptr page = range.address, window = range.address + kPage;
  CUmemAllocationProp device = device_memory(), host = device_memory();
  host.location = {CU_MEM_LOCATION_TYPE_HOST_NUMA, 0};
  CUmemAccessDesc access = read_write();
  CUmemGenericAllocationHandle from = 0, to = 0;
  REQUIRE_OK(cuMemCreate(&from, kPage, &device, 0));
  REQUIRE_OK(cuMemCreate(&to, kPage, &host, 0));
  REQUIRE_OK(cuMemMap(page, kPage, 0, from, 0));
  REQUIRE_OK(cuMemMap(window, kPage, 0, to, 0));
  REQUIRE_OK(cuMemSetAccess(page, 2 * kPage, &access, 1));
  const uint64_t words = kPage / 4;
  CHECK_OK(launch(session.function("flex_fill"), nullptr, page, words, uint32_t{5}));
  CHECK_OK(cuMemcpyDtoD(window, page, kPage));
  CHECK_OK(cuMemUnmap(page, kPage));
  CHECK_OK(cuMemUnmap(window, kPage));
  REQUIRE_OK(cuMemMap(page, kPage, 0, to, 0));
  REQUIRE_OK(cuMemSetAccess(page, kPage, &access, 1));
  CHECK_OK(cuMemRelease(from));
  CHECK(simcuda_device_bytes(0) == 0);
  Memory wrong(8);
  CHECK_OK(cuMemsetD8(wrong.address, 0, 8));
  CHECK_OK(
      launch(session.function("flex_check"), nullptr, page, words, uint32_t{5}, wrong.address));
  uint64_t count = 1;
  CHECK_OK(cuMemcpyDtoH(&count, wrong.address, 8));
  CHECK(count == 0);
  CHECK_OK(cuMemUnmap(page, kPage));
  CHECK_OK(cuMemRelease(to));
}
