#include "tests/simcuda/testing.hpp"

using namespace testing;

namespace {
template <class T>
T ask(CUpointer_attribute attribute, CUdeviceptr address) {
  T value{};
  INFO("attribute " << attribute);
  CHECK_OK(cuPointerGetAttribute(&value, attribute, address));
  return value;
}
}  // namespace

TEST_CASE("what a device allocation says about itself") {
  Session session;
  Memory m(3000);
  const CUdeviceptr inside = m.address + 1234;
  CHECK(ask<CUcontext>(CU_POINTER_ATTRIBUTE_CONTEXT, inside) == session.context);
  CHECK(ask<CUmemorytype>(CU_POINTER_ATTRIBUTE_MEMORY_TYPE, inside) == CU_MEMORYTYPE_DEVICE);
  CHECK(ask<CUdeviceptr>(CU_POINTER_ATTRIBUTE_DEVICE_POINTER, inside) == inside);
  CHECK(ask<CUdeviceptr>(CU_POINTER_ATTRIBUTE_RANGE_START_ADDR, inside) == m.address);
  CHECK(ask<size_t>(CU_POINTER_ATTRIBUTE_RANGE_SIZE, inside) == 3000);
  CHECK(ask<int>(CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL, inside) == 0);
  CHECK(ask<int>(CU_POINTER_ATTRIBUTE_IS_MANAGED, inside) == 0);
  CHECK(ask<int>(CU_POINTER_ATTRIBUTE_MAPPED, inside) == 1);
  CHECK(ask<int>(CU_POINTER_ATTRIBUTE_IS_LEGACY_CUDA_IPC_CAPABLE, inside) == 1);
  CHECK(ask<CUmemoryPool>(CU_POINTER_ATTRIBUTE_MEMPOOL_HANDLE, inside) == nullptr);
  CHECK(ask<uint64_t>(CU_POINTER_ATTRIBUTE_BUFFER_ID, inside) != 0);
  void* host = nullptr;
  CHECK(cuPointerGetAttribute(&host, CU_POINTER_ATTRIBUTE_HOST_POINTER, inside) ==
        CUDA_ERROR_INVALID_VALUE);
  CHECK(cuPointerGetAttribute(&host, static_cast<CUpointer_attribute>(99), inside) ==
        CUDA_ERROR_INVALID_VALUE);
  int one = 1;
  CHECK_OK(cuPointerSetAttribute(&one, CU_POINTER_ATTRIBUTE_SYNC_MEMOPS, m.address));
  CHECK(ask<int>(CU_POINTER_ATTRIBUTE_SYNC_MEMOPS, inside) == 1);
}

TEST_CASE("what pinned memory says, and memory the driver does not know") {
  Session session;
  Pinned pinned(100);
  const auto address = reinterpret_cast<CUdeviceptr>(pinned.address);
  CHECK(ask<CUmemorytype>(CU_POINTER_ATTRIBUTE_MEMORY_TYPE, address + 5) == CU_MEMORYTYPE_HOST);
  CHECK(ask<CUdeviceptr>(CU_POINTER_ATTRIBUTE_HOST_POINTER, address + 5) == address + 5);

  std::vector<char> plain(64);
  const auto unknown = reinterpret_cast<CUdeviceptr>(plain.data());
  int value = 0;
  CHECK(cuPointerGetAttribute(&value, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, unknown) ==
        CUDA_ERROR_INVALID_VALUE);
  CUmemorytype type = CU_MEMORYTYPE_DEVICE;
  int ordinal = 5;
  CUpointer_attribute list[] = {CU_POINTER_ATTRIBUTE_MEMORY_TYPE,
                                CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL};
  void* out[] = {&type, &ordinal};
  CHECK_OK(cuPointerGetAttributes(2, list, out, unknown));
  CHECK(static_cast<int>(type) == 0);
  CHECK(ordinal == CU_DEVICE_INVALID);
}

TEST_CASE("what a mapped page and an empty reservation say") {
  Session session;
  CUdeviceptr range = 0;
  REQUIRE_OK(cuMemAddressReserve(&range, 2 * kPage, 0, 0, 0));
  CUmemGenericAllocationHandle handle = 0;
  CUmemAllocationProp properties = device_memory(1);
  REQUIRE_OK(cuMemCreate(&handle, kPage, &properties, 0));
  REQUIRE_OK(cuMemMap(range, kPage, 0, handle, 0));
  CUmemAccessDesc access = read_write(0);
  REQUIRE_OK(cuMemSetAccess(range, kPage, &access, 1));
  CHECK(ask<CUcontext>(CU_POINTER_ATTRIBUTE_CONTEXT, range) == nullptr);
  CHECK(ask<int>(CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL, range) == 1);
  CHECK(ask<int>(CU_POINTER_ATTRIBUTE_IS_LEGACY_CUDA_IPC_CAPABLE, range) == 0);
  CHECK(ask<int>(CU_POINTER_ATTRIBUTE_ACCESS_FLAGS, range) == 3);
  CHECK(ask<CUdeviceptr>(CU_POINTER_ATTRIBUTE_MAPPING_BASE_ADDR, range + 99) == range);
  int mapped = 7;
  CHECK(cuPointerGetAttribute(&mapped, CU_POINTER_ATTRIBUTE_MAPPED, range + kPage) ==
        CUDA_ERROR_INVALID_VALUE);
  CHECK(mapped == 7);
  CHECK(ask<size_t>(CU_POINTER_ATTRIBUTE_RANGE_SIZE, range) == 2 * kPage);
  CHECK(ask<size_t>(CU_POINTER_ATTRIBUTE_MAPPING_SIZE, range) == kPage);
  int one = 1;
  CHECK(cuPointerSetAttribute(&one, CU_POINTER_ATTRIBUTE_SYNC_MEMOPS, range) ==
        CUDA_ERROR_NOT_SUPPORTED);
  CUipcMemHandle ipc{};
  CHECK(cuIpcGetMemHandle(&ipc, range) == CUDA_ERROR_INVALID_VALUE);
  CHECK_OK(cuMemUnmap(range, kPage));
  CHECK_OK(cuMemRelease(handle));
  CHECK_OK(cuMemAddressFree(range, 2 * kPage));
}
