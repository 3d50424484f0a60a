// What a program may ask about memory (CUDA Driver API 6.13, 6.16): always answered for the logical
// allocation, never for the pages behind it. The program must see one device allocation of the size
// it asked for, wherever its bytes lie.
#include <unistd.h>

#include <algorithm>

#include "interpose/hooks/common.h"

namespace flexlom {

namespace {

using pool::AllocationInfo;
using pool::Kind;

bool limit_given(const Runtime& rt, int device) {
  return rt.options.device_limit.for_device(device).kind != Limit::Kind::unset;
}

int attribute(int device, CUdevice_attribute which) {
  int value = 0;
  return FORWARD(cuDeviceGetAttribute, &value, which, device) == CUDA_SUCCESS ? value : 0;
}

template <class T>
CUresult give(void* data, T value) {
  *static_cast<T*>(data) = value;
  return CUDA_SUCCESS;
}

// The mapping that the driver would report: whole granules around the allocation.
CUdeviceptr mapping_base(const AllocationInfo& a) {
  return a.base & ~CUdeviceptr{pool::kGranule - 1};
}
CUdeviceptr mapping_end(const AllocationInfo& a) {
  return (a.base + a.asked_bytes + pool::kGranule - 1) & ~CUdeviceptr{pool::kGranule - 1};
}

// One attribute of a live allocation, as the driver answers it for cuMemAlloc memory (Kind::async:
// for memory of the default pool). `data` is large enough for the attribute's documented type.
CUresult answer(void* data, CUpointer_attribute attribute_id, CUdeviceptr p,
                const AllocationInfo& a, bool context_current) {
  const bool async = a.kind == Kind::async;
  switch (attribute_id) {
    case CU_POINTER_ATTRIBUTE_CONTEXT:
      return give<CUcontext>(data, async ? nullptr : a.context);
    case CU_POINTER_ATTRIBUTE_MEMORY_TYPE:
      return give<unsigned int>(data, CU_MEMORYTYPE_DEVICE);
    case CU_POINTER_ATTRIBUTE_DEVICE_POINTER:
      give<CUdeviceptr>(data, context_current ? p : 0);
      return context_current ? CUDA_SUCCESS : CUDA_ERROR_INVALID_CONTEXT;
    case CU_POINTER_ATTRIBUTE_HOST_POINTER:
      give<void*>(data, nullptr);
      return CUDA_ERROR_INVALID_VALUE;
    case CU_POINTER_ATTRIBUTE_P2P_TOKENS:
      // Unique per allocation is all that is documented of them; the interface is deprecated.
      static_cast<CUDA_POINTER_ATTRIBUTE_P2P_TOKENS*>(data)->p2pToken = a.id;
      static_cast<CUDA_POINTER_ATTRIBUTE_P2P_TOKENS*>(data)->vaSpaceToken = 1;
      return CUDA_SUCCESS;
    case CU_POINTER_ATTRIBUTE_SYNC_MEMOPS:
      return give<unsigned int>(data, a.sync_memops ? 1 : 0);
    case CU_POINTER_ATTRIBUTE_BUFFER_ID:
      return give<unsigned long long>(data, a.id);
    case CU_POINTER_ATTRIBUTE_IS_MANAGED:
      return give<unsigned int>(data, 0);
    case CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL:
      return give<int>(data, a.device);
    case CU_POINTER_ATTRIBUTE_IS_LEGACY_CUDA_IPC_CAPABLE:
      return give<unsigned int>(data, async ? 0 : 1);
    case CU_POINTER_ATTRIBUTE_RANGE_START_ADDR:
      return give<CUdeviceptr>(data, a.base);
    case CU_POINTER_ATTRIBUTE_RANGE_SIZE:
      return give<size_t>(data, a.asked_bytes);
    case CU_POINTER_ATTRIBUTE_MAPPED:
      return give<unsigned int>(data, 1);
    case CU_POINTER_ATTRIBUTE_ALLOWED_HANDLE_TYPES:
      return give<unsigned long long>(data, 0);
    case CU_POINTER_ATTRIBUTE_IS_GPU_DIRECT_RDMA_CAPABLE:
      return give<unsigned int>(
          data, !async && attribute(a.device, CU_DEVICE_ATTRIBUTE_GPU_DIRECT_RDMA_SUPPORTED) != 0
                    ? 1
                    : 0);
    case CU_POINTER_ATTRIBUTE_ACCESS_FLAGS:
      return give<unsigned int>(data, CU_POINTER_ATTRIBUTE_ACCESS_FLAG_READWRITE);
    case CU_POINTER_ATTRIBUTE_MEMPOOL_HANDLE:
      return give<CUmemoryPool>(data, async ? a.mem_pool : nullptr);
    case CU_POINTER_ATTRIBUTE_MAPPING_SIZE:
      return give<size_t>(data, mapping_end(a) - mapping_base(a));
    case CU_POINTER_ATTRIBUTE_MAPPING_BASE_ADDR:
      return give<CUdeviceptr>(data, mapping_base(a));
    case CU_POINTER_ATTRIBUTE_MEMORY_BLOCK_ID:
      return give<unsigned long long>(data, a.id);
    case CU_POINTER_ATTRIBUTE_IS_HW_DECOMPRESS_CAPABLE:
      return give<unsigned int>(data, async ? 0 : 1);
    default:
      return CUDA_ERROR_INVALID_VALUE;
  }
}

// What the driver asks of a DMA-BUF request before it looks where the memory lies (6.13: both whole
// host pages), and answers with INVALID_VALUE.
bool is_exportable_range(const AllocationInfo& a, CUdeviceptr p, size_t size,
                         CUmemRangeHandleType type) {
  const auto host_page = static_cast<CUdeviceptr>(sysconf(_SC_PAGESIZE));
  // Beyond the allocation's own pages lie those of others, which are not pinned by this request.
  return type == CU_MEM_RANGE_HANDLE_TYPE_DMA_BUF_FD && p % host_page == 0 &&
         size % host_page == 0 && size != 0 && size <= mapping_end(a) - p;
}

// What the driver says of a host frame that the program takes for a device frame of its own making,
// made to say what it would of the latter.
CUresult as_device_memory(void* data, CUpointer_attribute attribute_id, CUdeviceptr p, int device,
                          CUresult r) {
  switch (attribute_id) {
    case CU_POINTER_ATTRIBUTE_MEMORY_TYPE:
      return give<unsigned int>(data, CU_MEMORYTYPE_DEVICE);
    case CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL:
      return give<int>(data, device);
    case CU_POINTER_ATTRIBUTE_HOST_POINTER:
      give<void*>(data, nullptr);
      return CUDA_ERROR_INVALID_VALUE;
    case CU_POINTER_ATTRIBUTE_P2P_TOKENS:
      return give<CUDA_POINTER_ATTRIBUTE_P2P_TOKENS>(data, {p / pool::kGranule, 1});
    default:
      return r;
  }
}

// What the program maps itself (program_maps.h), as the driver describes a single mapping.
CUresult answer_mapped(void* data, CUpointer_attribute attribute_id, CUdeviceptr p,
                       const ProgramMaps::View& m, int device) {
  switch (attribute_id) {
    case CU_POINTER_ATTRIBUTE_RANGE_START_ADDR:
      if (m.range != 0) return give<CUdeviceptr>(data, m.range);
      break;
    case CU_POINTER_ATTRIBUTE_RANGE_SIZE:
      if (m.range != 0) return give<size_t>(data, m.range_bytes);
      break;
    default:
      break;
  }
  if (m.is_foreign) {
    const CUresult r = FORWARD(cuPointerGetAttribute, data, attribute_id, p);
    return m.spilled_on >= 0 ? as_device_memory(data, attribute_id, p, m.spilled_on, r) : r;
  }
  switch (attribute_id) {
    case CU_POINTER_ATTRIBUTE_CONTEXT:
      return give<CUcontext>(data, nullptr);
    case CU_POINTER_ATTRIBUTE_MEMORY_TYPE:
      return give<unsigned int>(data, CU_MEMORYTYPE_DEVICE);
    case CU_POINTER_ATTRIBUTE_DEVICE_POINTER:
      give<CUdeviceptr>(data, m.access_of(device) != 0 ? p : 0);
      if (device < 0) return CUDA_ERROR_INVALID_CONTEXT;
      return m.access_of(device) != 0 ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
    case CU_POINTER_ATTRIBUTE_HOST_POINTER:
      give<void*>(data, nullptr);
      return CUDA_ERROR_INVALID_VALUE;
    case CU_POINTER_ATTRIBUTE_P2P_TOKENS:
      return give<CUDA_POINTER_ATTRIBUTE_P2P_TOKENS>(data, {m.mapping_id, 1});
    case CU_POINTER_ATTRIBUTE_MAPPED:
      return give<unsigned int>(data, 1);
    case CU_POINTER_ATTRIBUTE_BUFFER_ID:
      return give<unsigned long long>(data, m.mapping_id);
    case CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL:
      return give<int>(data, m.device);
    case CU_POINTER_ATTRIBUTE_IS_MANAGED:
    case CU_POINTER_ATTRIBUTE_IS_LEGACY_CUDA_IPC_CAPABLE:
    case CU_POINTER_ATTRIBUTE_IS_HW_DECOMPRESS_CAPABLE:
      return give<unsigned int>(data, 0);
    case CU_POINTER_ATTRIBUTE_ALLOWED_HANDLE_TYPES:
      return give<unsigned long long>(data, m.handle_types);
    case CU_POINTER_ATTRIBUTE_IS_GPU_DIRECT_RDMA_CAPABLE:
      return give<unsigned int>(data, m.rdma ? 1 : 0);
    case CU_POINTER_ATTRIBUTE_ACCESS_FLAGS:
      return give<unsigned int>(data, m.access_of(device));
    case CU_POINTER_ATTRIBUTE_MEMPOOL_HANDLE:
      return give<CUmemoryPool>(data, nullptr);
    case CU_POINTER_ATTRIBUTE_MAPPING_SIZE:
      return give<size_t>(data, m.bytes);
    case CU_POINTER_ATTRIBUTE_MAPPING_BASE_ADDR:
      return give<CUdeviceptr>(data, m.base);
    case CU_POINTER_ATTRIBUTE_MEMORY_BLOCK_ID:
      return give<unsigned long long>(data, m.handle_id);
    default:
      return FORWARD(cuPointerGetAttribute, data, attribute_id, p);
  }
}

// The program's own mapping there; false: none, or nothing is known of it.
bool mapped_there(Runtime* rt, CUdeviceptr p, ProgramMaps::View* view) {
  if (rt == nullptr) return false;
  InsidePool inside;
  if (!rt->program_maps.view(p, view)) return false;
  if (view->is_foreign) view->spilled_on = rt->program_frames.spilled_device(p);
  return true;
}

// An address nothing is ever mapped at: what the driver says of it is what it says of freed memory.
constexpr CUdeviceptr kNowhere = 16;

// Of the current context; -1: there is none.
int current_device(Runtime& rt) {
  CUcontext context = nullptr;
  int device = 0;
  return rt.current(&context, &device) == CUDA_SUCCESS ? device : -1;
}

// Which way a pointer question goes: false, the driver's to answer.
bool ours(Runtime* rt, CUdeviceptr p, AllocationInfo* info, bool* live) {
  if (rt == nullptr || rt->pool.owner(p) == nullptr) return false;
  InsidePool inside;
  *live = rt->pool.find(p, info);
  return true;
}

// In our address space, and in no range that the program maps memory into itself.
bool allocated(Runtime* rt, void* p) {
  const auto address = reinterpret_cast<CUdeviceptr>(p);
  return rt != nullptr && rt->pool.owner(address) != nullptr && !rt->program_maps.holds(address);
}

}  // namespace

namespace own {

CUresult cuMemGetInfo_v2(size_t* free_bytes, size_t* total_bytes) {
  Runtime* rt = enter(Entry::cuMemGetInfo_v2);
  size_t real_free = 0, real_total = 0;
  if (rt == nullptr) return FORWARD(cuMemGetInfo_v2, free_bytes, total_bytes);
  const CUresult r = FORWARD(cuMemGetInfo_v2, &real_free, &real_total);
  CUcontext context = nullptr;
  int device = 0;
  if (r == CUDA_SUCCESS && rt->current(&context, &device) == CUDA_SUCCESS) {
    InsidePool inside;
    if (const pool::DevicePool* pool = rt->pool.device(device)) {
      const pool::PoolStats s = pool->stats();
      const uint64_t within_budget = pool->free_bytes();
      // Frames kept for reuse are free to this program, though not to others.
      real_free =
          static_cast<size_t>(std::min<uint64_t>(within_budget, real_free + s.cached_bytes));
      if (limit_given(*rt, device))
        real_total = std::min<size_t>(real_total, s.device_budget_bytes);
    }
  }
  if (r == CUDA_SUCCESS && free_bytes != nullptr) *free_bytes = real_free;
  if (r == CUDA_SUCCESS && total_bytes != nullptr) *total_bytes = real_total;
  return r;
}

CUresult cuDeviceTotalMem_v2(size_t* bytes, CUdevice device) {
  Runtime* rt = enter(Entry::cuDeviceTotalMem_v2);
  const CUresult r = FORWARD(cuDeviceTotalMem_v2, bytes, device);
  if (r != CUDA_SUCCESS || rt == nullptr || !limit_given(*rt, device)) return r;
  const uint64_t limit =
      rt->options.device_limit.for_device(device).of(*bytes) & ~(pool::kGranule - 1);
  *bytes = std::min<size_t>(*bytes, limit);
  return r;
}

CUresult cuMemGetAddressRange_v2(CUdeviceptr* base, size_t* size, CUdeviceptr p) {
  Runtime* rt = enter(Entry::cuMemGetAddressRange_v2);
  ipc::Importer::Range imported{};
  if (rt != nullptr && !rt->importer.empty() && rt->importer.find(p, &imported)) {
    if (base != nullptr) *base = imported.base;
    if (size != nullptr) *size = imported.bytes;
    return CUDA_SUCCESS;
  }
  ProgramMaps::View view;
  const bool mapped = mapped_there(rt, p, &view);
  if (mapped && view.is_foreign) return FORWARD(cuMemGetAddressRange_v2, base, size, p);
  AllocationInfo info;
  bool live = false;
  if (!mapped && !ours(rt, p, &info, &live)) return FORWARD(cuMemGetAddressRange_v2, base, size, p);
  CUcontext context = nullptr;
  int device = 0;
  const CUresult r = rt->current(&context, &device);
  if (r != CUDA_SUCCESS) return r;
  if (mapped) {
    if (view.access_of(device) == 0) return CUDA_ERROR_NOT_FOUND;
    if (base != nullptr) *base = view.base;
    if (size != nullptr) *size = view.bytes;
    return CUDA_SUCCESS;
  }
  if (!live || (info.device != device && !rt->pool.owner(p)->accessible_by(device)))
    return CUDA_ERROR_NOT_FOUND;
  if (base != nullptr) *base = info.base;
  if (size != nullptr) *size = info.asked_bytes;
  return CUDA_SUCCESS;
}

CUresult cuPointerGetAttribute(void* data, CUpointer_attribute attribute_id, CUdeviceptr p) {
  Runtime* rt = enter(Entry::cuPointerGetAttribute);
  AllocationInfo info;
  bool live = false;
  ProgramMaps::View view;
  if (data != nullptr && mapped_there(rt, p, &view))
    return answer_mapped(data, attribute_id, p, view, current_device(*rt));
  if (data == nullptr || !ours(rt, p, &info, &live)) {
    const CUresult r = FORWARD(cuPointerGetAttribute, data, attribute_id, p);
    const int device = rt != nullptr && data != nullptr ? rt->program_frames.spilled_device(p) : -1;
    return device >= 0 ? as_device_memory(data, attribute_id, p, device, r) : r;
  }
  return live ? answer(data, attribute_id, p, info, current_device(*rt) >= 0)
              : CUDA_ERROR_INVALID_VALUE;
}

CUresult cuPointerGetAttributes(unsigned int count, CUpointer_attribute* attributes, void** data,
                                CUdeviceptr p) {
  Runtime* rt = enter(Entry::cuPointerGetAttributes);
  AllocationInfo info;
  bool live = false;
  ProgramMaps::View view;
  const bool asks = count > 0 && attributes != nullptr && data != nullptr;
  const bool mapped = asks && mapped_there(rt, p, &view);
  if (!asks || (!mapped && !ours(rt, p, &info, &live))) {
    const CUresult r = FORWARD(cuPointerGetAttributes, count, attributes, data, p);
    const int device =
        rt != nullptr && r == CUDA_SUCCESS ? rt->program_frames.spilled_device(p) : -1;
    for (unsigned int i = 0; device >= 0 && i < count; ++i)
      as_device_memory(data[i], attributes[i], p, device, r);
    return r;
  }
  if (!mapped && !live) {
    const bool reserved = rt->program_maps.holds(p, &view);
    const CUresult r = FORWARD(cuPointerGetAttributes, count, attributes, data, kNowhere);
    // What is not known to the driver is taken for host memory at that address.
    for (unsigned int i = 0; r == CUDA_SUCCESS && i < count; ++i) {
      if (attributes[i] == CU_POINTER_ATTRIBUTE_HOST_POINTER) give<CUdeviceptr>(data[i], p);
      if (!reserved) continue;  // of a range where nothing is mapped this much is known
      if (attributes[i] == CU_POINTER_ATTRIBUTE_RANGE_START_ADDR)
        give<CUdeviceptr>(data[i], view.range);
      if (attributes[i] == CU_POINTER_ATTRIBUTE_RANGE_SIZE) give<size_t>(data[i], view.range_bytes);
    }
    return r;
  }
  const int here = current_device(*rt);
  // The driver fills the types in first, and for nothing of ours does it know less than we.
  for (unsigned int i = 0; i < count; ++i) {
    if (data[i] == nullptr) return CUDA_ERROR_INVALID_VALUE;
    const CUresult r = mapped ? answer_mapped(data[i], attributes[i], p, view, here)
                              : answer(data[i], attributes[i], p, info, here >= 0);
    // Documented: an attribute that does not apply to the pointer is null, and no error.
    if (r != CUDA_SUCCESS && attributes[i] != CU_POINTER_ATTRIBUTE_HOST_POINTER) return r;
  }
  return CUDA_SUCCESS;
}

CUresult cuPointerSetAttribute(const void* value, CUpointer_attribute attribute_id, CUdeviceptr p) {
  Runtime* rt = enter(Entry::cuPointerSetAttribute);
  AllocationInfo info;
  bool live = false;
  ProgramMaps::View view;
  if (mapped_there(rt, p, &view)) {
    // Refused for such memory; but whoever asks for it is about to register it with a device.
    InsidePool inside;
    if (attribute_id == CU_POINTER_ATTRIBUTE_SYNC_MEMOPS) rt->program_maps.pin(p, 1);
    return FORWARD(cuPointerSetAttribute, value, attribute_id, p);
  }
  if (!ours(rt, p, &info, &live)) return FORWARD(cuPointerSetAttribute, value, attribute_id, p);
  if (!live || value == nullptr || attribute_id != CU_POINTER_ATTRIBUTE_SYNC_MEMOPS)
    return CUDA_ERROR_INVALID_VALUE;
  const CUresult refused = refused_by_capture(*rt);
  if (refused != CUDA_SUCCESS) return refused;
  InsidePool inside;
  rt->pool.owner(p)->set_sync_memops(p, *static_cast<const unsigned int*>(value) != 0);
  return CUDA_SUCCESS;
}

// Pages of ours may be host memory to the driver; to the program they never are.
CUresult cuMemHostGetDevicePointer_v2(CUdeviceptr* device_pointer, void* p, unsigned int flags) {
  Runtime* rt = enter(Entry::cuMemHostGetDevicePointer_v2);
  if (allocated(rt, p)) return CUDA_ERROR_INVALID_VALUE;
  return FORWARD(cuMemHostGetDevicePointer_v2, device_pointer, p, flags);
}

CUresult cuMemHostGetFlags(unsigned int* flags, void* p) {
  Runtime* rt = enter(Entry::cuMemHostGetFlags);
  if (allocated(rt, p)) return CUDA_ERROR_INVALID_VALUE;
  return FORWARD(cuMemHostGetFlags, flags, p);
}

CUresult cuMemGetAccess(unsigned long long* flags, const CUmemLocation* location, CUdeviceptr p) {
  Runtime* rt = enter(Entry::cuMemGetAccess);
  AllocationInfo info;
  bool live = false;
  ProgramMaps::View view;
  if (flags != nullptr && location != nullptr && mapped_there(rt, p, &view)) {
    const bool known = location->type == CU_MEM_LOCATION_TYPE_DEVICE &&
                       (location->id == view.device || view.access_of(location->id) != 0);
    if (view.is_foreign || view.by_driver || !known)
      return FORWARD(cuMemGetAccess, flags, location, p);
    *flags = view.access_of(location->id);
    return CUDA_SUCCESS;
  }
  if (flags == nullptr || location == nullptr || !ours(rt, p, &info, &live)) {
    return FORWARD(cuMemGetAccess, flags, location, p);
  }
  // cuMemAlloc memory has no access descriptors: the driver knows of no access, and says so.
  if (!live) return CUDA_ERROR_INVALID_VALUE;
  *flags = 0;
  return CUDA_SUCCESS;
}

CUresult cuMemRetainAllocationHandle(CUmemGenericAllocationHandle* handle, void* p) {
  Runtime* rt = enter(Entry::cuMemRetainAllocationHandle);
  const auto address = reinterpret_cast<CUdeviceptr>(p);
  if (rt != nullptr && handle != nullptr) {
    InsidePool inside;
    const CUresult own = rt->program_maps.retain(handle, address);
    if (own != CUDA_ERROR_NOT_SUPPORTED) return own;
    if (rt->program_maps.holds(address)) {
      const CUresult r = FORWARD(cuMemRetainAllocationHandle, handle, p);
      if (r == CUDA_SUCCESS) rt->program_frames.retained(*handle);
      return r;
    }
  }
  if (rt != nullptr && rt->pool.owner(reinterpret_cast<CUdeviceptr>(p)) != nullptr)
    return CUDA_ERROR_INVALID_VALUE;
  const CUresult r = FORWARD(cuMemRetainAllocationHandle, handle, p);
  if (rt != nullptr && r == CUDA_SUCCESS) rt->program_frames.retained(*handle);
  return r;
}

// Registering device memory is an error; that some of ours is host memory to the driver must not
// show.
CUresult cuMemHostRegister_v2(void* p, size_t size, unsigned int flags) {
  Runtime* rt = enter(Entry::cuMemHostRegister_v2);
  if (rt != nullptr && rt->pool.owner(reinterpret_cast<CUdeviceptr>(p)) != nullptr)
    return CUDA_ERROR_INVALID_VALUE;
  return FORWARD(cuMemHostRegister_v2, p, size, flags);
}

CUresult cuMemGetHandleForAddressRange(void* handle, CUdeviceptr p, size_t size,
                                       CUmemRangeHandleType type, unsigned long long flags) {
  Runtime* rt = enter(Entry::cuMemGetHandleForAddressRange);
  AllocationInfo info;
  bool live = false;
  ProgramMaps::View view;
  if (handle != nullptr && mapped_there(rt, p, &view)) {
    InsidePool inside;
    for (CUdeviceptr at = p; at - p < size && rt->program_maps.view(at, &view);
         at = view.base + view.bytes)
      bring_to_device(*rt, at);
    if (!rt->program_maps.pin(p, size)) {
      rt->listener.warned("a DMA-BUF was refused: part of the memory lies in host memory");
      return CUDA_ERROR_NOT_SUPPORTED;
    }
    return FORWARD(cuMemGetHandleForAddressRange, handle, p, size, type, flags);
  }
  if (!ours(rt, p, &info, &live) || handle == nullptr) {
    return FORWARD(cuMemGetHandleForAddressRange, handle, p, size, type, flags);
  }
  if (!live || !is_exportable_range(info, p, size, type)) return CUDA_ERROR_INVALID_VALUE;
  InsidePool inside;
  pool::DevicePool::Export pinned;
  const auto pin = [&]() noexcept {
    try {
      return rt->pool.owner(p)->pin_for_export(p, &pinned);
    } catch (...) {
      return CUDA_ERROR_OUT_OF_MEMORY;
    }
  };
  const CUresult r = share_from_device(*rt, p, CUDA_ERROR_NOT_SUPPORTED, pin);
  if (r != CUDA_SUCCESS) {
    rt->listener.warned("a DMA-BUF was refused: part of the allocation lies in host memory");
    return CUDA_ERROR_NOT_SUPPORTED;
  }
  return FORWARD(cuMemGetHandleForAddressRange, handle, p, size, type, flags);
}

}  // namespace own
}  // namespace flexlom
