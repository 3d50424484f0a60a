// What graph_operands.cpp works with: the driver, and memory that can be mapped anew.
#pragma once

#include <cstring>
#include <map>
#include <string>
#include <vector>

#include "kernels/testing.h"
#include "tests/gpu/driver.h"

namespace operands {

// clang-format off
#define OPERAND_FUNCTIONS(X) \
  X(cuDeviceGetAttribute) X(cuMemAddressReserve) X(cuMemCreate) X(cuMemMap) X(cuMemSetAccess) \
  X(cuMemUnmap) X(cuMemRelease) X(cuMemHostAlloc) X(cuMemcpyDtoDAsync) X(cuMemcpyHtoDAsync) \
  X(cuMemcpyDtoHAsync) X(cuMemcpy3DAsync) X(cuMemsetD32Async) X(cuMemsetD2D32Async) \
  X(cuStreamBeginCapture) X(cuStreamEndCapture) X(cuStreamDestroy) X(cuGraphCreate) \
  X(cuGraphDestroy) X(cuGraphGetNodes) X(cuGraphAddMemcpyNode) X(cuGraphAddMemsetNode) \
  X(cuGraphMemcpyNodeGetParams) X(cuGraphMemcpyNodeSetParams) X(cuGraphMemsetNodeSetParams) \
  X(cuGraphInstantiate) X(cuGraphExecDestroy) X(cuGraphExecUpdate) X(cuGraphLaunch) \
  X(cuGraphUpload) X(cuGraphExecMemcpyNodeSetParams) X(cuGraphExecMemsetNodeSetParams) \
  X(cuGraphExecNodeSetParams) X(cuGraphAddChildGraphNode) X(cuGraphExecChildGraphNodeSetParams)
// clang-format on

struct Functions {
#define X(name) decltype(&::name) name = nullptr;
  OPERAND_FUNCTIONS(X)
#undef X

  Functions() {
    void* library = dlopen("libcuda.so.1", RTLD_NOW);
#define X(name)                                                                     \
  this->name = reinterpret_cast<decltype(name)>(dlsym(library, SYMBOL_TEXT(name))); \
  if (this->name == nullptr) driver::Driver::skip("the driver lacks", SYMBOL_TEXT(name));
#define SYMBOL_TEXT(name) DRIVER_STRING(name)
    OPERAND_FUNCTIONS(X)
#undef X
  }
};

inline constexpr size_t kGranule = size_t{2} << 20, kGranules = 2, kBytes = kGranule * kGranules;

struct Gpu {
  driver::Driver cuda = driver::Driver::load();
  Functions f;
  CUdevice device = 0;
  CUcontext context = nullptr;
  CUstream stream = nullptr;
  CUfunction copy = nullptr;
  unsigned char* pinned = nullptr;   // kBytes, a pattern
  unsigned char* landing = nullptr;  // kBytes
  CUmemAllocationProp here{}, host{};
  const char* host_location = "HOST_NUMA";

  Gpu() {
    device = cuda.use_first_device();
    must(cuda.cuCtxGetCurrent_(&context), "cuCtxGetCurrent");
    must(cuda.cuStreamCreate_(&stream, CU_STREAM_NON_BLOCKING), "cuStreamCreate");
    CUmodule module = nullptr;
    must(cuda.cuModuleLoadData_(&module, flexlom_testing_fatbin), "cuModuleLoadData");
    copy = cuda.kernel(module, "flex_copy");
    for (unsigned char** memory : {&pinned, &landing})
      must(f.cuMemHostAlloc(reinterpret_cast<void**>(memory), kBytes, CU_MEMHOSTALLOC_PORTABLE),
           "cuMemHostAlloc");
    for (size_t i = 0; i < kBytes; ++i) pinned[i] = static_cast<unsigned char>(i * 131 >> 3);
    here.type = host.type = CU_MEM_ALLOCATION_TYPE_PINNED;
    here.location.type = CU_MEM_LOCATION_TYPE_DEVICE;
    here.location.id = device;
    int node = -1;
    f.cuDeviceGetAttribute(&node, CU_DEVICE_ATTRIBUTE_HOST_NUMA_ID, device);
    host.location.type = CU_MEM_LOCATION_TYPE_HOST_NUMA;
    host.location.id = node;
    if (node >= 0 && granted()) return;
    host.location.type = CU_MEM_LOCATION_TYPE_HOST;
    host.location.id = 0;
    host_location = "HOST";
    if (!granted()) driver::Driver::skip("the driver has", "no host-located memory");
  }

