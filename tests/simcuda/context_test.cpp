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

TEST_CASE("a green context has streams of its own and nothing else") {
  const Session session;
  const CUcontext primary = session.context;
  CUcontext green = nullptr, got = nullptr;
  CUdevResource all{}, share{}, rest{};
  CUdevResourceDesc description = nullptr;
  unsigned count = 1;
  REQUIRE_OK(cuDeviceGetDevResource(0, &all, CU_DEV_RESOURCE_TYPE_SM));
  REQUIRE_OK(cuDevSmResourceSplitByCount(&share, &count, &all, &rest, 0, 12));
  CHECK(count == 1);
  CHECK(share.sm.smCount == 16);
  CHECK(rest.sm.smCount == all.sm.smCount - 16);
  REQUIRE_OK(cuDevResourceGenerateDesc(&description, &share, 1));
  CUgreenCtx handle = nullptr, found = nullptr;
  REQUIRE_OK(cuGreenCtxCreate(&handle, description, 0, CU_GREEN_CTX_DEFAULT_STREAM));
  REQUIRE_OK(cuCtxFromGreenCtx(&green, handle));
  CHECK(green != primary);
  CHECK_OK(cuStreamGetGreenCtx(nullptr, &found));
  CHECK(found == nullptr);
  CUstream stream = nullptr;
  CUevent whole = nullptr, part = nullptr;
  REQUIRE_OK(cuGreenCtxStreamCreate(&stream, handle, CU_STREAM_NON_BLOCKING, 0));
  REQUIRE_OK(cuEventCreate(&whole, CU_EVENT_DISABLE_TIMING));
  REQUIRE_OK(cuEventCreate(&part, CU_EVENT_DISABLE_TIMING));
  CHECK_OK(cuStreamGetCtx(stream, &got));
  CHECK(got == green);
  {
    const Hold hold(session, stream);
    CHECK_OK(cuCtxRecordEvent(primary, whole));
    CHECK(cuEventQuery(whole) == CUDA_ERROR_NOT_READY);
  }
  {
    const Hold hold(session, nullptr);  // the primary context's
    CHECK_OK(cuCtxRecordEvent(green, part));
    CHECK_OK(cuEventQuery(part));
  }
  REQUIRE_OK(cuCtxSetCurrent(green));
  CHECK_OK(cuStreamGetGreenCtx(nullptr, &found));
  CHECK(found == handle);
  CUdeviceptr p = 0;
  REQUIRE_OK(cuMemAlloc(&p, 100));
  CHECK_OK(cuPointerGetAttribute(&got, CU_POINTER_ATTRIBUTE_CONTEXT, p));
  CHECK(got == primary);
  CHECK(cuCtxDestroy(green) == CUDA_ERROR_INVALID_CONTEXT);
  REQUIRE_OK(cuGreenCtxDestroy(handle));
  CHECK(cuMemAlloc(&p, 100) == CUDA_ERROR_CONTEXT_IS_DESTROYED);
  CHECK(cuCtxFromGreenCtx(&got, handle) == CUDA_ERROR_CONTEXT_IS_DESTROYED);
  CHECK(cuCtxRecordEvent(green, part) == CUDA_ERROR_CONTEXT_IS_DESTROYED);
  REQUIRE_OK(cuCtxSetCurrent(primary));
  CHECK_OK(cuMemFree(p));
  CHECK_OK(cuEventDestroy(whole));
  CHECK_OK(cuEventDestroy(part));
}
