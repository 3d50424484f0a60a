#include "tests/simcuda/pool.hpp"

#include <unordered_set>

#include "tests/simcuda/capture.hpp"
#include "tests/simcuda/graph.hpp"
#include "tests/simcuda/stream.hpp"

namespace flexlom::sim {

namespace {

std::unordered_set<Pool*>& live_pools() {  // guarded by memory_lock
  static auto* const all = new std::unordered_set<Pool*>;
  return *all;
}

constexpr unsigned kPoolHandleTypes = CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR |
                                      CU_MEM_HANDLE_TYPE_WIN32 | CU_MEM_HANDLE_TYPE_WIN32_KMT |
                                      CU_MEM_HANDLE_TYPE_FABRIC;

// Most pool calls know a device only as one of their values.
Device& valid_device(CUdevice ordinal) {
  require(ordinal >= 0 && ordinal < options().devices);
  return device_at(ordinal);
}

// Memory that waits in a stream to be freed is worth waiting for.
CUdeviceptr allocate_in_order(Context& context, size_t bytes, Pool* pool) {
  try {
    return allocate(context, bytes, Kind::device, pool);
  } catch (const Failure& failure) {
    if (failure.code != CUDA_ERROR_OUT_OF_MEMORY) throw;
  }
  drain(context);
  return allocate(context, bytes, Kind::device, pool);
}

bool is_capturing(Stream& stream) {
  std::lock_guard guard(state().submit_lock);
  return stream.capture != nullptr;
}

// Nothing asked for is a success, with a null. On a stream beside a capture all of this is one of
// the unsafe calls.
CUresult alloc_from(CUdeviceptr* out, size_t bytes, Pool* pool, Stream& stream) {
  const bool capturing = is_capturing(stream);
  if (!capturing) refuse_unsafe_in_capture();
  *out = 0;
  if (!bytes) return CUDA_SUCCESS;
  if (capturing) {
    AllocTask task = make_alloc_task(*stream.context, bytes);
    *out = task.what.dptr;
    submit(stream, std::move(task));
    return CUDA_SUCCESS;
  }
  cost_us(0.34);
  *out = allocate_in_order(*stream.context, bytes, pool);
  return CUDA_SUCCESS;
}

CUresult mem_alloc_async(Call& c, CUdeviceptr* out, size_t bytes, CUstream handle) {
  require(out);
  StreamRef stream = stream_of(c, handle);
  Pool* pool;
  {
    std::lock_guard guard(state().memory_lock);
    pool = device_at(stream->context->device).current_pool;
  }
  return alloc_from(out, bytes, pool, *stream);
}
CUresult mem_alloc_from_pool_async(Call& c, CUdeviceptr* out, size_t bytes, CUmemoryPool handle,
                                   CUstream stream_handle) {
  require(out);
  StreamRef stream = stream_of(c, stream_handle);
  Pool* pool;
  {
    std::lock_guard guard(state().memory_lock);
    pool = &pool_of(handle);
    require(!pool->imported);
  }
  return alloc_from(out, bytes, pool, *stream);
}
CUresult mem_free_async(Call& c, CUdeviceptr address, CUstream handle) {
  StreamRef stream = stream_of(c, handle);
  if (!address) return CUDA_SUCCESS;
  const bool capturing = is_capturing(*stream);
  if (!capturing) refuse_unsafe_in_capture();
  {
    std::lock_guard guard(state().memory_lock);
    Allocation* a = allocation_at(address);
    require(a && a->address == address && !a->freeing);
    require(a->kind != Kind::managed, CUDA_ERROR_NOT_SUPPORTED);
    // What cuMemAlloc gave is taken as well; the real driver crashes at a cuMemFree after that.
    require(a->kind == Kind::device);
    // In a capture only memory of the graph can be freed.
    require(!capturing || a->graph_owned);
    if (a->graph_owned && !capturing) {
      require(a->graph_live);
      a->graph_live = false;
      return CUDA_SUCCESS;
    }
    a->freeing = !capturing;
  }
  try {
    submit(*stream, FreeTask{address});
  } catch (...) {
    std::lock_guard guard(state().memory_lock);
    if (Allocation* a = allocation_at(address)) a->freeing = false;
    throw;
  }
  return CUDA_SUCCESS;
}

CUresult pool_create(Call&, CUmemoryPool* out, const CUmemPoolProps* properties) {
  require(out && properties && properties->allocType == CU_MEM_ALLOCATION_TYPE_PINNED);
  require(properties->location.type == CU_MEM_LOCATION_TYPE_DEVICE, CUDA_ERROR_NOT_SUPPORTED);
  require((static_cast<unsigned>(properties->handleTypes) & ~kPoolHandleTypes) == 0);
  *out = handle_of(new_pool(valid_device(properties->location.id).ordinal, *properties));
  return CUDA_SUCCESS;
}
CUresult pool_destroy(Call&, CUmemoryPool handle) {
  std::lock_guard guard(state().memory_lock);
  Pool& pool = pool_of(handle);
  require(!pool.is_default);
  Device& device = device_at(pool.device);
  if (device.current_pool == &pool) device.current_pool = device.default_pool;
  pool.destroyed = true;  // kept: allocations from it may still be alive
  return CUDA_SUCCESS;
}
CUresult pool_trim_to(Call&, CUmemoryPool handle, size_t) {
  refuse_unsafe_in_capture();
  std::lock_guard guard(state().memory_lock);
  pool_of(handle);
  return CUDA_SUCCESS;
}

CUresult pool_set_attribute(Call&, CUmemoryPool handle, CUmemPool_attribute attribute,
                            void* value) {
  require(value);
  std::lock_guard guard(state().memory_lock);
  Pool& pool = pool_of(handle);
  switch (attribute) {
    case CU_MEMPOOL_ATTR_REUSE_FOLLOW_EVENT_DEPENDENCIES:
      pool.reuse_event = *static_cast<int*>(value) != 0;
      return CUDA_SUCCESS;
    case CU_MEMPOOL_ATTR_REUSE_ALLOW_OPPORTUNISTIC:
      pool.reuse_opportunistic = *static_cast<int*>(value) != 0;
      return CUDA_SUCCESS;
    case CU_MEMPOOL_ATTR_REUSE_ALLOW_INTERNAL_DEPENDENCIES:
      pool.reuse_internal = *static_cast<int*>(value) != 0;
      return CUDA_SUCCESS;
    case CU_MEMPOOL_ATTR_RELEASE_THRESHOLD:
      pool.release_threshold = *static_cast<cuuint64_t*>(value);
      return CUDA_SUCCESS;
    case CU_MEMPOOL_ATTR_RESERVED_MEM_HIGH:
      require(*static_cast<cuuint64_t*>(value) == 0);
      pool.reserved_high = pool.reserved_bytes;
      return CUDA_SUCCESS;
    case CU_MEMPOOL_ATTR_USED_MEM_HIGH:
      require(*static_cast<cuuint64_t*>(value) == 0);
      pool.used_high = pool.used_bytes;
      return CUDA_SUCCESS;
    default:
      return CUDA_ERROR_INVALID_VALUE;
  }
}
CUresult pool_get_attribute(Call&, CUmemoryPool handle, CUmemPool_attribute attribute,
                            void* value) {
  require(value);
  std::lock_guard guard(state().memory_lock);
  const Pool& pool = pool_of(handle);
  switch (attribute) {
    case CU_MEMPOOL_ATTR_REUSE_FOLLOW_EVENT_DEPENDENCIES:
      *static_cast<int*>(value) = pool.reuse_event;
      return CUDA_SUCCESS;
    case CU_MEMPOOL_ATTR_REUSE_ALLOW_OPPORTUNISTIC:
      *static_cast<int*>(value) = pool.reuse_opportunistic;
      return CUDA_SUCCESS;
    case CU_MEMPOOL_ATTR_REUSE_ALLOW_INTERNAL_DEPENDENCIES:
      *static_cast<int*>(value) = pool.reuse_internal;
      return CUDA_SUCCESS;
    case CU_MEMPOOL_ATTR_RELEASE_THRESHOLD:
      *static_cast<cuuint64_t*>(value) = pool.release_threshold;
      return CUDA_SUCCESS;
    case CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT:
      *static_cast<cuuint64_t*>(value) = pool.reserved_bytes;
      return CUDA_SUCCESS;
    case CU_MEMPOOL_ATTR_RESERVED_MEM_HIGH:
      *static_cast<cuuint64_t*>(value) = pool.reserved_high;
      return CUDA_SUCCESS;
    case CU_MEMPOOL_ATTR_USED_MEM_CURRENT:
      *static_cast<cuuint64_t*>(value) = pool.used_bytes;
      return CUDA_SUCCESS;
    case CU_MEMPOOL_ATTR_USED_MEM_HIGH:
      *static_cast<cuuint64_t*>(value) = pool.used_high;
      return CUDA_SUCCESS;
    default:
      return CUDA_ERROR_INVALID_VALUE;
  }
}

CUresult pool_set_access(Call&, CUmemoryPool handle, const CUmemAccessDesc* map, size_t count) {
  require(map && count);
  std::lock_guard guard(state().memory_lock);
  Pool& pool = pool_of(handle);
  for (size_t i = 0; i < count; ++i) {
    require(map[i].location.type == CU_MEM_LOCATION_TYPE_DEVICE, CUDA_ERROR_NOT_SUPPORTED);
    const int device = device_at(map[i].location.id).ordinal;
    require(map[i].flags != CU_MEM_ACCESS_FLAGS_PROT_READ, CUDA_ERROR_NOT_SUPPORTED);
    require(device != pool.device || map[i].flags != CU_MEM_ACCESS_FLAGS_PROT_NONE,
            CUDA_ERROR_INVALID_DEVICE);
    pool.device_access[static_cast<size_t>(device)] = map[i].flags;
  }
  return CUDA_SUCCESS;
}
CUresult pool_get_access(Call&, CUmemAccess_flags* out, CUmemoryPool handle,
                         CUmemLocation* location) {
  require(out && location);
  std::lock_guard guard(state().memory_lock);
  const Pool& pool = pool_of(handle);
  if (location->type == CU_MEM_LOCATION_TYPE_DEVICE) {
    *out = pool.device_access[static_cast<size_t>(valid_device(location->id).ordinal)];
  } else {
    require(location->type == CU_MEM_LOCATION_TYPE_HOST ||
            location->type == CU_MEM_LOCATION_TYPE_HOST_NUMA);
    *out = CU_MEM_ACCESS_FLAGS_PROT_NONE;
  }
  return CUDA_SUCCESS;
}

CUresult device_get_default_pool(Call&, CUmemoryPool* out, CUdevice dev) {
  require(out);
  *out = handle_of(device_at(dev).default_pool);
  return CUDA_SUCCESS;
}
CUresult device_get_pool(Call&, CUmemoryPool* out, CUdevice dev) {
  require(out);
  std::lock_guard guard(state().memory_lock);
  *out = handle_of(valid_device(dev).current_pool);
  return CUDA_SUCCESS;
}
CUresult get_default_pool(Call& c, CUmemoryPool* out, CUmemLocation* location,
                          CUmemAllocationType type) {
  require(out && location && location->type == CU_MEM_LOCATION_TYPE_DEVICE &&
          type == CU_MEM_ALLOCATION_TYPE_PINNED);
  return device_get_default_pool(c, out, location->id);
}
CUresult get_pool(Call& c, CUmemoryPool* out, CUmemLocation* location, CUmemAllocationType type) {
  require(out && location && location->type == CU_MEM_LOCATION_TYPE_DEVICE &&
          type == CU_MEM_ALLOCATION_TYPE_PINNED);
  return device_get_pool(c, out, location->id);
}
CUresult device_set_pool(Call&, CUdevice dev, CUmemoryPool handle) {
  std::lock_guard guard(state().memory_lock);
  Pool& pool = pool_of(handle);
  require(pool.device == valid_device(dev).ordinal);
  device_at(dev).current_pool = &pool;
  return CUDA_SUCCESS;
}
CUresult set_pool(Call& c, CUmemLocation* location, CUmemAllocationType type, CUmemoryPool handle) {
  require(location && location->type == CU_MEM_LOCATION_TYPE_DEVICE &&
          type == CU_MEM_ALLOCATION_TYPE_PINNED);
  return device_set_pool(c, location->id, handle);
}

}  // namespace

Pool* new_pool(int device, const CUmemPoolProps& properties) {
  auto* pool = new Pool;
  pool->device = device;
  pool->properties = properties;
  pool->device_access.resize(static_cast<size_t>(options().devices));
  pool->device_access[static_cast<size_t>(device)] = CU_MEM_ACCESS_FLAGS_PROT_READWRITE;
  std::lock_guard guard(state().memory_lock);
  live_pools().insert(pool);
  return pool;
}

// memory_lock held.
Pool& pool_of(CUmemoryPool handle) {
  auto* pool = reinterpret_cast<Pool*>(handle);
  require(live_pools().contains(pool) && !pool->destroyed);
  return *pool;
}

Pool* new_default_pool(int device) {
  CUmemPoolProps properties{};
  properties.allocType = CU_MEM_ALLOCATION_TYPE_PINNED;
  properties.location = {CU_MEM_LOCATION_TYPE_DEVICE, device};
  Pool* pool = new_pool(device, properties);
  pool->is_default = true;
  return pool;
}

AllocTask make_alloc_task(Context& context, size_t bytes) {
  AllocTask task;
  task.what.bytesize = bytes;
  task.what.poolProps.allocType = CU_MEM_ALLOCATION_TYPE_PINNED;
  task.what.poolProps.location = {CU_MEM_LOCATION_TYPE_DEVICE, context.device};
  const CUdeviceptr address = allocate(context, bytes, Kind::device, nullptr);
  task.what.dptr = address;
  std::lock_guard guard(state().memory_lock);
  Allocation& a = *allocation_at(address);
  a.graph_owned = true;
  // The program may have freed it already, and the address may be another allocation's by then.
  task.memory = std::shared_ptr<void>(nullptr, [address, id = a.id](void*) {
    std::lock_guard lock(state().memory_lock);
    Allocation* mine = allocation_at(address);
    if (!mine || mine->id != id) return;
    if (mine->graph_live) {
      mine->graph_owned = mine->graph_live = false;
      mine->graph_left = true;
    } else {
      remove(*mine);
    }
  });
  return task;
}

void claim_graph_memory(const Graph& graph) {
  std::vector<const AllocTask*> taken;
  std::vector<CUdeviceptr> freed;
  for (const auto& node : graph.nodes) {
    if (const auto* alloc = std::get_if<AllocTask>(&node->task)) taken.push_back(alloc);
    if (const auto* free = std::get_if<FreeTask>(&node->task)) freed.push_back(free->address);
  }
  std::lock_guard guard(state().memory_lock);
  const auto find = [](CUdeviceptr address) {
    Allocation* a = allocation_at(address);
    return a && a->graph_owned ? a : nullptr;
  };
  for (const AllocTask* alloc : taken) {
    const Allocation* a = find(alloc->what.dptr);
    require(a && !a->graph_live);
  }
  for (const AllocTask* alloc : taken) find(alloc->what.dptr)->graph_live = true;
  for (CUdeviceptr address : freed)
    if (Allocation* a = find(address)) a->graph_live = false;
}

void run_free(CUdeviceptr address) {
  std::lock_guard guard(state().memory_lock);
  Allocation* a = allocation_at(address);
  if (a && a->freeing) remove(*a);
}

}  // namespace flexlom::sim