  bool granted() const {
    CUmemGenericAllocationHandle handle = 0;
    return f.cuMemCreate(&handle, kGranule, &host, 0) == CUDA_SUCCESS &&
           f.cuMemRelease(handle) == CUDA_SUCCESS;
  }
  void must(CUresult result, const char* what) const { cuda.check(result, what); }
};

inline const Gpu& gpu() {
  static const Gpu the;
  return the;
}
#define MUST(name, ...) gpu().must(gpu().f.name(__VA_ARGS__), #name)

using Handle = CUmemGenericAllocationHandle;

// Addresses whose granules can be mapped anew. Not given back: the process ends.
class Range {
 public:
  Range() {
    MUST(cuMemAddressReserve, &base_, kBytes, kGranule, 0, 0);
    for (size_t i = 0; i < kGranules; ++i) {
      MUST(cuMemCreate, &device_[i], kGranule, &gpu().here, 0);
      MUST(cuMemCreate, &host_[i], kGranule, &gpu().host, 0);
    }
  }
  CUdeviceptr base() const { return base_; }

  // One letter for all of its granules, or one for each of them.
  void to(const std::string& where) {
    for (size_t i = 0; i < kGranules; ++i) {
      const char letter = where[i < where.size() ? i : where.size() - 1];
      granule(i, letter == '1' && i > 0 ? 'U' : letter);
    }
  }
  void to(char where) { to(std::string(1, where)); }

 private:
  void granule(size_t i, char where) {
    if (at_[i] == where) return;
    const CUdeviceptr address = base_ + i * kGranule;
    if (at_[i] != 'U') MUST(cuMemUnmap, address, kGranule);
    at_[i] = where;
    if (where == 'U') return;
    MUST(cuMemMap, address, kGranule, 0,
         where == 'H'   ? host_[i]
         : where == 'X' ? dummy()
                        : device_[i],
         0);
    CUmemAccessDesc access{};
    access.location = gpu().here.location;
    access.flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE;
    MUST(cuMemSetAccess, address, kGranule, &access, 1);
  }
  // One frame for everybody, so the same one at several addresses.
  static Handle dummy() {
    static const Handle the = [] {
      Handle handle = 0;
      MUST(cuMemCreate, &handle, kGranule, &gpu().here, 0);
      return handle;
    }();
    return the;
  }

  CUdeviceptr base_ = 0;
  Handle device_[kGranules] = {}, host_[kGranules] = {};
  char at_[kGranules] = {'U', 'U'};
};

struct Operands {
  Range source, target;
  void to(char where) { to(std::string(1, where), std::string(1, where)); }
  void to(const std::string& from, const std::string& into) {
    source.to(from);
    target.to(into);
  }
};

enum class Kind {
  copy_captured,
  copy_device,
  copy_unified,
  plane_device,
  box_captured,
  box_device,
  box_unified,
  up,
  down,
  set_captured,
  set_added,
  set_2d_captured,
  set_2d_added,
  kernel,
};
struct KindName {
  Kind kind;
  const char* text;
};
inline constexpr KindName kKinds[] = {{Kind::copy_captured, "copy_captured"},
                                      {Kind::copy_device, "copy_added_device"},
                                      {Kind::copy_unified, "copy_added_unified"},
                                      {Kind::plane_device, "copy_2d_added_device"},
                                      {Kind::box_captured, "copy_3d_captured"},
                                      {Kind::box_device, "copy_3d_added_device"},
                                      {Kind::box_unified, "copy_3d_added_unified"},
                                      {Kind::up, "host_to_device_captured"},
                                      {Kind::down, "device_to_host_captured"},
                                      {Kind::set_captured, "memset_captured"},
                                      {Kind::set_added, "memset_added"},
                                      {Kind::set_2d_captured, "memset_2d_captured"},
                                      {Kind::set_2d_added, "memset_2d_added"},
                                      {Kind::kernel, "kernel"}};

struct Shape {
  size_t begin = 4096;  // into the range
  size_t bytes = size_t{1} << 20;
};
inline constexpr Shape kSmall{}, kAcross{kGranule - (size_t{1} << 19), size_t{1} << 20};
inline constexpr size_t kPitch = 4096, kWidth = 3000, kSlice = 16, kRows = 12;

inline bool json = false;

// Runs that came out alike, told in one line.
class Facts {
 public:
  Facts(const char* section, const char* kind) : section_(section), kind_(kind) {}
  void add(const std::string& run, const std::string& outcome) { of_[outcome].push_back(run); }
  ~Facts() {
    for (const auto& [outcome, runs] : of_) {
      std::string list;
      for (const std::string& run : runs) list += (list.empty() ? "" : json ? "\", \"" : " ") + run;
      std::printf(json ? "{\"section\": \"%s\", \"kind\": \"%s\", \"outcome\": \"%s\", \"runs\": "
                         "[\"%s\"]}\n"
                       : "%-10s %-24s %s: %s\n",
                  section_, kind_, outcome.c_str(), list.c_str());
    }
    std::fflush(stdout);
  }

 private:
  const char* const section_;
  const char* const kind_;
  std::map<std::string, std::vector<std::string>> of_;
};

}  // namespace operands
