// The hidden command internal-probe: doctor runs it as a child, because a driver may hang or crash.
//
//   internal-probe driver     what the driver says about itself and its devices
//   internal-probe allocate   one allocation, written and read back
//
// It prints lines of words separated by tabs, of which the first says what follows. The driver is
// opened as programs do that do not link it, so that this tool runs where there is none.
// This room is compiled so that cuda.h declares every old name as well. Here a name should mean the
// newest version, as it does in programs.
#undef __CUDA_API_VERSION_INTERNAL
#include <cuda.h>
#include <dlfcn.h>
#include <fmt/format.h>
#include <link.h>

#include <cstdio>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "interpose/tool/commands.h"

namespace flexlom::tool {
namespace {

void say(std::string_view line) {
  fmt::print("{}\n", line);
  fflush(stdout);  // what was found out before a crash must not be lost
}

template <typename F>
F* symbol(void* library, const char* name) {
  return reinterpret_cast<F*>(dlsym(library, name));
}

// The newest name of a function is the one that cuda.h gives to its plain name.
#define NAME_OF(FUNCTION) NAME_OF_EXPANDED(FUNCTION)
#define NAME_OF_EXPANDED(FUNCTION) #FUNCTION
#define DRIVER(LIBRARY, FUNCTION) symbol<decltype(FUNCTION)>(LIBRARY, NAME_OF(FUNCTION))

class Driver {
 public:
  explicit Driver(void* library) : library_(library) {}

  // Calls a driver function by name. Prints a "fail" line when it is missing or does not succeed.
  template <typename F, typename... Arguments>
  bool call(F* function, const char* name, Arguments... arguments) const {
    if (function == nullptr) {
      say(fmt::format("fail\t{}\tmissing in this driver", name));
      return false;
    }
    CUresult code = function(arguments...);
    if (code != CUDA_SUCCESS) say(fmt::format("fail\t{}\t{}", name, error_name(code)));
    return code == CUDA_SUCCESS;
  }

  std::string error_name(CUresult code) const {
    auto* get = DRIVER(library_, cuGetErrorName);
    const char* name = nullptr;
    if (get == nullptr || get(code, &name) != CUDA_SUCCESS || name == nullptr)
      return fmt::format("error {}", static_cast<int>(code));
    return name;
  }

  void* library() const { return library_; }

