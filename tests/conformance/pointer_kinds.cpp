#include "tests/conformance/pointer_kinds.hpp"

#include <algorithm>
#include <cstdlib>

namespace flexlom::conformance {

namespace {

// Static so that its address is a plain host address of the program's data.
int plain_variable = 0;

class Kinds {
 public:
  void add(const std::string& name, CUdeviceptr base, uint64_t bytes, uint64_t offset = 0,
           CUmemoryPool pool = nullptr) {
    kinds_.push_back({name, base + offset, base, bytes, pool});
  }
  bool made(CUresult result, const std::string& name) {
    if (result != CUDA_SUCCESS) {
      say("cannot_make." + name, result_name(result));
    }
    return result == CUDA_SUCCESS;
  }

  void device_kinds();
  void stream_ordered_kinds();
  void host_kinds();
  void vmm_kinds();
  void freed_kinds();

  std::vector<PointerKind> take() { return std::move(kinds_); }

 private:
  std::vector<PointerKind> kinds_;
};

void Kinds::device_kinds() {
  CUdeviceptr p = 0;
  if (made(CU(cuMemAlloc)(&p, 1000), "small")) {
    add("small", p, 1000);
    add("small_interior", p, 1000, 700);
  }
  if (made(CU(cuMemAlloc)(&p, kMiB), "1MiB")) {
    add("1MiB", p, kMiB);
  }
  const uint64_t large = std::min<uint64_t>(capacity_bytes() / 8, 100 * kMiB) + 12;
  if (made(CU(cuMemAlloc)(&p, large), "large")) {
    add("large", p, large);
    add("large_interior", p, large, large / 2 + 3);
    add("large_last", p, large, large - 1);
  }
  size_t pitch = 0;
  if (made(CU(cuMemAllocPitch)(&p, &pitch, 1000, 100, 4), "pitch")) {
    add("pitch", p, pitch * 100);
    add("pitch_row", p, pitch * 100, pitch * 7);
  }
  if (made(CU(cuMemAllocManaged)(&p, 5000, CU_MEM_ATTACH_GLOBAL), "managed")) {
    add("managed", p, 5000);
    add("managed_interior", p, 5000, 4097);
  }
}

void Kinds::stream_ordered_kinds() {
  CUdeviceptr p = 0;
  if (made(CU(cuMemAllocAsync)(&p, 5000, nullptr), "async")) {
    add("async", p, 5000);
    add("async_interior", p, 5000, 600);
  }
  if (made(CU(cuMemAllocAsync)(&p, 5 * kMiB + 20, nullptr), "async_large")) {
    add("async_large", p, 5 * kMiB + 20);
  }
  CUmemPoolProps props = {};
  props.allocType = CU_MEM_ALLOCATION_TYPE_PINNED;
  props.location = device_location(0);
  CUmemoryPool pool = nullptr;
  if (made(CU(cuMemPoolCreate)(&pool, &props), "pool") &&
      made(CU(cuMemAllocFromPoolAsync)(&p, 6000, pool, nullptr), "from_pool")) {
    add("from_pool", p, 6000, 0, pool);
  }
  CU(cuCtxSynchronize)();
}

void Kinds::host_kinds() {
  void* host = nullptr;
  if (made(CU(cuMemHostAlloc)(&host, 5000, 0), "host_alloc")) {
    add("host_alloc", device_address(host), 5000);
    add("host_alloc_interior", device_address(host), 5000, 4500);
  }
  const unsigned flags = CU_MEMHOSTALLOC_PORTABLE | CU_MEMHOSTALLOC_DEVICEMAP;
  if (made(CU(cuMemHostAlloc)(&host, 5000, flags), "host_mapped")) {
    add("host_mapped", device_address(host), 5000);
  }
  if (made(CU(cuMemAllocHost)(&host, 3 * kMiB), "alloc_host")) {
    add("alloc_host", device_address(host), 3 * kMiB);
  }
  host = std::aligned_alloc(4096, 2 * kMiB);
  if (made(CU(cuMemHostRegister)(host, 2 * kMiB, 0), "registered")) {
    add("registered", device_address(host), 2 * kMiB);
    add("registered_interior", device_address(host), 2 * kMiB, 5000);
  }
  add("malloc", device_address(std::malloc(5000)), 5000);
  add("variable", device_address(&plain_variable), sizeof plain_variable);
  add("null", 0, 1);
  add("one", 1, 1);
  add("unused_address", 0x600000000000, 1);
}

// What the program itself maps with the VMM calls.
void Kinds::vmm_kinds() {
  CUmemAllocationProp props = {};
  props.type = CU_MEM_ALLOCATION_TYPE_PINNED;
  props.location = device_location(0);
  CUdeviceptr p = 0;
  CUmemGenericAllocationHandle handle = 0;
  const uint64_t bytes = 4 * kMiB;
  if (!made(CU(cuMemAddressReserve)(&p, bytes, 0, 0, 0), "vmm") ||
      !made(CU(cuMemCreate)(&handle, 2 * kMiB, &props, 0), "vmm") ||
      !made(CU(cuMemMap)(p, 2 * kMiB, 0, handle, 0), "vmm")) {
    return;
  }
  CUmemAccessDesc access = {device_location(0), CU_MEM_ACCESS_FLAGS_PROT_READWRITE};
  made(CU(cuMemSetAccess)(p, 2 * kMiB, &access, 1), "vmm_access");
  add("vmm", p, 2 * kMiB);
  add("vmm_interior", p, 2 * kMiB, 70000);
  add("vmm_reserved_only", p + 2 * kMiB, 2 * kMiB);
}

// All made before the first is freed, so that none takes another's place.
void Kinds::freed_kinds() {
  CUdeviceptr large = 0;
  CUdeviceptr small = 0;
  void* host = nullptr;
  if (!made(CU(cuMemAlloc)(&large, 3 * kMiB), "freed_large") ||
      !made(CU(cuMemAlloc)(&small, 3000), "freed_small") ||
      !made(CU(cuMemHostAlloc)(&host, 5 * kMiB, 0), "freed_host")) {
    return;
  }
  CU(cuMemFree)(large);
  CU(cuMemFree)(small);
  CU(cuMemFreeHost)(host);
  add("freed_large", large, 3 * kMiB);
  add("freed_small", small, 3000);
  add("freed_host", device_address(host), 5 * kMiB);
}

}  // namespace

std::vector<PointerKind> make_pointer_kinds() {
  Kinds kinds;
  kinds.device_kinds();
  kinds.stream_ordered_kinds();
  kinds.host_kinds();
  kinds.vmm_kinds();
  kinds.freed_kinds();
  return kinds.take();
}

std::string pool_name(CUmemoryPool pool, const PointerKind& kind) {
  if (pool == nullptr) {
    return "null";
  }
  CUmemoryPool standard = nullptr;
  CU(cuDeviceGetDefaultMemPool)(&standard, 0);
  return pool == standard ? "default" : pool == kind.pool ? "own" : "other";
}

}  // namespace flexlom::conformance
