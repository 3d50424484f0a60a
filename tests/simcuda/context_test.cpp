#include "tests/simcuda/testing.hpp"

#include <thread>

using namespace testing;

TEST_CASE("the primary context is counted and comes back") {
  REQUIRE_OK(cuInit(0));
  unsigned flags = 9;
  int active = 9;
  CHECK_OK(cuDevicePrimaryCtxGetState(0, &flags, &active));
  CHECK(active == 0);
  CUcontext first = nullptr, second = nullptr, current = nullptr;
  REQUIRE_OK(cuDevicePrimaryCtxRetain(&first, 0));
  REQUIRE_OK(cuDevicePrimaryCtxRetain(&second, 0));
  CHECK(first == second);
  REQUIRE_OK(cuCtxSetCurrent(first));
  CUdeviceptr p = 0;
  CHECK_OK(cuMemAlloc(&p, 100));
  CHECK_OK(cuDevicePrimaryCtxRelease(0));
  CHECK(simcuda_device_bytes(0) == kPage);
  CHECK_OK(cuDevicePrimaryCtxRelease(0));
  CHECK(simcuda_device_bytes(0) == 0);
  CHECK(cuDevicePrimaryCtxRelease(0) == CUDA_ERROR_INVALID_CONTEXT);
  CHECK(cuMemAlloc(&p, 100) == CUDA_ERROR_CONTEXT_IS_DESTROYED);
  CHECK_OK(cuCtxGetCurrent(&current));
  CHECK(current == first);
  REQUIRE_OK(cuDevicePrimaryCtxRetain(&second, 0));
  CHECK(first == second);
  CHECK_OK(cuMemAlloc(&p, 100));
  CHECK_OK(cuDevicePrimaryCtxReset(0));
  CHECK(simcuda_device_bytes(0) == 0);
  CHECK_OK(cuDevicePrimaryCtxGetState(0, &flags, &active));
  CHECK(active == 0);
  CHECK_OK(cuCtxSetCurrent(nullptr));
  CHECK(cuMemAlloc(&p, 100) == CUDA_ERROR_INVALID_CONTEXT);
}

TEST_CASE("the stack of contexts belongs to the thread") {
  REQUIRE_OK(cuInit(0));
  CUcontext a = nullptr, b = nullptr, got = nullptr;
  REQUIRE_OK(cuCtxCreate(&a, nullptr, 0, 0));
  REQUIRE_OK(cuCtxCreate(&b, nullptr, 0, 1));
  CHECK_OK(cuCtxGetCurrent(&got));
  CHECK(got == b);
  CUdevice device = 9;
  CHECK_OK(cuCtxGetDevice(&device));
  CHECK(device == 1);
  CHECK_OK(cuCtxPopCurrent(&got));
  CHECK(got == b);
  CHECK_OK(cuCtxGetDevice(&device));
  CHECK(device == 0);
  std::thread([&] {
    CUcontext other = a;
    cuCtxGetCurrent(&other);
    got = other;
  }).join();
  CHECK(got == nullptr);
  unsigned long long id_a = 0, id_b = 0;
  CHECK_OK(cuCtxGetId(a, &id_a));
  CHECK_OK(cuCtxGetId(b, &id_b));
  CHECK(id_a != id_b);
  CHECK_OK(cuCtxDestroy(b));
  CHECK(cuCtxDestroy(b) == CUDA_ERROR_INVALID_CONTEXT);
  CHECK(cuCtxDestroy(nullptr) == CUDA_ERROR_INVALID_VALUE);
  CHECK_OK(cuCtxDestroy(a));
  CHECK(cuCtxPopCurrent(&got) == CUDA_ERROR_INVALID_CONTEXT);
  CHECK(cuCtxSetCurrent(reinterpret_cast<CUcontext>(&got)) == CUDA_ERROR_INVALID_CONTEXT);
}

TEST_CASE("destroying a context ends its work and frees its memory") {
  REQUIRE_OK(cuInit(0));
  CUcontext context = nullptr;
  REQUIRE_OK(cuCtxCreate(&context, nullptr, 0, 0));
  CUmodule module = nullptr;
  CUfunction spin = nullptr;
  REQUIRE_OK(cuModuleLoadData(&module, "x"));
  REQUIRE_OK(cuModuleGetFunction(&spin, module, "flex_spin_ns"));
  CUdeviceptr p = 0;
  CHECK_OK(cuMemAlloc(&p, 10u << 20));
  CHECK_OK(launch(spin, nullptr, uint64_t{10000000}));
  CHECK_OK(cuCtxDestroy(context));
  CHECK(simcuda_device_bytes(0) == 0);
}

TEST_CASE("devices and their attributes") {
  REQUIRE_OK(cuInit(0));
  int count = 0, value = 0;
  CHECK_OK(cuDeviceGetCount(&count));
  CHECK(count == 2);
  CUdevice device = 0;
  CHECK(cuDeviceGet(&device, 2) == CUDA_ERROR_INVALID_DEVICE);
  CHECK_OK(
      cuDeviceGetAttribute(&value, CU_DEVICE_ATTRIBUTE_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED, 0));
  CHECK(value == 1);
  CHECK_OK(cuDeviceGetAttribute(
      &value, CU_DEVICE_ATTRIBUTE_HOST_NUMA_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED, 0));
  CHECK(value == 1);
  CHECK_OK(cuDeviceGetAttribute(&value, CU_DEVICE_ATTRIBUTE_HOST_NUMA_ID, 0));
  CHECK(value == 0);
  CHECK_OK(cuDeviceGetAttribute(&value, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, 1));
  CHECK(value == 9);
  CHECK(cuDeviceGetAttribute(&value, static_cast<CUdevice_attribute>(9999), 0) ==
        CUDA_ERROR_INVALID_VALUE);
  for (int a = 1; a < CU_DEVICE_ATTRIBUTE_MAX; ++a)
    CHECK_OK(cuDeviceGetAttribute(&value, static_cast<CUdevice_attribute>(a), 0));
  size_t total = 0;
  CHECK_OK(cuDeviceTotalMem(&total, 1));
  CHECK(total == 64u << 20);
  CHECK(cuMemGetInfo(&total, nullptr) == CUDA_ERROR_INVALID_CONTEXT);
  char bus[32];
  CHECK_OK(cuDeviceGetPCIBusId(bus, sizeof bus, 1));
  CHECK_OK(cuDeviceGetByPCIBusId(&device, bus));
  CHECK(device == 1);
}
