// Questions about addresses.
#include <cstring>

#include "tests/simcuda/capture.hpp"
#include "tests/simcuda/memory.hpp"
#include "tests/simcuda/pool.hpp"
#include "tests/simcuda/vmm.hpp"

namespace flexlom::sim {
namespace {

CUresult mem_get_address_range(Call&, CUdeviceptr* base, size_t* bytes, CUdeviceptr address) {
  const Context& context = current_context();
  std::scoped_lock guard(state().memory_lock, state().context_lock);
  CUdeviceptr start = 0;
  size_t length = 0;
  if (const Allocation* a = allocation_at(address)) {
    const auto own = static_cast<size_t>(context.device);
    const bool reached = a->pool != nullptr ? a->pool->device_access[own] != 0
                                            : a->device == context.device ||
                                                  a->kind != Kind::device || !context.peers.empty();
    if (!reached) return CUDA_ERROR_NOT_FOUND;
    start = a->address;
    length = a->bytes;
  } else if (const Mapping* m = mapping_at(address)) {
    if (!m->device_access[static_cast<size_t>(context.device)]) return CUDA_ERROR_NOT_FOUND;
    start = m->address;
    length = m->bytes;
  } else {
    return CUDA_ERROR_NOT_FOUND;
  }
  if (base) *base = start;
  if (bytes) *bytes = length;
  return CUDA_SUCCESS;
}

template <class Value>
bool put(void* out, Value value) {
  memcpy(out, &value, sizeof value);
  return true;
}

// A question that has no answer but is answered with a null all the same.
template <class Value>
bool put_refused(void* out, Value value) {
  put(out, value);
  return false;
}

// Where the pages of the address begin and how long they are: whole granules, as the real driver
// maps them.
struct Pages {
  CUdeviceptr address;
  size_t bytes;
};
Pages pages_of(const Allocation& a) {
  if (a.chunk) return {a.chunk->address, kGranularity};
  const CUdeviceptr first = a.address / kGranularity * kGranularity;
  const CUdeviceptr end = (a.address + a.bytes + kGranularity - 1) / kGranularity * kGranularity;
  return {first, end - first};
}

// The tokens of a driver that has no kernel module to show them to: all bits clear.
bool put_tokens(void* out) { return put(out, CUDA_POINTER_ATTRIBUTE_P2P_TOKENS{}); }

bool on_host(const Allocation& a) { return a.kind == Kind::pinned || a.kind == Kind::registered; }

bool answer_allocation(const Allocation& a, CUdeviceptr address, CUpointer_attribute attribute,
                       void* out) {
  const bool host = on_host(a);
  switch (attribute) {
    case CU_POINTER_ATTRIBUTE_CONTEXT:
      return put(out, handle_of(a.context));
    case CU_POINTER_ATTRIBUTE_MEMORY_TYPE:
      return put(out, host ? CU_MEMORYTYPE_HOST : CU_MEMORYTYPE_DEVICE);
    case CU_POINTER_ATTRIBUTE_DEVICE_POINTER:
      return put(out, address);
    case CU_POINTER_ATTRIBUTE_HOST_POINTER:
      if (!host && a.kind != Kind::managed) return put_refused(out, nullptr);
      return put(out, reinterpret_cast<void*>(address));
    case CU_POINTER_ATTRIBUTE_P2P_TOKENS:
      return !host && put_tokens(out);
    case CU_POINTER_ATTRIBUTE_SYNC_MEMOPS:
      return put(out, int{a.sync_memops});
    case CU_POINTER_ATTRIBUTE_BUFFER_ID:
      return put(out, a.id);
    case CU_POINTER_ATTRIBUTE_IS_MANAGED:
      return put(out, int{a.kind == Kind::managed});
    case CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL:
      return put(out, a.device);
    case CU_POINTER_ATTRIBUTE_IS_LEGACY_CUDA_IPC_CAPABLE:
      return put(out, int{a.kind == Kind::device && !a.pool});
    case CU_POINTER_ATTRIBUTE_RANGE_START_ADDR:
      return put(out, a.address);
    case CU_POINTER_ATTRIBUTE_RANGE_SIZE:
      return put(out, a.bytes);
    case CU_POINTER_ATTRIBUTE_MAPPING_BASE_ADDR:
      return put(out, pages_of(a).address);
    case CU_POINTER_ATTRIBUTE_MAPPING_SIZE:
      return put(out, pages_of(a).bytes);
    case CU_POINTER_ATTRIBUTE_MAPPED:
      return put(out, int{1});
    case CU_POINTER_ATTRIBUTE_ALLOWED_HANDLE_TYPES:
      return put(out, uint64_t{0});
    case CU_POINTER_ATTRIBUTE_IS_GPU_DIRECT_RDMA_CAPABLE:
    case CU_POINTER_ATTRIBUTE_IS_HW_DECOMPRESS_CAPABLE:
      return put(out, int{a.kind == Kind::device && !a.pool});
    case CU_POINTER_ATTRIBUTE_ACCESS_FLAGS:
      return put(out, CU_MEM_ACCESS_FLAGS_PROT_READWRITE);
    case CU_POINTER_ATTRIBUTE_MEMPOOL_HANDLE:
      return put(out, handle_of(a.pool));
    case CU_POINTER_ATTRIBUTE_MEMORY_BLOCK_ID:
      return put(out, a.id);
    default:
      return false;
  }
}

// Of the current context's device; without one there is none.
CUmemAccess_flags access_here(const Mapping& m) {
  const Context* context = current_context_or_null();
  return context ? m.device_access[static_cast<size_t>(context->device)]
                 : CU_MEM_ACCESS_FLAGS_PROT_NONE;
}

// Mapped pages report their handle: host-backed ones are host memory without a context. Their range
// is the whole reservation.
bool answer_mapping(const Mapping& m, CUdeviceptr address, CUpointer_attribute attribute,
                    void* out) {
  const Handle& handle = *m.handle;
  switch (attribute) {
    case CU_POINTER_ATTRIBUTE_CONTEXT:
      return put(out, CUcontext{nullptr});
    case CU_POINTER_ATTRIBUTE_MEMORY_TYPE:
      return put(out, handle.on_device() ? CU_MEMORYTYPE_DEVICE : CU_MEMORYTYPE_HOST);
    case CU_POINTER_ATTRIBUTE_DEVICE_POINTER:
      if (current_context_or_null() && !access_here(m)) return put_refused(out, CUdeviceptr{0});
      return put(out, address);
    case CU_POINTER_ATTRIBUTE_HOST_POINTER:
      if (handle.on_device()) return put_refused(out, nullptr);
      return put(out, reinterpret_cast<void*>(address));
    case CU_POINTER_ATTRIBUTE_P2P_TOKENS:
      return handle.on_device() && put_tokens(out);
    case CU_POINTER_ATTRIBUTE_SYNC_MEMOPS:
      return put(out, int{m.sync_memops});
    case CU_POINTER_ATTRIBUTE_BUFFER_ID:
      return put(out, m.id);
    case CU_POINTER_ATTRIBUTE_IS_MANAGED:
    case CU_POINTER_ATTRIBUTE_IS_LEGACY_CUDA_IPC_CAPABLE:
    case CU_POINTER_ATTRIBUTE_IS_HW_DECOMPRESS_CAPABLE:
      return put(out, int{0});
    case CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL:
      return put(out, handle.on_device() ? handle.properties.location.id : CU_DEVICE_CPU);
    case CU_POINTER_ATTRIBUTE_RANGE_START_ADDR:
      return put(out, reservation_at(address)->address);
    case CU_POINTER_ATTRIBUTE_RANGE_SIZE:
      return put(out, reservation_at(address)->bytes);
    case CU_POINTER_ATTRIBUTE_MAPPING_BASE_ADDR:
      return put(out, m.address);
    case CU_POINTER_ATTRIBUTE_MAPPING_SIZE:
      return put(out, m.bytes);
    case CU_POINTER_ATTRIBUTE_MAPPED:
      return put(out, int{1});
    case CU_POINTER_ATTRIBUTE_ALLOWED_HANDLE_TYPES:
      return put(out, static_cast<uint64_t>(handle.properties.requestedHandleTypes));
    case CU_POINTER_ATTRIBUTE_IS_GPU_DIRECT_RDMA_CAPABLE:
      return put(out, int{handle.properties.allocFlags.gpuDirectRDMACapable});
    case CU_POINTER_ATTRIBUTE_ACCESS_FLAGS:
      return put(out, access_here(m));
    case CU_POINTER_ATTRIBUTE_MEMPOOL_HANDLE:
      return put(out, CUmemoryPool{nullptr});
    case CU_POINTER_ATTRIBUTE_MEMORY_BLOCK_ID:
      return put(out, handle.id);
    default:
      return false;
  }
}

// Only this one answer is a context's own.
bool lacks_context(CUpointer_attribute attribute) {
  const Context* context = current_context_or_null();
  return attribute == CU_POINTER_ATTRIBUTE_DEVICE_POINTER && (!context || !context->alive);
}

// memory_lock held. What stays SUCCESS in the plural form is an error in the singular one.
CUresult answer(CUdeviceptr address, CUpointer_attribute attribute, void* out) {
  const Allocation* a = allocation_at(address);
  const Mapping* m = a ? nullptr : mapping_at(address);
  if (!a && !m) return CUDA_ERROR_INVALID_VALUE;
  if (lacks_context(attribute)) {
    put(out, CUdeviceptr{0});
    return CUDA_ERROR_INVALID_CONTEXT;
  }
  const bool answered = a ? answer_allocation(*a, address, attribute, out)
                          : answer_mapping(*m, address, attribute, out);
  return answered ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

// What the plural form stores about an address that the driver does not know.
void put_unknown(CUdeviceptr address, CUpointer_attribute attribute, void* out) {
  switch (attribute) {
    case CU_POINTER_ATTRIBUTE_HOST_POINTER:
      put(out, address);
      return;
    case CU_POINTER_ATTRIBUTE_CONTEXT:
    case CU_POINTER_ATTRIBUTE_DEVICE_POINTER:
    case CU_POINTER_ATTRIBUTE_BUFFER_ID:
    case CU_POINTER_ATTRIBUTE_MAPPING_BASE_ADDR:
    case CU_POINTER_ATTRIBUTE_MAPPING_SIZE:
    case CU_POINTER_ATTRIBUTE_MEMPOOL_HANDLE:
    case CU_POINTER_ATTRIBUTE_MEMORY_BLOCK_ID:
    case CU_POINTER_ATTRIBUTE_ALLOWED_HANDLE_TYPES:
      put(out, uint64_t{0});
      return;
    case CU_POINTER_ATTRIBUTE_RANGE_START_ADDR:
      if (const Reservation* r = reservation_at(address)) put(out, r->address);
      return;
    case CU_POINTER_ATTRIBUTE_RANGE_SIZE:
      if (const Reservation* r = reservation_at(address)) put(out, r->bytes);
      return;
    case CU_POINTER_ATTRIBUTE_P2P_TOKENS:
      return;
    case CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL:
      put(out, CU_DEVICE_INVALID);
      return;
    default:
      put(out, int{0});
      return;
  }
}

bool is_attribute(CUpointer_attribute attribute) {
  return attribute >= CU_POINTER_ATTRIBUTE_CONTEXT &&
         attribute <= CU_POINTER_ATTRIBUTE_IS_HW_DECOMPRESS_CAPABLE;
}

// None of these needs a current context: measured on the real driver.
CUresult pointer_get_attribute(Call&, void* out, CUpointer_attribute attribute,
                               CUdeviceptr address) {
  require(out && is_attribute(attribute));
  std::lock_guard guard(state().memory_lock);
  return answer(address, attribute, out);
}

CUresult pointer_get_attributes(Call&, unsigned count, CUpointer_attribute* attributes, void** out,
                                CUdeviceptr address) {
  require(count && attributes && out);
  std::lock_guard guard(state().memory_lock);
  const bool known = allocation_at(address) || mapping_at(address);
  for (unsigned i = 0; i < count; ++i) {
    require(out[i] && is_attribute(attributes[i]));
    if (known) {
      answer(address, attributes[i], out[i]);
    } else {
      put_unknown(address, attributes[i], out[i]);
    }
  }
  return CUDA_SUCCESS;
}

CUresult pointer_set_attribute(Call&, const void* value, CUpointer_attribute attribute,
                               CUdeviceptr address) {
  require(value && attribute == CU_POINTER_ATTRIBUTE_SYNC_MEMOPS);
  refuse_unsafe_in_capture();
  const bool wanted = *static_cast<const int*>(value) != 0;
  std::lock_guard guard(state().memory_lock);
  if (Allocation* a = allocation_at(address)) {
    a->sync_memops = wanted;
    return CUDA_SUCCESS;
  }
  // Refused, and switched off for good.
  Mapping* m = mapping_at(address);
  require(m != nullptr);
  m->sync_memops = false;
  return CUDA_ERROR_NOT_SUPPORTED;
}

}  // namespace
}  // namespace flexlom::sim

using namespace flexlom::sim;
SIM_EXPORT(cuMemGetAddressRange_v2, mem_get_address_range);
SIM_EXPORT(cuPointerGetAttribute, pointer_get_attribute);
SIM_EXPORT(cuPointerGetAttributes, pointer_get_attributes);
SIM_EXPORT(cuPointerSetAttribute, pointer_set_attribute);
