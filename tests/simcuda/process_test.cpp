// What needs a process of its own: other environments, crashes, forks, exits, IPC.
#include "tests/simcuda/testing.hpp"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>

using namespace testing;

namespace {
// A mapped page that its test crashes on.
CUdeviceptr mapped_page(CUmemGenericAllocationHandle& handle) {
  CUdeviceptr range = 0;
  CUmemAllocationProp properties = device_memory();
  CUmemAccessDesc access = read_write();
  REQUIRE_OK(cuMemAddressReserve(&range, kPage, 0, 0, 0));
  REQUIRE_OK(cuMemCreate(&handle, kPage, &properties, 0));
  REQUIRE_OK(cuMemMap(range, kPage, 0, handle, 0));
  REQUIRE_OK(cuMemSetAccess(range, kPage, &access, 1));
  return range;
}
bool crashed(int status) { return status != 0; }
}  // namespace

TEST_CASE("a kernel that touches an unmapped page is a crash") {
  CHECK(run_self("[.control]", {}) == 0);
  CHECK(crashed(run_self("[.touch-unmapped]", {})));
  CHECK(crashed(run_self("[.unmap-in-use]", {})));
}
TEST_CASE("control: the page is there", "[.control]") {
  Session session;
  CUmemGenericAllocationHandle handle = 0;
  const CUdeviceptr page = mapped_page(handle);
  CHECK_OK(launch(session.function("flex_fill"), nullptr, page, uint64_t{16}, uint32_t{1}));
  CHECK_OK(cuCtxSynchronize());
  CHECK_OK(cuMemUnmap(page, kPage));
  CHECK_OK(cuMemRelease(handle));
}
TEST_CASE("touch an unmapped page", "[.touch-unmapped]") {
  Session session;
  CUmemGenericAllocationHandle handle = 0;
  const CUdeviceptr page = mapped_page(handle);
  CHECK_OK(cuMemUnmap(page, kPage));
  CHECK_OK(cuMemRelease(handle));
  CHECK_OK(launch(session.function("flex_fill"), nullptr, page, uint64_t{16}, uint32_t{1}));
  cuCtxSynchronize();
}
TEST_CASE("unmap a page that a kernel is using", "[.unmap-in-use]") {
  Session session;
  CUmemGenericAllocationHandle handle = 0;
  const CUdeviceptr page = mapped_page(handle);
  Stream stream(CU_STREAM_NON_BLOCKING);
  Hold hold(session, stream.handle);
  CHECK_OK(launch(session.function("flex_fill"), stream.handle, page, uint64_t{16}, uint32_t{1}));
  CHECK_OK(cuMemUnmap(page, kPage));
  hold.release();
  cuCtxSynchronize();
}

TEST_CASE("calls before cuInit, and with a bad flag") {
  CHECK(run_self("[.before-init]", {}) == 0);
}
TEST_CASE("before init", "[.before-init]") {
  CUdeviceptr p = 0;
  int value = 0;
  CHECK(cuMemAlloc(&p, 16) == CUDA_ERROR_NOT_INITIALIZED);
  CHECK(cuDeviceGetCount(&value) == CUDA_ERROR_NOT_INITIALIZED);
  CHECK_OK(cuDriverGetVersion(&value));
  CHECK(value == 13000);
  const char* name = nullptr;
  CHECK_OK(cuGetErrorName(CUDA_ERROR_OUT_OF_MEMORY, &name));
  CHECK(std::string(name) == "CUDA_ERROR_OUT_OF_MEMORY");
  CHECK(cuInit(1) == CUDA_ERROR_INVALID_VALUE);
  CHECK_OK(cuInit(0));
  CHECK(cuMemAlloc(&p, 16) == CUDA_ERROR_INVALID_CONTEXT);
}

