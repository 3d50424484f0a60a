#include "tests/simcuda/memory.hpp"

#include <unistd.h>
#include <csignal>

#include <algorithm>

#include "tests/simcuda/address_space.hpp"
#include "tests/simcuda/capture.hpp"
#include "tests/simcuda/pool.hpp"
#include "tests/simcuda/vmm.hpp"

namespace flexlom::sim {

namespace {

constexpr size_t kAlignment = 512;              // bytes, of every device allocation
constexpr size_t kSmallest = kGranularity / 2;  // at least this: granules of its own

std::vector<std::unique_ptr<Chunk>>& chunks() {  // guarded by memory_lock
  static auto* const all = new std::vector<std::unique_ptr<Chunk>>;
  return *all;
}

size_t round_up(size_t bytes, size_t to) { return (bytes + to - 1) / to * to; }

struct Mapped {
  CUdeviceptr address;
  std::shared_ptr<Frame> frame;
};
Mapped map_new(Place& place, size_t bytes) {
  Mapped m;
  m.frame = place.take(bytes, false);
  require(m.frame != nullptr, CUDA_ERROR_OUT_OF_MEMORY);
  m.address = reserve_range(bytes, kGranularity, 0);
  require(m.address != 0, CUDA_ERROR_OUT_OF_MEMORY);
  if (!map_pages(m.address, bytes, m.frame->fd, m.frame->offset, Access::write)) {
    release_range(m.address, bytes);
    fail(CUDA_ERROR_OUT_OF_MEMORY);
  }
  return m;
}

CUdeviceptr take_small(Allocation& allocation, Place& place) {
  for (const auto& chunk : chunks()) {
    if (chunk->device != allocation.device || chunk->pool != allocation.pool) continue;
    const uint64_t offset = chunk->free.take(allocation.reserved, kAlignment);
    if (offset == Extents::kNone) continue;
    allocation.chunk = chunk.get();
    return chunk->address + offset;
  }
  Mapped m = map_new(place, kGranularity);
  auto chunk = std::make_unique<Chunk>();
  chunk->address = m.address;
  chunk->frame = std::move(m.frame);
  chunk->device = allocation.device;
  chunk->pool = allocation.pool;
  allocation.chunk = chunk.get();
  const uint64_t offset = chunk->free.take(allocation.reserved, kAlignment);
  if (allocation.pool) allocation.pool->reserve(kGranularity);
  chunks().push_back(std::move(chunk));
  return allocation.chunk->address + offset;
}

void give_small(Allocation& allocation) {
  Chunk* chunk = allocation.chunk;
  chunk->free.give(allocation.address - chunk->address, allocation.reserved);
  if (!chunk->free.whole(kGranularity)) return;
  release_range(chunk->address, kGranularity);
  if (chunk->pool) chunk->pool->unreserve(kGranularity);
  std::erase_if(chunks(), [&](const auto& other) { return other.get() == chunk; });
}

}  // namespace

std::map<CUdeviceptr, Allocation>& allocations() {
  static auto* const all = new std::map<CUdeviceptr, Allocation>;
  return *all;
}

Allocation* allocation_at(CUdeviceptr address) {
  auto after = allocations().upper_bound(address);
  if (after == allocations().begin()) return nullptr;
  Allocation& candidate = std::prev(after)->second;
  return address - candidate.address < candidate.bytes ? &candidate : nullptr;
}

CUdeviceptr allocate(Context& context, size_t bytes, Kind kind, Pool* pool) {
  require(bytes > 0);
  require(bytes <= kMaxReservation, CUDA_ERROR_OUT_OF_MEMORY);
  Allocation a;
  a.bytes = bytes;
  a.kind = kind;
  a.device = context.device;
  a.context = pool ? nullptr : &context;
  a.pool = pool;
  a.id = state().next_id++;
  std::lock_guard guard(state().memory_lock);
  // Managed memory may be larger than the device: it counts as host memory.
  Place& place = kind == Kind::managed ? state().host : device_at(context.device).place;
  if (bytes < kSmallest && kind == Kind::device) {
    a.reserved = round_up(bytes, kAlignment);
    a.address = take_small(a, place);
  } else {
    a.reserved = round_up(bytes, kGranularity);
    Mapped m = map_new(place, a.reserved);
    a.address = m.address;
    a.frame = std::move(m.frame);
    if (pool) pool->reserve(a.reserved);
  }
  const CUdeviceptr address = a.address;
  if (pool) pool->use(bytes);
  allocations().emplace(address, std::move(a));
  return address;
}

void remove(Allocation& allocation) {
  if (allocation.ipc_ticket >= 0) close(allocation.ipc_ticket);
  if (allocation.pool) {
    allocation.pool->unuse(allocation.bytes);
    if (!allocation.chunk) allocation.pool->unreserve(allocation.reserved);
  }
  if (allocation.kind == Kind::pinned) {
    free_pinned(allocation);
  } else if (allocation.chunk) {
    give_small(allocation);
  } else if (allocation.kind != Kind::registered) {
    release_range(allocation.address - allocation.import_offset, allocation.reserved);
  }
  allocations().erase(allocation.address);
}

void free_all_of(Context& context) {
  std::lock_guard guard(state().memory_lock);
  std::vector<CUdeviceptr> mine;
  for (const auto& [address, a] : allocations())
    if (a.context == &context) mine.push_back(address);
  for (CUdeviceptr address : mine) remove(allocations().at(address));
}

void check_range(CUdeviceptr address, size_t bytes, bool device_only) {
  if (!bytes) return;
  require(bytes <= kMaxReservation && address <= UINT64_MAX - bytes);
  std::lock_guard guard(state().memory_lock);
  CUdeviceptr at = address;
  const CUdeviceptr end = address + bytes;
  while (at < end) {
    if (const Allocation* a = allocation_at(at)) {
      at = a->address + a->bytes;
    } else if (const Mapping* m = mapping_at(at)) {
      const bool open = std::any_of(m->device_access.begin(), m->device_access.end(),
                                    [](auto access) { return access != 0; });
      require(open);
      at = m->address + m->bytes;
    } else {
      require(!device_only && at == address && !reservation_at(at));
      return;
    }
  }
}

void check_reach(const Context& from, CUdeviceptr address, size_t bytes, bool plain) {
  const Context& context = from.parent ? *from.parent : from;
  const auto own = static_cast<size_t>(context.device);
  bool strange = false;
  {
    std::lock_guard guard(state().memory_lock);
    for (CUdeviceptr at = address; at < address + bytes;) {
      if (const Allocation* a = allocation_at(at)) {
        if (a->pool != nullptr) {
          require(a->pool->device_access[own] == CU_MEM_ACCESS_FLAGS_PROT_READWRITE);
        } else if (a->kind == Kind::device && a->device != context.device) {
          strange = true;
        }
        at = a->address + a->bytes;
      } else if (const Mapping* m = mapping_at(at)) {
        if (m->device_access[own] == CU_MEM_ACCESS_FLAGS_PROT_NONE) {
          if (!m->handle->on_device()) raise(SIGSEGV);
          fail(CUDA_ERROR_INVALID_VALUE);
        }
        at = m->address + m->bytes;
      } else {
        break;
      }
    }
  }
  if (!strange || !plain) return;
  std::lock_guard guard(state().context_lock);
  require(!context.peers.empty());
}

namespace {

// A failure leaves a null behind, as the real driver does.
CUresult mem_alloc(Call&, CUdeviceptr* out, size_t bytes) {
  Context& context = current_context();
  require(out);
  *out = 0;
  refuse_unsafe_in_capture();
  require(bytes > 0);
  cost_us(bytes <= (1u << 20) ? 1.4 : 38 + static_cast<double>(bytes >> 20) * 0.05);
  *out = allocate(context, bytes, Kind::device, nullptr);
  return CUDA_SUCCESS;
}

CUresult mem_alloc_pitch(Call&, CUdeviceptr* out, size_t* pitch, size_t width, size_t height,
                         unsigned element_bytes) {
  Context& context = current_context();
  require(out && pitch);
  *out = 0;
  refuse_unsafe_in_capture();
  require(width && height);
  require(element_bytes == 4 || element_bytes == 8 || element_bytes == 16);
  require(width <= SIZE_MAX - kAlignment && height <= SIZE_MAX / round_up(width, kAlignment));
  const size_t row = round_up(width, kAlignment);
  *out = allocate(context, row * height, Kind::device, nullptr);
  *pitch = row;
  return CUDA_SUCCESS;
}

CUresult mem_alloc_managed(Call&, CUdeviceptr* out, size_t bytes, unsigned flags) {
  require(out && bytes && (flags == CU_MEM_ATTACH_GLOBAL || flags == CU_MEM_ATTACH_HOST));
  Context& context = current_context();
  refuse_unsafe_in_capture();
  *out = allocate(context, bytes, Kind::managed, nullptr);
  return CUDA_SUCCESS;
}

bool freeable(const Allocation* a, CUdeviceptr address) {
  return a && a->address == address && !a->freeing && (!a->graph_owned || a->graph_live) &&
         (a->kind == Kind::device || a->kind == Kind::managed);
}

// Waits for all running work of the context that owns the memory, as the real driver does. The
// calling thread may be without a context, but not in one that is gone.
CUresult mem_free(Call&, CUdeviceptr address) {
  Context* current = current_context_or_null();
  if (current) current = &current_context();
  refuse_unsafe_in_capture();
  if (!address) return CUDA_SUCCESS;
  Context* owner;
  {
    std::lock_guard guard(state().memory_lock);
    const Allocation* a = allocation_at(address);
    require(freeable(a, address));
    owner = a->context ? a->context : current ? current : device_at(a->device).primary;
  }
  drain(*owner);
  std::lock_guard guard(state().memory_lock);
  Allocation* a = allocation_at(address);
  require(freeable(a, address));
  if (a->graph_owned) {
    a->graph_live = false;
  } else {
    remove(*a);
  }
  return CUDA_SUCCESS;
}

CUresult mem_get_info(Call&, size_t* free_bytes, size_t* total_bytes) {
  const Place& place = device_at(current_context().device).place;
  if (free_bytes) *free_bytes = place.free_bytes();
  if (total_bytes) *total_bytes = place.limit_bytes;
  return CUDA_SUCCESS;
}

}  // namespace
}  // namespace flexlom::sim

using namespace flexlom::sim;
SIM_EXPORT(cuMemAlloc_v2, mem_alloc);
SIM_EXPORT(cuMemAllocPitch_v2, mem_alloc_pitch);
SIM_EXPORT(cuMemAllocManaged, mem_alloc_managed);
SIM_EXPORT(cuMemFree_v2, mem_free);
SIM_EXPORT(cuMemGetInfo_v2, mem_get_info);