 private:
  void* library_;
};

#define CALL(DRIVER_OBJECT, FUNCTION, ...) \
  (DRIVER_OBJECT).call(DRIVER((DRIVER_OBJECT).library(), FUNCTION), #FUNCTION, __VA_ARGS__)

size_t granularity(const Driver& driver, CUmemLocationType type, int id) {
  auto* get = DRIVER(driver.library(), cuMemGetAllocationGranularity);
  CUmemAllocationProp wanted{};
  wanted.type = CU_MEM_ALLOCATION_TYPE_PINNED;
  wanted.location.type = type;
  wanted.location.id = id;
  size_t bytes = 0;
  if (get == nullptr || get(&bytes, &wanted, CU_MEM_ALLOC_GRANULARITY_MINIMUM) != CUDA_SUCCESS)
    return 0;
  return bytes;
}

int attribute(const Driver& driver, CUdevice_attribute which, CUdevice device) {
  auto* get = DRIVER(driver.library(), cuDeviceGetAttribute);
  int value = 0;
  return get != nullptr && get(&value, which, device) == CUDA_SUCCESS ? value : 0;
}

// device, ordinal, name, bytes, VMM, host NUMA VMM, host VMM, granularity, host granularity
void describe(const Driver& driver, int ordinal) {
  CUdevice device = 0;
  char name[256] = "";
  size_t bytes = 0;
  if (!CALL(driver, cuDeviceGet, &device, ordinal)) return;
  if (!CALL(driver, cuDeviceGetName, name, static_cast<int>(sizeof name), device)) return;
  if (!CALL(driver, cuDeviceTotalMem, &bytes, device)) return;
  int numa = attribute(driver, CU_DEVICE_ATTRIBUTE_HOST_NUMA_ID, device);
  say(fmt::format(
      "device\t{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}", ordinal, name, bytes,
      attribute(driver, CU_DEVICE_ATTRIBUTE_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED, device),
      attribute(driver, CU_DEVICE_ATTRIBUTE_HOST_NUMA_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED, device),
      attribute(driver, CU_DEVICE_ATTRIBUTE_HOST_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED, device),
      granularity(driver, CU_MEM_LOCATION_TYPE_DEVICE, device),
      granularity(driver, CU_MEM_LOCATION_TYPE_HOST_NUMA, numa > 0 ? numa : 0)));
}

int probe_driver(const Driver& driver) {
  int version = 0, count = 0;
  if (CALL(driver, cuDriverGetVersion, &version)) say(fmt::format("version\t{}", version));
  if (!CALL(driver, cuInit, 0u)) return 1;
  say("initialized");
  if (!CALL(driver, cuDeviceGetCount, &count)) return 1;
  say(fmt::format("devices\t{}", count));
  for (int ordinal = 0; ordinal < count; ordinal++) describe(driver, ordinal);
  return 0;
}

int probe_allocation(const Driver& driver) {
  constexpr size_t bytes = size_t{4} << 20;
  constexpr unsigned char pattern = 0xa5;
  CUdevice device = 0;
  CUcontext context = nullptr;
  CUdeviceptr address = 0;
  if (!CALL(driver, cuInit, 0u) || !CALL(driver, cuDeviceGet, &device, 0) ||
      !CALL(driver, cuDevicePrimaryCtxRetain, &context, device) ||
      !CALL(driver, cuCtxSetCurrent, context) || !CALL(driver, cuMemAlloc, &address, bytes))
    return 1;
  std::vector<unsigned char> back(bytes);
  if (!CALL(driver, cuMemsetD8, address, pattern, bytes) ||
      !CALL(driver, cuMemcpyDtoH, static_cast<void*>(back.data()), address, bytes))
    return 1;
  for (size_t i = 0; i < bytes; i++) {
    if (back[i] == pattern) continue;
    say(fmt::format("fail\tread back\tbyte {} is {:#x}, not {:#x}", i, back[i], pattern));
    return 1;
  }
  size_t free_bytes = 0, total_bytes = 0;
  if (CALL(driver, cuMemGetInfo, &free_bytes, &total_bytes))
    say(fmt::format("memory\t{}\t{}", free_bytes, total_bytes));
  if (!CALL(driver, cuMemFree, address)) return 1;
  if (!CALL(driver, cuDevicePrimaryCtxRelease, device)) return 1;
  say(fmt::format("allocated\t{:#x}", address));
  return 0;
}

// Whether libflexlom.so is in this process, and from where.
void say_library() {
  auto visit = [](dl_phdr_info* info, size_t, void*) {
    std::string_view path = info->dlpi_name != nullptr ? info->dlpi_name : "";
    if (path.ends_with("/libflexlom.so")) say(fmt::format("flexlom\t{}", path));
    return 0;
  };
  dl_iterate_phdr(visit, nullptr);
  auto* version = symbol<const char*()>(RTLD_DEFAULT, "flexlom_version");
  if (version != nullptr) say(fmt::format("flexlom_version\t{}", version()));
}

}  // namespace

int probe_command(Words words) {
  std::string_view what = words.empty() ? "" : words[0];
  if (what != "driver" && what != "allocate") return exit_usage;
  say_library();
  void* library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_GLOBAL);
  if (library == nullptr) {
    say(fmt::format("fail\tdlopen\t{}", dlerror()));
    return 1;
  }
  link_map* map = nullptr;
  if (dlinfo(library, RTLD_DI_LINKMAP, &map) == 0 && map != nullptr)
    say(fmt::format("libcuda\t{}", map->l_name));
  Driver driver(library);
  return what == "driver" ? probe_driver(driver) : probe_allocation(driver);
}

}  // namespace flexlom::tool