TEST_CASE("older drivers lack what they lacked") {
  CHECK(run_self("[.version-10010]", {"SIMCUDA_DRIVER_VERSION=10010"}) == 0);
  CHECK(run_self("[.version-12010]", {"SIMCUDA_DRIVER_VERSION=12010"}) == 0);
  CHECK(run_self("[.no-host-vmm]", {"SIMCUDA_NO_HOST_VMM=1"}) == 0);
  CHECK(run_self("[.no-device]", {"SIMCUDA_DEVICES=0"}) == 0);
}
TEST_CASE("10.1 has no virtual memory management", "[.version-10010]") {
  Session session;
  int value = 0;
  CHECK_OK(cuDriverGetVersion(&value));
  CHECK(value == 10010);
  CHECK(cuDeviceGetAttribute(&value, CU_DEVICE_ATTRIBUTE_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED, 0) ==
        CUDA_ERROR_INVALID_VALUE);
  void* found = nullptr;
  CUdriverProcAddressQueryResult status{};
  CHECK_OK(cuGetProcAddress_v2("cuMemCreate", &found, 13000, 0, &status));
  CHECK(found == nullptr);
  CHECK(status == CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND);
}
TEST_CASE("12.1 has no host memory in VMM and no context events", "[.version-12010]") {
  Session session;
  int value = 1;
  CHECK_OK(cuDeviceGetAttribute(
      &value, CU_DEVICE_ATTRIBUTE_HOST_NUMA_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED, 0));
  CHECK(value == 0);
  void* found = nullptr;
  CHECK_OK(cuGetProcAddress_v2("cuCtxRecordEvent", &found, 13000, 0, nullptr));
  CHECK(found == nullptr);
  CHECK_OK(cuGetProcAddress_v2("cuMemCreate", &found, 13000, 0, nullptr));
  CHECK(found != nullptr);
}
TEST_CASE("host VMM can be switched off", "[.no-host-vmm]") {
  Session session;
  CUmemAllocationProp properties = device_memory();
  properties.location = {CU_MEM_LOCATION_TYPE_HOST_NUMA, 0};
  CUmemGenericAllocationHandle handle = 0;
  CHECK(cuMemCreate(&handle, kPage, &properties, 0) == CUDA_ERROR_NOT_SUPPORTED);
}
TEST_CASE("no device", "[.no-device]") { CHECK(cuInit(0) == CUDA_ERROR_NO_DEVICE); }

TEST_CASE("the child of a fork has no driver") {
  Session session;
  Memory m(100);
  const pid_t child = fork();
  if (child == 0) {
    CUdeviceptr p = 0;
    const bool refused = cuMemAlloc(&p, 16) == CUDA_ERROR_NOT_INITIALIZED &&
                         cuInit(0) == CUDA_ERROR_NOT_INITIALIZED &&
                         cuCtxSynchronize() == CUDA_ERROR_NOT_INITIALIZED;
    _exit(refused ? 0 : 1);
  }
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  CHECK(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 0);
  CHECK_OK(cuMemsetD8(m.address, 1, 100));
  CHECK_OK(cuCtxSynchronize());
}

TEST_CASE("after exit handlers the driver is gone") { CHECK(run_self("[.at-exit]", {}) == 42); }
TEST_CASE("at exit", "[.at-exit]") {
  atexit([] {
    CUdeviceptr p = 0;
    int version = 0;
    const bool gone = cuMemAlloc(&p, 16) == CUDA_ERROR_DEINITIALIZED &&
                      cuDriverGetVersion(&version) == CUDA_ERROR_DEINITIALIZED;
    _exit(gone ? 42 : 43);
  });
  REQUIRE_OK(cuInit(0));  // after the handler: the driver's own runs first
}

TEST_CASE("exit handlers that run before the driver's own can call it") {
  CHECK(run_self("[.calls-at-exit]", {}) == 44);
}
TEST_CASE("calls at exit", "[.calls-at-exit]") {
  REQUIRE_OK(cuInit(0));
  static CUcontext context = nullptr;
  REQUIRE_OK(cuCtxCreate(&context, nullptr, 0, 0));
  static CUdeviceptr kept = 0;
  REQUIRE_OK(cuMemAlloc(&kept, 1000));
  atexit([] { _exit(cuMemFree(kept) == CUDA_SUCCESS ? 44 : 45); });
}

TEST_CASE("exit while a kernel never ends") { CHECK(run_self("[.spinning]", {}) == 0); }
TEST_CASE("a kernel that never ends", "[.spinning]") {
  REQUIRE_OK(cuInit(0));
  CUcontext context = nullptr;
  CUmodule module = nullptr;
  CUfunction spin = nullptr;
  REQUIRE_OK(cuCtxCreate(&context, nullptr, 0, 0));
  REQUIRE_OK(cuModuleLoadData(&module, "x"));
  REQUIRE_OK(cuModuleGetFunction(&spin, module, "flex_spin_until"));
  void* flag = nullptr;
  REQUIRE_OK(cuMemAllocHost(&flag, 64));
  memset(flag, 0, 64);
  CHECK_OK(launch(spin, nullptr, static_cast<uint32_t*>(flag), uint32_t{1}));
}

