#include "tests/simcuda/testing.hpp"

using namespace testing;

TEST_CASE("cuMemAlloc answers as the real driver does") {
  Session session;
  CUdeviceptr p = 0;
  CHECK(cuMemAlloc(&p, 0) == CUDA_ERROR_INVALID_VALUE);
  CHECK(cuMemAlloc(nullptr, 1) == CUDA_ERROR_INVALID_VALUE);
  CHECK(cuMemAlloc(&p, size_t{1} << 50) == CUDA_ERROR_OUT_OF_MEMORY);
  CHECK(cuMemAlloc(&p, 65u << 20) == CUDA_ERROR_OUT_OF_MEMORY);
  CHECK_OK(cuMemFree(0));
  CHECK(cuMemFree(0x1234) == CUDA_ERROR_INVALID_VALUE);

  REQUIRE_OK(cuMemAlloc(&p, 1000));
  CHECK(p % 512 == 0);
  CUdeviceptr base = 0;
  size_t bytes = 0;
  CHECK_OK(cuMemGetAddressRange(&base, &bytes, p + 999));
  CHECK(base == p);
  CHECK(bytes == 1000);
  CHECK(cuMemGetAddressRange(&base, &bytes, p + 1000) == CUDA_ERROR_NOT_FOUND);
  CHECK(cuMemFree(p + 512) == CUDA_ERROR_INVALID_VALUE);
  CHECK_OK(cuMemFree(p));
  CHECK(cuMemFree(p) == CUDA_ERROR_INVALID_VALUE);
}

TEST_CASE("capacity is kept, counted and given back") {
  Session session;
  size_t free_bytes = 0, total = 0;
  CHECK_OK(cuMemGetInfo(&free_bytes, &total));
  CHECK(total == 64u << 20);
  CHECK(free_bytes == total);
  CHECK_OK(cuMemGetInfo(nullptr, &total));
  CHECK_OK(cuMemGetInfo(&free_bytes, nullptr));

  std::vector<CUdeviceptr> list;
  CUdeviceptr p = 0;
  while (cuMemAlloc(&p, 3u << 20) == CUDA_SUCCESS) list.push_back(p);
  CHECK(list.size() == 16);  // 4 MiB each: whole granules
  CHECK(simcuda_device_bytes(0) == 64u << 20);
  CHECK(simcuda_peak_device_bytes(0) == 64u << 20);
  CHECK(simcuda_device_bytes(1) == 0);
  for (CUdeviceptr address : list) CHECK_OK(cuMemFree(address));
  CHECK(simcuda_device_bytes(0) == 0);
}

TEST_CASE("small allocations share a granule and do not overlap") {
  Session session;
  std::vector<CUdeviceptr> list(2000);
  for (size_t i = 0; i < list.size(); ++i) {
    REQUIRE_OK(cuMemAlloc(&list[i], 1 + i % 900));
    CHECK_OK(cuMemsetD8(list[i], static_cast<unsigned char>(i), 1 + i % 900));
  }
  CHECK(simcuda_device_bytes(0) == kPage);
  for (size_t i = 0; i < list.size(); ++i) {
    std::vector<unsigned char> back(1 + i % 900);
    CHECK_OK(cuMemcpyDtoH(back.data(), list[i], back.size()));
    CHECK(back == std::vector<unsigned char>(back.size(), static_cast<unsigned char>(i)));
  }
  for (CUdeviceptr address : list) CHECK_OK(cuMemFree(address));
  CHECK(simcuda_device_bytes(0) == 0);
}

TEST_CASE("cuMemAllocPitch") {
  Session session;
  CUdeviceptr p = 0;
  size_t pitch = 0;
  CHECK(cuMemAllocPitch(&p, &pitch, 100, 10, 5) == CUDA_ERROR_INVALID_VALUE);
  CHECK(cuMemAllocPitch(&p, &pitch, 0, 10, 4) == CUDA_ERROR_INVALID_VALUE);
  REQUIRE_OK(cuMemAllocPitch(&p, &pitch, 100, 10, 4));
  CHECK(pitch == 512);
  CHECK_OK(cuMemFree(p));
}

TEST_CASE("cuMemFree waits for the work of its context") {
  Session session;
  Stream stream(CU_STREAM_NON_BLOCKING);
  Memory busy(4096);
  CHECK_OK(launch(session.function("flex_spin_ns"), stream.handle, uint64_t{50000000}));
  CUdeviceptr p = 0;
  CHECK_OK(cuMemAlloc(&p, 4096));
  CHECK(cuStreamQuery(stream.handle) == CUDA_ERROR_NOT_READY);
  CHECK_OK(cuMemFree(p));
  CHECK_OK(cuStreamQuery(stream.handle));
}

