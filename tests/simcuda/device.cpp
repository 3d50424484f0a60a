// Devices: what the simulated ones say about themselves.
#include <algorithm>
#include <cstdio>
#include <cstring>

#include "tests/simcuda/capture.hpp"
#include "tests/simcuda/context.hpp"

namespace flexlom::sim {
namespace {

CUresult device_get_count(Call&, int* out) {
  require(out);
  *out = static_cast<int>(state().devices.size());
  return CUDA_SUCCESS;
}
CUresult device_get(Call&, CUdevice* out, int ordinal) {
  require(out);
  *out = device_at(ordinal).ordinal;
  return CUDA_SUCCESS;
}
CUresult device_get_name(Call&, char* out, int bytes, CUdevice dev) {
  require(out && bytes > 0);
  device_at(dev);
  snprintf(out, static_cast<size_t>(bytes), "flexlom simulated device");
  return CUDA_SUCCESS;
}
CUresult device_get_uuid(Call&, CUuuid* out, CUdevice dev) {
  require(out);
  device_at(dev);
  memcpy(out->bytes, "flexlom-sim-gpu", 15);
  out->bytes[15] = static_cast<char>(dev);
  return CUDA_SUCCESS;
}
CUresult device_get_luid(Call&, char*, unsigned*, CUdevice) { return CUDA_ERROR_NOT_SUPPORTED; }
CUresult device_total_mem(Call&, size_t* out, CUdevice dev) {
  require(out);
  *out = device_at(dev).place.limit_bytes;
  return CUDA_SUCCESS;
}
CUresult device_compute_capability(Call&, int* major, int* minor, CUdevice dev) {
  require(major && minor);
  device_at(dev);
  *major = 9;
  *minor = 0;
  return CUDA_SUCCESS;
}
CUresult device_get_pci_bus_id(Call&, char* out, int bytes, CUdevice dev) {
  require(out && bytes >= 13);
  device_at(dev);
  snprintf(out, static_cast<size_t>(bytes), "0000:%02X:00.0", dev + 1);
  return CUDA_SUCCESS;
}
CUresult device_get_by_pci_bus_id(Call&, CUdevice* out, const char* id) {
  require(out && id);
  unsigned bus = 0;
  require(sscanf(id, "%*x:%x:", &bus) == 1 || sscanf(id, "%x:", &bus) == 1);
  require(bus >= 1 && bus <= state().devices.size());
  *out = static_cast<int>(bus - 1);
  return CUDA_SUCCESS;
}
CUresult device_get_properties(Call&, CUdevprop* out, CUdevice dev) {
  require(out);
  device_at(dev);
  *out = {};
  out->maxThreadsPerBlock = 1024;
  out->maxThreadsDim[0] = out->maxThreadsDim[1] = 1024;
  out->maxThreadsDim[2] = 64;
  out->maxGridSize[0] = 0x7fffffff;
  out->maxGridSize[1] = out->maxGridSize[2] = 65535;
  out->sharedMemPerBlock = 49152;
  out->totalConstantMemory = 65536;
  out->SIMDWidth = 32;
  out->memPitch = 0x7fffffff;
  out->regsPerBlock = 65536;
  out->clockRate = 1980000;
  out->textureAlign = 512;
  return CUDA_SUCCESS;
}

struct Attribute {
  int id;
  int value;
};
constexpr Attribute fixed_attributes[] = {
    {CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK, 1024},
    {CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_X, 1024},
    {CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Y, 1024},
    {CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Z, 64},
    {CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_X, 0x7fffffff},
    {CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Y, 65535},
    {CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Z, 65535},
    {CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK, 49152},
    {CU_DEVICE_ATTRIBUTE_TOTAL_CONSTANT_MEMORY, 65536},
    {CU_DEVICE_ATTRIBUTE_WARP_SIZE, 32},
    {CU_DEVICE_ATTRIBUTE_MAX_PITCH, 0x7fffffff},
    {CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_BLOCK, 65536},
    {CU_DEVICE_ATTRIBUTE_CLOCK_RATE, 1980000},
    {CU_DEVICE_ATTRIBUTE_TEXTURE_ALIGNMENT, 512},
    {CU_DEVICE_ATTRIBUTE_TEXTURE_PITCH_ALIGNMENT, 32},
    {CU_DEVICE_ATTRIBUTE_GPU_OVERLAP, 1},
    {CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, 132},
    {CU_DEVICE_ATTRIBUTE_CAN_MAP_HOST_MEMORY, 1},
    {CU_DEVICE_ATTRIBUTE_CONCURRENT_KERNELS, 1},
    {CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE, 3201000},
    {CU_DEVICE_ATTRIBUTE_GLOBAL_MEMORY_BUS_WIDTH, 6144},
    {CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE, 62914560},
    {CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_MULTIPROCESSOR, 2048},
    {CU_DEVICE_ATTRIBUTE_ASYNC_ENGINE_COUNT, 3},
    {CU_DEVICE_ATTRIBUTE_UNIFIED_ADDRESSING, 1},
    {CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, 9},
    {CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, 0},
    {CU_DEVICE_ATTRIBUTE_STREAM_PRIORITIES_SUPPORTED, 1},
    {CU_DEVICE_ATTRIBUTE_GLOBAL_L1_CACHE_SUPPORTED, 1},
    {CU_DEVICE_ATTRIBUTE_LOCAL_L1_CACHE_SUPPORTED, 1},
    {CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR, 233472},
    {CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_MULTIPROCESSOR, 65536},
    {CU_DEVICE_ATTRIBUTE_MANAGED_MEMORY, 1},
    {CU_DEVICE_ATTRIBUTE_CONCURRENT_MANAGED_ACCESS, 1},
    {CU_DEVICE_ATTRIBUTE_COMPUTE_PREEMPTION_SUPPORTED, 1},
    {CU_DEVICE_ATTRIBUTE_CAN_USE_HOST_POINTER_FOR_REGISTERED_MEM, 1},
    {CU_DEVICE_ATTRIBUTE_CAN_USE_STREAM_MEM_OPS_V1, 1},
    {CU_DEVICE_ATTRIBUTE_CAN_USE_64_BIT_STREAM_MEM_OPS_V1, 1},
    {CU_DEVICE_ATTRIBUTE_CAN_USE_STREAM_WAIT_VALUE_NOR_V1, 1},
    {CU_DEVICE_ATTRIBUTE_CAN_USE_64_BIT_STREAM_MEM_OPS, 1},
    {CU_DEVICE_ATTRIBUTE_CAN_USE_STREAM_WAIT_VALUE_NOR, 1},
    {CU_DEVICE_ATTRIBUTE_COOPERATIVE_LAUNCH, 1},
    {CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN, 232448},
    {CU_DEVICE_ATTRIBUTE_HOST_REGISTER_SUPPORTED, 1},
    {CU_DEVICE_ATTRIBUTE_MAX_BLOCKS_PER_MULTIPROCESSOR, 32},
    {CU_DEVICE_ATTRIBUTE_RESERVED_SHARED_MEMORY_PER_BLOCK, 1024},
    {CU_DEVICE_ATTRIBUTE_READ_ONLY_HOST_REGISTER_SUPPORTED, 1},
    {CU_DEVICE_ATTRIBUTE_UNIFIED_FUNCTION_POINTERS, 0},
    {CU_DEVICE_ATTRIBUTE_GPU_DIRECT_RDMA_SUPPORTED, 1},
    {CU_DEVICE_ATTRIBUTE_GPU_DIRECT_RDMA_WITH_CUDA_VMM_SUPPORTED, 1},
    {CU_DEVICE_ATTRIBUTE_NUMA_ID, -1},
    {CU_DEVICE_ATTRIBUTE_MEM_SYNC_DOMAIN_COUNT, 4},
};

int attribute_of(const Device& device, CUdevice_attribute attribute) {
  const int version = options().driver_version;
  switch (attribute) {
    case CU_DEVICE_ATTRIBUTE_PCI_BUS_ID:
      return device.ordinal + 1;
    case CU_DEVICE_ATTRIBUTE_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED:
    case CU_DEVICE_ATTRIBUTE_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR_SUPPORTED:
      return version >= 10020;
    case CU_DEVICE_ATTRIBUTE_MEMORY_POOLS_SUPPORTED:
      return version >= 11020;
    case CU_DEVICE_ATTRIBUTE_HOST_NUMA_ID:
      return version >= 12020 ? 0 : -1;
    case CU_DEVICE_ATTRIBUTE_HOST_NUMA_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED:
    case CU_DEVICE_ATTRIBUTE_HOST_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED:
      return options().host_vmm && version >= 12020;
    default:
      break;
  }
  const auto* found = std::find_if(std::begin(fixed_attributes), std::end(fixed_attributes),
                                   [&](const Attribute& known) { return known.id == attribute; });
  return found == std::end(fixed_attributes) ? 0 : found->value;
}

// An attribute that a driver of this age has not heard of.
bool known_to(int version, int attribute) {
  if (attribute <= 0 || attribute >= CU_DEVICE_ATTRIBUTE_MAX) return false;
  if (version < 10020) return attribute < CU_DEVICE_ATTRIBUTE_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED;
  if (version < 12000) return attribute < CU_DEVICE_ATTRIBUTE_NUMA_CONFIG;
  return true;
}

CUresult device_get_attribute(Call&, int* out, CUdevice_attribute attribute, CUdevice dev) {
  require(out && known_to(options().driver_version, attribute));
  *out = attribute_of(device_at(dev), attribute);
  return CUDA_SUCCESS;
}

CUresult device_can_access_peer(Call&, int* out, CUdevice dev, CUdevice peer) {
  require(out);
  device_at(dev);
  device_at(peer);
  *out = dev != peer && options().peers;
  return CUDA_SUCCESS;
}
CUresult device_get_p2p_attribute(Call&, int* out, CUdevice_P2PAttribute attribute, CUdevice from,
                                  CUdevice to) {
  require(out);
  require(device_at(from).ordinal != device_at(to).ordinal, CUDA_ERROR_INVALID_DEVICE);
  *out = attribute == CU_DEVICE_P2P_ATTRIBUTE_PERFORMANCE_RANK ? 0 : options().peers;
  return CUDA_SUCCESS;
}

CUresult ctx_enable_peer_access(Call&, CUcontext handle, unsigned flags) {
  require(!flags);
  Context& mine = current_context();
  Context& peer = context_of(handle);
  require(peer.device != mine.device && options().peers, CUDA_ERROR_PEER_ACCESS_UNSUPPORTED);
  std::lock_guard guard(state().context_lock);
  require(mine.peers.insert(&peer).second, CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED);
  return CUDA_SUCCESS;
}
CUresult ctx_disable_peer_access(Call&, CUcontext handle) {
  Context& mine = current_context();
  Context& peer = context_of(handle);
  std::lock_guard guard(state().context_lock);
  require(mine.peers.erase(&peer) == 1, CUDA_ERROR_PEER_ACCESS_NOT_ENABLED);
  return CUDA_SUCCESS;
}

CUresult ctx_get_limit(Call&, size_t* out, CUlimit limit) {
  require(out && limit >= 0 && limit < CU_LIMIT_MAX);
  Context& context = current_context();
  std::lock_guard guard(state().context_lock);
  const auto found = context.limits.find(limit);
  if (found != context.limits.end()) {
    *out = found->second;
  } else {
    *out = limit == CU_LIMIT_STACK_SIZE         ? 1024
           : limit == CU_LIMIT_PRINTF_FIFO_SIZE ? 7 << 20
           : limit == CU_LIMIT_MALLOC_HEAP_SIZE ? 8 << 20
                                                : 0;
  }
  return CUDA_SUCCESS;
}
CUresult ctx_set_limit(Call&, CUlimit limit, size_t value) {
  require(limit >= 0 && limit < CU_LIMIT_MAX);
  Context& context = current_context();
  refuse_unsafe_in_capture();
  std::lock_guard guard(state().context_lock);
  context.limits[limit] = value;
  return CUDA_SUCCESS;
}
CUresult ctx_get_cache_config(Call&, CUfunc_cache* out) {
  require(out);
  current_context();
  *out = CU_FUNC_CACHE_PREFER_NONE;
  return CUDA_SUCCESS;
}
CUresult ctx_set_cache_config(Call&, CUfunc_cache) {
  current_context();
  return CUDA_SUCCESS;
}
CUresult ctx_get_shared_config(Call&, CUsharedconfig* out) {
  require(out);
  current_context();
  *out = CU_SHARED_MEM_CONFIG_FOUR_BYTE_BANK_SIZE;
  return CUDA_SUCCESS;
}
CUresult ctx_set_shared_config(Call&, CUsharedconfig) {
  current_context();
  return CUDA_SUCCESS;
}
CUresult nothing(Call&) { return CUDA_SUCCESS; }

}  // namespace
}  // namespace flexlom::sim