TEST_CASE("legacy IPC between processes") {
  Session session;
  Memory m(5000);
  CHECK_OK(cuMemsetD8(m.address, 0x41, 5000));
  CHECK_OK(cuCtxSynchronize());
  CUipcMemHandle handle{};
  REQUIRE_OK(cuIpcGetMemHandle(&handle, m.address));
  CUdeviceptr again = 0;
  CHECK(cuIpcOpenMemHandle(&again, handle, CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS) ==
        CUDA_ERROR_INVALID_CONTEXT);
  std::string text = "SIMTEST_IPC=";
  for (unsigned char byte : handle.reserved) {
    char hex[3];
    snprintf(hex, sizeof hex, "%02x", byte);
    text += hex;
  }
  CHECK(run_self("[.ipc-peer]", {text}) == 0);
  unsigned char byte = 0;
  CHECK_OK(cuMemcpyDtoH(&byte, m.address + 4999, 1));
  CHECK(byte == 0x42);
  CHECK(cuIpcCloseMemHandle(m.address) == CUDA_ERROR_INVALID_VALUE);
}
TEST_CASE("the peer of an IPC test", "[.ipc-peer]") {
  Session session;
  const std::string text = getenv("SIMTEST_IPC");
  CUipcMemHandle handle{};
  REQUIRE(text.size() == 2 * sizeof handle.reserved);
  for (size_t i = 0; i < sizeof handle.reserved; ++i)
    handle.reserved[i] = static_cast<char>(std::stoi(text.substr(2 * i, 2), nullptr, 16));
  CUdeviceptr p = 0, same = 0;
  REQUIRE_OK(cuIpcOpenMemHandle(&p, handle, CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS));
  REQUIRE_OK(cuIpcOpenMemHandle(&same, handle, CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS));
  CHECK(p == same);
  std::vector<unsigned char> data(5000);
  CHECK_OK(cuMemcpyDtoH(data.data(), p, 5000));
  CHECK(data == std::vector<unsigned char>(5000, 0x41));
  CHECK_OK(cuMemsetD8(p, 0x42, 5000));
  CHECK_OK(cuCtxSynchronize());
  CHECK_OK(cuIpcCloseMemHandle(p));
  CHECK_OK(cuIpcCloseMemHandle(p));
  CHECK(cuIpcCloseMemHandle(p) == CUDA_ERROR_INVALID_VALUE);
}

TEST_CASE("faults and the call trace come from the environment") {
  char path[] = "/tmp/simcuda_trace_XXXXXX";
  const int fd = mkstemp(path);
  REQUIRE(fd >= 0);
  close(fd);
  CHECK(run_self("[.environment]", {"SIMCUDA_FAULT=cuMemAlloc:n=1:err=700",
                                    std::string("SIMCUDA_TRACE=") + path}) == 0);
  std::ifstream trace(path);
  std::string text((std::istreambuf_iterator<char>(trace)), {});
  CHECK(text.find(" cuInit\n") != std::string::npos);
  CHECK(text.find(" cuMemAlloc_v2\n") != std::string::npos);
  unlink(path);
}
TEST_CASE("from the environment", "[.environment]") {
  Session session;
  CUdeviceptr p = 0;
  CHECK(cuMemAlloc(&p, 16) == CUDA_ERROR_ILLEGAL_ADDRESS);
  CHECK(cuMemAlloc(&p, 16) == CUDA_SUCCESS);
  CHECK(cuMemFree(p) == CUDA_SUCCESS);
}

