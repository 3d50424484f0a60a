// Pinned and registered host memory. Its device address is its host address.
#include <sys/mman.h>

#include "tests/simcuda/capture.hpp"
#include "tests/simcuda/memory.hpp"
#include "tests/simcuda/pool.hpp"
#include "tests/simcuda/vmm.hpp"

namespace flexlom::sim {

void free_pinned(Allocation& allocation) {
  munmap(reinterpret_cast<void*>(allocation.address), allocation.reserved);
  state().host.unbook(allocation.reserved);
}

namespace {

constexpr unsigned kAllocFlags =
    CU_MEMHOSTALLOC_PORTABLE | CU_MEMHOSTALLOC_DEVICEMAP | CU_MEMHOSTALLOC_WRITECOMBINED;
constexpr unsigned kRegisterFlags = CU_MEMHOSTREGISTER_PORTABLE | CU_MEMHOSTREGISTER_DEVICEMAP |
                                    CU_MEMHOSTREGISTER_IOMEMORY | CU_MEMHOSTREGISTER_READ_ONLY;

bool is_host(const Allocation& a) { return a.kind == Kind::pinned || a.kind == Kind::registered; }

CUresult pin(void** out, size_t bytes, unsigned flags) {
  require(out && (flags & ~kAllocFlags) == 0);
  Context& context = current_context();
  refuse_unsafe_in_capture();
  *out = nullptr;
  if (!bytes) return CUDA_SUCCESS;
  require(bytes <= size_t{1} << 46, CUDA_ERROR_OUT_OF_MEMORY);
  const size_t rounded = (bytes + 4095) / 4096 * 4096;
  std::lock_guard guard(state().memory_lock);
  require(state().host.book(rounded), CUDA_ERROR_OUT_OF_MEMORY);
  void* memory = mmap(nullptr, rounded, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) {
    state().host.unbook(rounded);
    return CUDA_ERROR_OUT_OF_MEMORY;
  }
  Allocation a;
  a.address = reinterpret_cast<CUdeviceptr>(memory);
  a.bytes = bytes;
  a.reserved = rounded;
  a.kind = Kind::pinned;
  a.device = context.device;
  a.context = &context;
  a.id = state().next_id++;
  a.sync_memops = false;
  allocations().emplace(a.address, std::move(a));
  *out = memory;
  return CUDA_SUCCESS;
}
CUresult mem_alloc_host(Call&, void** out, size_t bytes) {
  return pin(out, bytes, CU_MEMHOSTALLOC_PORTABLE | CU_MEMHOSTALLOC_DEVICEMAP);
}
CUresult mem_alloc_host_v1(Call& c, void** out, unsigned bytes) {
  return mem_alloc_host(c, out, bytes);
}
CUresult mem_host_alloc(Call&, void** out, size_t bytes, unsigned flags) {
  return pin(out, bytes, flags);
}

CUresult mem_free_host(Call&, void* memory) {
  Context& context = current_context();
  if (!memory) return CUDA_SUCCESS;
  refuse_unsafe_in_capture();
  const auto address = reinterpret_cast<CUdeviceptr>(memory);
  {
    std::lock_guard guard(state().memory_lock);
    const Allocation* a = allocation_at(address);
    require(a && a->address == address && a->kind == Kind::pinned);
  }
  drain(context);
  std::lock_guard guard(state().memory_lock);
  Allocation* a = allocation_at(address);
  require(a && a->address == address && a->kind == Kind::pinned);
  remove(*a);
  return CUDA_SUCCESS;
}

CUresult mem_host_register(Call&, void* memory, size_t bytes, unsigned flags) {
  require(memory && bytes && (flags & ~kRegisterFlags) == 0);
  Context& context = current_context();
  refuse_unsafe_in_capture();
  const auto address = reinterpret_cast<CUdeviceptr>(memory);
  std::lock_guard guard(state().memory_lock);
  const Allocation* there = allocation_at(address);
  require(!mapping_at(address) && (!there || is_host(*there)));
  auto next = allocations().lower_bound(address);
  require(!there && (next == allocations().end() || next->first >= address + bytes),
          CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED);
  Allocation a;
  a.address = address;
  a.bytes = a.reserved = bytes;
  a.kind = Kind::registered;
  a.device = context.device;
  a.context = &context;
  a.id = state().next_id++;
  a.sync_memops = false;
  allocations().emplace(address, std::move(a));
  return CUDA_SUCCESS;
}

CUresult mem_host_unregister(Call&, void* memory) {
  Context& context = current_context();
  require(memory);
  drain(context);
  std::lock_guard guard(state().memory_lock);
  const auto address = reinterpret_cast<CUdeviceptr>(memory);
  Allocation* a = allocation_at(address);
  require(a || mapping_at(address), CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED);
  require(!a || a->kind != Kind::pinned, CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED);
  require(a && a->kind == Kind::registered && a->address == address);
  remove(*a);
  return CUDA_SUCCESS;
}

CUresult mem_host_get_device_pointer(Call&, CUdeviceptr* out, void* memory, unsigned flags) {
  require(out && memory && !flags);
  current_context();
  std::lock_guard guard(state().memory_lock);
  const auto address = reinterpret_cast<CUdeviceptr>(memory);
  if (const Mapping* m = mapping_at(address)) {  // any address in it gives its first
    *out = m->address;
    return CUDA_SUCCESS;
  }
  const Allocation* a = allocation_at(address);
  require(a && is_host(*a));
  *out = address;
  return CUDA_SUCCESS;
}

CUresult mem_host_get_flags(Call&, unsigned* out, void* memory) {
  require(out && memory);
  current_context();
  std::lock_guard guard(state().memory_lock);
  const auto address = reinterpret_cast<CUdeviceptr>(memory);
  if (mapping_at(address)) {
    *out = CU_MEMHOSTALLOC_PORTABLE | CU_MEMHOSTALLOC_DEVICEMAP;
    return CUDA_SUCCESS;
  }
  const Allocation* a = allocation_at(address);
  require(a && (is_host(*a) || a->kind == Kind::managed));
  *out = CU_MEMHOSTALLOC_DEVICEMAP;  // whatever was asked for: unified addressing implies it
  return CUDA_SUCCESS;
}

}  // namespace
}  // namespace flexlom::sim

using namespace flexlom::sim;
SIM_EXPORT(cuMemAllocHost, mem_alloc_host_v1);
SIM_EXPORT(cuMemAllocHost_v2, mem_alloc_host);
SIM_EXPORT(cuMemHostAlloc, mem_host_alloc);
SIM_EXPORT(cuMemFreeHost, mem_free_host);
SIM_EXPORT(cuMemHostRegister, mem_host_register);
SIM_EXPORT(cuMemHostRegister_v2, mem_host_register);
SIM_EXPORT(cuMemHostUnregister, mem_host_unregister);
SIM_EXPORT(cuMemHostGetDevicePointer_v2, mem_host_get_device_pointer);
SIM_EXPORT(cuMemHostGetFlags, mem_host_get_flags);