TEST_CASE("pinned and registered host memory") {
  Session session;
  void* memory = nullptr;
  CHECK_OK(cuMemAllocHost(&memory, 0));
  CHECK(memory == nullptr);
  const uint64_t before = simcuda_host_bytes();
  REQUIRE_OK(cuMemHostAlloc(&memory, 10000, CU_MEMHOSTALLOC_PORTABLE));
  CHECK(simcuda_host_bytes() == before + 12288);
  unsigned flags = 0;
  CHECK_OK(cuMemHostGetFlags(&flags, memory));
  CHECK(flags == CU_MEMHOSTALLOC_DEVICEMAP);  // as the real one, whatever was asked for
  CUdeviceptr device = 0;
  CHECK_OK(cuMemHostGetDevicePointer(&device, memory, 0));
  CHECK(device == reinterpret_cast<CUdeviceptr>(memory));
  CHECK_OK(cuMemFreeHost(memory));
  CHECK(cuMemFreeHost(memory) == CUDA_ERROR_INVALID_VALUE);
  CHECK(simcuda_host_bytes() == before);

  std::vector<char> mine(8192);
  CHECK_OK(cuMemHostRegister(mine.data(), mine.size(), 0));
  CHECK(cuMemHostRegister(mine.data(), 10, 0) == CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED);
  CHECK_OK(cuMemHostUnregister(mine.data()));
  CHECK(cuMemHostUnregister(mine.data()) == CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED);
}

TEST_CASE("stream-ordered allocation frees when the stream gets there") {
  Session session;
  Stream stream;
  CUdeviceptr p = 0;
  p = 99;
  CHECK_OK(cuMemAllocAsync(&p, 0, stream.handle));
  CHECK(p == 0);
  {
    Hold hold(session, stream.handle);
    REQUIRE_OK(cuMemAllocAsync(&p, 8u << 20, stream.handle));
    CHECK_OK(cuMemFreeAsync(p, stream.handle));
    CHECK(cuMemFreeAsync(p, stream.handle) == CUDA_ERROR_INVALID_VALUE);
    CHECK(simcuda_device_bytes(0) == 8u << 20);
  }
  CHECK_OK(cuStreamSynchronize(stream.handle));
  CHECK(simcuda_device_bytes(0) == 0);
  CUdeviceptr plain = 0;
  REQUIRE_OK(cuMemAlloc(&plain, 100));
  CHECK_OK(cuMemFreeAsync(plain, stream.handle));
  CHECK(cuMemFree(plain) == CUDA_ERROR_INVALID_VALUE);
  CHECK_OK(cuStreamSynchronize(stream.handle));
  CHECK(simcuda_device_bytes(0) == 0);
  REQUIRE_OK(cuMemAllocAsync(&p, 100, stream.handle));
  CHECK_OK(cuMemFree(p));
}

TEST_CASE("memory pools") {
  Session session;
  CUmemoryPool pool = nullptr, current = nullptr;
  CUmemPoolProps properties{};
  properties.allocType = CU_MEM_ALLOCATION_TYPE_PINNED;
  properties.location = {CU_MEM_LOCATION_TYPE_DEVICE, 0};
  REQUIRE_OK(cuMemPoolCreate(&pool, &properties));
  cuuint64_t threshold = 123;
  CHECK_OK(cuMemPoolSetAttribute(pool, CU_MEMPOOL_ATTR_RELEASE_THRESHOLD, &threshold));
  threshold = 0;
  CHECK_OK(cuMemPoolGetAttribute(pool, CU_MEMPOOL_ATTR_RELEASE_THRESHOLD, &threshold));
  CHECK(threshold == 123);
  CHECK_OK(cuDeviceSetMemPool(0, pool));
  CHECK_OK(cuDeviceGetMemPool(&current, 0));
  CHECK(current == pool);
  CUdeviceptr p = 0;
  REQUIRE_OK(cuMemAllocAsync(&p, 4u << 20, nullptr));
  CUmemoryPool of = nullptr;
  CHECK_OK(cuPointerGetAttribute(&of, CU_POINTER_ATTRIBUTE_MEMPOOL_HANDLE, p));
  CHECK(of == pool);
  cuuint64_t used = 0;
  CHECK_OK(cuMemPoolGetAttribute(pool, CU_MEMPOOL_ATTR_USED_MEM_CURRENT, &used));
  CHECK(used == 4u << 20);
  CHECK_OK(cuMemFreeAsync(p, nullptr));
  CHECK_OK(cuStreamSynchronize(nullptr));
  CHECK_OK(cuMemPoolGetAttribute(pool, CU_MEMPOOL_ATTR_USED_MEM_CURRENT, &used));
  CHECK(used == 0);
  CHECK_OK(cuMemPoolDestroy(pool));
  CHECK(cuMemPoolDestroy(pool) == CUDA_ERROR_INVALID_VALUE);
  CHECK_OK(cuDeviceGetMemPool(&current, 0));
  CHECK(current != pool);
}

TEST_CASE("managed memory is reachable from both sides") {
  Session session;
  CUdeviceptr p = 0;
  REQUIRE_OK(cuMemAllocManaged(&p, 1u << 20, CU_MEM_ATTACH_GLOBAL));
  CHECK_OK(cuMemsetD8(p, 0x5a, 1u << 20));
  CHECK_OK(cuCtxSynchronize());
  CUmemLocation where{CU_MEM_LOCATION_TYPE_DEVICE, 0};
  CHECK_OK(cuMemPrefetchAsync(p, 4096, where, 0, nullptr));
  int last = -7;
  CHECK_OK(cuMemRangeGetAttribute(&last, 4, CU_MEM_RANGE_ATTRIBUTE_LAST_PREFETCH_LOCATION, p, 1));
  CHECK(last == 0);
  Memory plain(100);
  CHECK(cuMemPrefetchAsync(plain.address, 1, where, 0, nullptr) == CUDA_ERROR_INVALID_VALUE);
  CHECK_OK(cuMemFree(p));
}