TEST_CASE("an exported page is the same memory in another process") {
  Session session;
  CUdeviceptr range = 0;
  CUmemGenericAllocationHandle handle = 0;
  CUmemAllocationProp properties = device_memory(1);
  properties.requestedHandleTypes = CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR;
  CUmemAccessDesc access = read_write();
  REQUIRE_OK(cuMemAddressReserve(&range, kPage, 0, 0, 0));
  REQUIRE_OK(cuMemCreate(&handle, kPage, &properties, 0));
  REQUIRE_OK(cuMemMap(range, kPage, 0, handle, 0));
  REQUIRE_OK(cuMemSetAccess(range, kPage, &access, 1));
  CHECK_OK(cuMemsetD8(range, 0x51, kPage));
  CHECK_OK(cuCtxSynchronize());
  int fd = -1;
  REQUIRE_OK(
      cuMemExportToShareableHandle(&fd, handle, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, 0));
  const int inherited = dup(fd);  // exported ones close on exec
  CHECK(run_self("[.import-peer]", {"SIMTEST_FD=" + std::to_string(inherited)}) == 0);
  close(inherited);
  close(fd);
  unsigned char byte = 0;
  CHECK_OK(cuMemcpyDtoH(&byte, range + kPage - 1, 1));
  CHECK(byte == 0x52);
  CHECK_OK(cuMemUnmap(range, kPage));
  CHECK_OK(cuMemRelease(handle));
  CHECK_OK(cuMemAddressFree(range, kPage));
}
TEST_CASE("the peer of an import test", "[.import-peer]") {
  Session session;
  CUdeviceptr range = 0;
  CUmemGenericAllocationHandle handle = 0;
  CUmemAllocationProp properties{};
  CUmemAccessDesc access = read_write();
  const auto fd = static_cast<intptr_t>(std::stoi(getenv("SIMTEST_FD")));
  REQUIRE_OK(cuMemImportFromShareableHandle(&handle, reinterpret_cast<void*>(fd),
                                            CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR));
  CHECK_OK(cuMemGetAllocationPropertiesFromHandle(&properties, handle));
  CHECK(properties.location.id == 1);
  CHECK(simcuda_device_bytes(1) == 0);  // the exporter pays
  REQUIRE_OK(cuMemAddressReserve(&range, kPage, 0, 0, 0));
  REQUIRE_OK(cuMemMap(range, kPage, 0, handle, 0));
  REQUIRE_OK(cuMemSetAccess(range, kPage, &access, 1));
  unsigned char byte = 0;
  CHECK_OK(cuMemcpyDtoH(&byte, range + 12345, 1));
  CHECK(byte == 0x51);
  CHECK_OK(cuMemsetD8(range, 0x52, kPage));
  CHECK_OK(cuCtxSynchronize());
  CHECK_OK(cuMemUnmap(range, kPage));
  CHECK_OK(cuMemRelease(handle));
  CHECK_OK(cuMemAddressFree(range, kPage));
}

TEST_CASE("host memory has a limit when one is set") {
  CHECK(run_self("[.host-limit]", {"SIMCUDA_HOST_MEMORY=8M"}) == 0);
}
TEST_CASE("8 MiB of host memory", "[.host-limit]") {
  Session session;
  Pinned some(3u << 20);
  CUmemAllocationProp properties = device_memory();
  properties.location = {CU_MEM_LOCATION_TYPE_HOST_NUMA, 0};
  CUmemGenericAllocationHandle first = 0, second = 0;
  CHECK_OK(cuMemCreate(&first, 2 * kPage, &properties, 0));
  CHECK(simcuda_host_bytes() == 7u << 20);
  CHECK(cuMemCreate(&second, kPage, &properties, 0) == CUDA_ERROR_OUT_OF_MEMORY);
  void* memory = nullptr;
  CHECK(cuMemAllocHost(&memory, 2u << 20) == CUDA_ERROR_OUT_OF_MEMORY);
  CHECK_OK(cuMemRelease(first));
}

TEST_CASE("SIMCUDA_DELAY makes calls cost time") {
  CHECK(run_self("[.delay]", {"SIMCUDA_DELAY=100"}) == 0);
}
TEST_CASE("a slow driver", "[.delay]") {
  Session session;
  CUmemAllocationProp properties = device_memory();
  CUmemGenericAllocationHandle handle = 0;
  const auto start = std::chrono::steady_clock::now();
  CHECK_OK(cuMemCreate(&handle, kPage, &properties, 0));
  CHECK(std::chrono::steady_clock::now() - start >= std::chrono::microseconds(900));
  CHECK_OK(cuMemRelease(handle));
}