using namespace flexlom::sim;
SIM_EXPORT(cuDeviceGetCount, device_get_count);
SIM_EXPORT(cuDeviceGet, device_get);
SIM_EXPORT(cuDeviceGetName, device_get_name);
SIM_EXPORT(cuDeviceGetUuid, device_get_uuid);
SIM_EXPORT(cuDeviceGetUuid_v2, device_get_uuid);
SIM_EXPORT(cuDeviceGetLuid, device_get_luid);
SIM_EXPORT(cuDeviceTotalMem_v2, device_total_mem);
SIM_EXPORT(cuDeviceComputeCapability, device_compute_capability);
SIM_EXPORT(cuDeviceGetPCIBusId, device_get_pci_bus_id);
SIM_EXPORT(cuDeviceGetByPCIBusId, device_get_by_pci_bus_id);
SIM_EXPORT(cuDeviceGetProperties, device_get_properties);
SIM_EXPORT(cuDeviceGetAttribute, device_get_attribute);
SIM_EXPORT(cuDeviceCanAccessPeer, device_can_access_peer);
SIM_EXPORT(cuDeviceGetP2PAttribute, device_get_p2p_attribute);
SIM_EXPORT(cuCtxEnablePeerAccess, ctx_enable_peer_access);
SIM_EXPORT(cuCtxDisablePeerAccess, ctx_disable_peer_access);
SIM_EXPORT(cuCtxGetLimit, ctx_get_limit);
SIM_EXPORT(cuCtxSetLimit, ctx_set_limit);
SIM_EXPORT(cuCtxGetCacheConfig, ctx_get_cache_config);
SIM_EXPORT(cuCtxSetCacheConfig, ctx_set_cache_config);
SIM_EXPORT(cuCtxGetSharedMemConfig, ctx_get_shared_config);
SIM_EXPORT(cuCtxSetSharedMemConfig, ctx_set_shared_config);
SIM_EXPORT(cuCtxResetPersistingL2Cache, nothing);
SIM_EXPORT(cuProfilerStart, nothing);
SIM_EXPORT(cuProfilerStop, nothing);
