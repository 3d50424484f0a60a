#include "tests/conformance/driver.hpp"

#include <dlfcn.h>
#include <cstring>

#include "kernels/testing.h"

namespace flexlom::conformance {

namespace {

void* driver_library() {
  static void* const library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
  return library;
}

struct NamedResult {
  CUresult result;
  const char* name;
};

constexpr NamedResult kResults[] = {
    {CUDA_SUCCESS, "SUCCESS"},
    {CUDA_ERROR_INVALID_VALUE, "INVALID_VALUE"},
    {CUDA_ERROR_OUT_OF_MEMORY, "OUT_OF_MEMORY"},
    {CUDA_ERROR_NOT_INITIALIZED, "NOT_INITIALIZED"},
    {CUDA_ERROR_DEINITIALIZED, "DEINITIALIZED"},
    {CUDA_ERROR_STUB_LIBRARY, "STUB_LIBRARY"},
    {CUDA_ERROR_DEVICE_UNAVAILABLE, "DEVICE_UNAVAILABLE"},
    {CUDA_ERROR_NO_DEVICE, "NO_DEVICE"},
    {CUDA_ERROR_INVALID_DEVICE, "INVALID_DEVICE"},
    {CUDA_ERROR_INVALID_IMAGE, "INVALID_IMAGE"},
    {CUDA_ERROR_INVALID_CONTEXT, "INVALID_CONTEXT"},
    {CUDA_ERROR_MAP_FAILED, "MAP_FAILED"},
    {CUDA_ERROR_UNMAP_FAILED, "UNMAP_FAILED"},
    {CUDA_ERROR_ALREADY_MAPPED, "ALREADY_MAPPED"},
    {CUDA_ERROR_NO_BINARY_FOR_GPU, "NO_BINARY_FOR_GPU"},
    {CUDA_ERROR_NOT_MAPPED, "NOT_MAPPED"},
    {CUDA_ERROR_UNSUPPORTED_LIMIT, "UNSUPPORTED_LIMIT"},
    {CUDA_ERROR_PEER_ACCESS_UNSUPPORTED, "PEER_ACCESS_UNSUPPORTED"},
    {CUDA_ERROR_UNSUPPORTED_PTX_VERSION, "UNSUPPORTED_PTX_VERSION"},
    {CUDA_ERROR_INVALID_SOURCE, "INVALID_SOURCE"},
    {CUDA_ERROR_FILE_NOT_FOUND, "FILE_NOT_FOUND"},
    {CUDA_ERROR_OPERATING_SYSTEM, "OPERATING_SYSTEM"},
    {CUDA_ERROR_INVALID_HANDLE, "INVALID_HANDLE"},
    {CUDA_ERROR_ILLEGAL_STATE, "ILLEGAL_STATE"},
    {CUDA_ERROR_NOT_FOUND, "NOT_FOUND"},
    {CUDA_ERROR_NOT_READY, "NOT_READY"},
    {CUDA_ERROR_ILLEGAL_ADDRESS, "ILLEGAL_ADDRESS"},
    {CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES, "LAUNCH_OUT_OF_RESOURCES"},
    {CUDA_ERROR_LAUNCH_TIMEOUT, "LAUNCH_TIMEOUT"},
    {CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED, "PEER_ACCESS_ALREADY_ENABLED"},
    {CUDA_ERROR_PEER_ACCESS_NOT_ENABLED, "PEER_ACCESS_NOT_ENABLED"},
    {CUDA_ERROR_PRIMARY_CONTEXT_ACTIVE, "PRIMARY_CONTEXT_ACTIVE"},
    {CUDA_ERROR_CONTEXT_IS_DESTROYED, "CONTEXT_IS_DESTROYED"},
    {CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED, "HOST_MEMORY_ALREADY_REGISTERED"},
    {CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED, "HOST_MEMORY_NOT_REGISTERED"},
    {CUDA_ERROR_MISALIGNED_ADDRESS, "MISALIGNED_ADDRESS"},
    {CUDA_ERROR_INVALID_ADDRESS_SPACE, "INVALID_ADDRESS_SPACE"},
    {CUDA_ERROR_LAUNCH_FAILED, "LAUNCH_FAILED"},
    {CUDA_ERROR_NOT_PERMITTED, "NOT_PERMITTED"},
    {CUDA_ERROR_NOT_SUPPORTED, "NOT_SUPPORTED"},
    {CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, "STREAM_CAPTURE_UNSUPPORTED"},
    {CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, "STREAM_CAPTURE_INVALIDATED"},
    {CUDA_ERROR_STREAM_CAPTURE_MERGE, "STREAM_CAPTURE_MERGE"},
    {CUDA_ERROR_STREAM_CAPTURE_UNMATCHED, "STREAM_CAPTURE_UNMATCHED"},
    {CUDA_ERROR_STREAM_CAPTURE_UNJOINED, "STREAM_CAPTURE_UNJOINED"},
    {CUDA_ERROR_STREAM_CAPTURE_ISOLATION, "STREAM_CAPTURE_ISOLATION"},
    {CUDA_ERROR_STREAM_CAPTURE_IMPLICIT, "STREAM_CAPTURE_IMPLICIT"},
    {CUDA_ERROR_CAPTURED_EVENT, "CAPTURED_EVENT"},
    {CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD, "STREAM_CAPTURE_WRONG_THREAD"},
    {CUDA_ERROR_GRAPH_EXEC_UPDATE_FAILURE, "GRAPH_EXEC_UPDATE_FAILURE"},
    {CUDA_ERROR_INVALID_RESOURCE_TYPE, "INVALID_RESOURCE_TYPE"},
    {CUDA_ERROR_UNKNOWN, "UNKNOWN"},
};

}  // namespace

std::string driver_problem() {
  if (driver_library() != nullptr) {
    return "";
  }
  const char* const why = dlerror();
  return why == nullptr ? "libcuda.so.1 cannot be opened" : why;
}

bool driver_has(const char* symbol) { return dlsym(driver_library(), symbol) != nullptr; }

void* driver_entry(const char* symbol) {
  void* const entry = dlsym(driver_library(), symbol);
  if (entry == nullptr) {
    throw MissingEntry{symbol};
  }
  return entry;
}

std::string twin_of(std::string_view symbol, bool per_thread) {
  const bool takes_stream = symbol.find("Async") != std::string_view::npos ||
                            symbol.find("Stream") != std::string_view::npos;
  return std::string(symbol) + (!per_thread ? "" : takes_stream ? "_ptsz" : "_ptds");
}

std::string result_name(CUresult result) {
  for (const NamedResult& named : kResults) {
    if (named.result == result) {
      return named.name;
    }
  }
  return fmt::format("error {}", static_cast<int>(result));
}

std::string in_order(std::initializer_list<std::string> answers) {
  std::string text;
  for (const std::string& answer : answers) {
    text += (text.empty() ? "" : " ") + answer;
  }
  return text;
}

void must(CUresult result, const char* what) {
  if (result != CUDA_SUCCESS) {
    throw GroupOver{fmt::format("{}: {}", what, result_name(result))};
  }
}

std::string relation(CUdeviceptr p, CUdeviceptr base, uint64_t size_bytes) {
  if (p == 0) {
    return "null";
  }
  if (p == base) {
    return "base";
  }
  if (p > base && p - base <= size_bytes) {
    return fmt::format("base+{}", p - base);
  }
  if (p < base && base - p <= size_bytes) {
    return fmt::format("base-{}", base - p);
  }
  return "elsewhere";
}

std::string context_name(CUcontext context) {
  CUcontext current = nullptr;
  CU(cuCtxGetCurrent)(&current);
  return context == nullptr ? "null" : context == current ? "current" : "other";
}

std::string size_name(uint64_t bytes) {
  if (bytes >= kGiB && bytes % kGiB == 0) {
    return fmt::format("{}GiB", bytes / kGiB);
  }
  if (bytes >= kMiB && bytes % kMiB == 0) {
    return fmt::format("{}MiB", bytes / kMiB);
  }
  if (bytes >= kKiB && bytes % kKiB == 0) {
    return fmt::format("{}KiB", bytes / kKiB);
  }
  return fmt::format("{}B", bytes);
}

CUmemLocation device_location(int device) {
  CUmemLocation location = {};
  location.type = CU_MEM_LOCATION_TYPE_DEVICE;
  location.id = device;
  return location;
}

CUmemLocation host_location() {
  CUmemLocation location = {};
  location.type = CU_MEM_LOCATION_TYPE_HOST;
  return location;
}

std::string reported_size(uint64_t reported_bytes, uint64_t asked_bytes) {
  return reported_bytes == asked_bytes ? "asked" : fmt::format("{}", reported_bytes);
}

CUdeviceptr allocate(uint64_t bytes) {
  CUdeviceptr p = 0;
  must(CU(cuMemAlloc)(&p, bytes), "cuMemAlloc");
  return p;
}

void clear(CUdeviceptr p, uint64_t bytes) {
  must(CU(cuMemsetD8)(p, 0, bytes), "cuMemsetD8");
  must(CU(cuCtxSynchronize)(), "cuCtxSynchronize");
}

Gpu::Gpu() {
  must(CU(cuInit)(0), "cuInit");
  must(CU(cuDeviceGet)(&device, 0), "cuDeviceGet");
  must(CU(cuDevicePrimaryCtxRetain)(&context, device), "cuDevicePrimaryCtxRetain");
  must(CU(cuCtxSetCurrent)(context), "cuCtxSetCurrent");
}

int Gpu::attribute(CUdevice_attribute which) const {
  int value = -1;
  return CU(cuDeviceGetAttribute)(&value, which, device) == CUDA_SUCCESS ? value : -1;
}

Kernels::Kernels() {
  must(CU(cuModuleLoadData)(&module_, flexlom_testing_fatbin), "cuModuleLoadData");
  must(CU(cuMemAlloc)(&counter_, sizeof(uint64_t)), "counter of the testing kernels");
}

CUfunction Kernels::function(const char* name) const {
  CUfunction function = nullptr;
  must(CU(cuModuleGetFunction)(&function, module_, name), name);
  return function;
}

CUresult Kernels::launch_raw(CUstream stream, const char* name, void** params) const {
  const bool alone = std::strstr(name, "spin") != nullptr || std::strstr(name, "chase") != nullptr;
  return CU(cuLaunchKernel)(function(name), alone ? 1 : 264, 1, 1, alone ? 1 : 256, 1, 1, 0, stream,
                            params, nullptr);
}

CUresult Kernels::fill(CUdeviceptr p, uint64_t bytes, uint32_t seed) const {
  const CUresult launched = launch(nullptr, "flex_fill", p, bytes / 4, seed);
  return launched == CUDA_SUCCESS ? CU(cuStreamSynchronize)(nullptr) : launched;
}

std::string Kernels::contents(CUdeviceptr p, uint64_t bytes, uint32_t seed) const {
  uint64_t wrong = 0;
  CUresult result = CU(cuMemcpyHtoD)(counter_, &wrong, sizeof wrong);
  if (result == CUDA_SUCCESS) {
    result = launch(nullptr, "flex_check", p, bytes / 4, seed, counter_);
  }
  if (result == CUDA_SUCCESS) {
    result = CU(cuMemcpyDtoH)(&wrong, counter_, sizeof wrong);
  }
  if (result != CUDA_SUCCESS) {
    return result_name(result);
  }
  return wrong == 0 ? "right" : fmt::format("{} words wrong", wrong);
}

}  // namespace flexlom::conformance