using namespace flexlom::sim;
SIM_EXPORT_PTSZ(cuMemAllocAsync, mem_alloc_async);
SIM_EXPORT_PTSZ(cuMemAllocFromPoolAsync, mem_alloc_from_pool_async);
SIM_EXPORT_PTSZ(cuMemFreeAsync, mem_free_async);
SIM_EXPORT(cuMemPoolCreate, pool_create);
SIM_EXPORT(cuMemPoolDestroy, pool_destroy);
SIM_EXPORT(cuMemPoolTrimTo, pool_trim_to);
SIM_EXPORT(cuMemPoolSetAttribute, pool_set_attribute);
SIM_EXPORT(cuMemPoolGetAttribute, pool_get_attribute);
SIM_EXPORT(cuMemPoolSetAccess, pool_set_access);
SIM_EXPORT(cuMemPoolGetAccess, pool_get_access);
SIM_EXPORT(cuDeviceGetDefaultMemPool, device_get_default_pool);
SIM_EXPORT(cuDeviceGetMemPool, device_get_pool);
SIM_EXPORT(cuDeviceSetMemPool, device_set_pool);
SIM_EXPORT(cuMemGetDefaultMemPool, get_default_pool);
SIM_EXPORT(cuMemGetMemPool, get_pool);
SIM_EXPORT(cuMemSetMemPool, set_pool);
