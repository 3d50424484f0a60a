#include "interpose/program_maps.h"

#include <algorithm>

#include "interpose/hooks/common.h"

namespace flexlom {

using pool::DevicePool;
using pool::Page;
using pool::Where;

namespace {

// What the driver says of a part of a frame; never seen by the program as "not ours".
constexpr CUresult kPartly = CUDA_ERROR_NOT_SUPPORTED;
constexpr unsigned kReadWrite = CU_MEM_ACCESS_FLAGS_PROT_READWRITE;

bool is_aligned(uint64_t value) { return value % pool::kGranule == 0; }

// What could be handed to another process must remain so. One page can, and what has no room on the
// device could not be in any case; where there are several devices, libraries do it with all sizes.
bool may_be_ours(const DevicePool& owner, size_t bytes, CUmemAllocationHandleType types) {
  if (types != CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR) return types == CU_MEM_HANDLE_TYPE_NONE;
  int devices = 0;
  return FORWARD(cuDeviceGetCount, &devices) == CUDA_SUCCESS && devices == 1 &&
         (pool::is_one_page(bytes) || owner.free_bytes() < bytes);
}

// Rights to read and write for devices, and nothing else.
bool is_plain(const CUmemAccessDesc* access, size_t count) {
  return std::all_of(access, access + count, [](const CUmemAccessDesc& one) {
    return one.location.type == CU_MEM_LOCATION_TYPE_DEVICE && one.location.id >= 0 &&
           one.location.id < pool::kMaxDevices && one.flags == CU_MEM_ACCESS_FLAGS_PROT_READWRITE;
  });
}

}  // namespace

CUresult ProgramMaps::reserve(CUdeviceptr* out, size_t size, size_t alignment,
                              int device) noexcept {
  if (size == 0 || !is_aligned(size) || (alignment & (alignment - 1)) != 0)
    return CUDA_ERROR_NOT_SUPPORTED;
  try {
    DevicePool* owner = pool_.device(device);
    const CUdeviceptr p = owner != nullptr ? owner->take_range(size, alignment) : 0;
    if (p == 0) return CUDA_ERROR_NOT_SUPPORTED;
    auto arena = pool::Arena::of_range(static_cast<uint32_t>(size >> pool::kGranuleShift));
    std::lock_guard lock(mutex_);
    ranges_[p] = {size, owner, std::move(arena)};
    known_.fetch_add(1, std::memory_order_relaxed);
    *out = p;
    return CUDA_SUCCESS;
  } catch (...) {
    return CUDA_ERROR_OUT_OF_MEMORY;
  }
}

CUresult ProgramMaps::give_back(CUdeviceptr p, size_t size) noexcept {
  if (known_.load(std::memory_order_relaxed) == 0) return CUDA_ERROR_NOT_SUPPORTED;
  std::lock_guard lock(mutex_);
  const auto range = range_at(p);
  if (range == ranges_.end()) return CUDA_ERROR_NOT_SUPPORTED;
  if (range->first != p || range->second.bytes != size) return CUDA_ERROR_INVALID_VALUE;
  const auto inside = first_in(p);
  if (inside != mappings_.end() && inside->first - p < size) return CUDA_ERROR_INVALID_VALUE;
  range->second.pool->give_range(p, size);
  ranges_.erase(range);
  return CUDA_SUCCESS;
}

CUresult ProgramMaps::create(Handle* out, size_t size, const CUmemAllocationProp& asked,
                             unsigned long long flags, CUcontext context) noexcept {
  const bool plain = asked.type == CU_MEM_ALLOCATION_TYPE_PINNED &&
                     asked.location.type == CU_MEM_LOCATION_TYPE_DEVICE &&
                     asked.allocFlags.compressionType == 0 && asked.allocFlags.usage == 0 &&
                     size > 0 && is_aligned(size) && flags == 0;
  DevicePool* owner = plain ? pool_.device(asked.location.id) : nullptr;
  if (owner == nullptr || !owner->places_for_program() ||
      !may_be_ours(*owner, size, asked.requestedHandleTypes))
    return CUDA_ERROR_NOT_SUPPORTED;
  try {
    pool::Request request;
    request.call = "cuMemCreate";
    request.bytes = size;
    request.device = asked.location.id;
    request.context = context;
    request.kind = pool::Kind::mapped;
    Frames frames{owner, {}, asked, size, 0};
    const CUresult r = owner->make_frames(request, &frames.loose);
    if (r != CUDA_SUCCESS) return r;
    std::lock_guard lock(mutex_);
    frames.id = ++next_id_;
    *out = kTag << kTagShift | frames.id;
    frames_.emplace(*out, std::move(frames));
    known_.fetch_add(1, std::memory_order_relaxed);
    return CUDA_SUCCESS;
  } catch (...) {
    return CUDA_ERROR_OUT_OF_MEMORY;
  }
}

CUresult ProgramMaps::retain(Handle* out, CUdeviceptr p) noexcept {
  if (known_.load(std::memory_order_relaxed) == 0) return CUDA_ERROR_NOT_SUPPORTED;
  std::lock_guard lock(mutex_);
  const auto mapping = mapping_at(p);
  if (mapping == mappings_.end() || !is_ours(mapping->second.handle))
    return CUDA_ERROR_NOT_SUPPORTED;
  *out = mapping->second.handle;
  ++frames_.at(*out).references;
  return CUDA_SUCCESS;
}

CUresult ProgramMaps::release(Handle handle) noexcept {
  if (!is_ours(handle)) return CUDA_ERROR_NOT_SUPPORTED;
  std::lock_guard lock(mutex_);
  const auto found = frames_.find(handle);
  if (found == frames_.end() || found->second.references == 0) return CUDA_ERROR_INVALID_VALUE;
  --found->second.references;
  settle(handle);
  return CUDA_SUCCESS;
}

CUresult ProgramMaps::properties(CUmemAllocationProp* out, Handle handle) noexcept {
  if (!is_ours(handle)) return CUDA_ERROR_NOT_SUPPORTED;
  std::lock_guard lock(mutex_);
  const auto found = frames_.find(handle);
  if (found == frames_.end()) return CUDA_ERROR_INVALID_VALUE;
  *out = found->second.asked;
  return CUDA_SUCCESS;
}

CUresult ProgramMaps::share(void* out, Handle handle, CUmemAllocationHandleType type,
                            unsigned long long flags) noexcept {
  if (!is_ours(handle)) return CUDA_ERROR_INVALID_VALUE;
  try {
    std::lock_guard lock(mutex_);
    const auto found = frames_.find(handle);
    if (found == frames_.end() || type != CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR ||
        found->second.asked.requestedHandleTypes != type || flags != 0 || out == nullptr)
      return CUDA_ERROR_INVALID_VALUE;
    Frames& frames = found->second;
    if (!pool::is_one_page(frames.bytes)) return CUDA_ERROR_NOT_SUPPORTED;
    std::vector<Page> pages = frames.loose.pages;
    if (frames.placed_at != 0) {
      const CUresult r = frames.pool->pin_mapped(frames.placed_at, false, &pages);
      if (r != CUDA_SUCCESS) return r;
    }
    if (pages.size() != 1 || pages.front().where != Where::device) return CUDA_ERROR_NOT_SUPPORTED;
    frames.loose.shared = true;
    return FORWARD(cuMemExportToShareableHandle, out, pages.front().frame.handle, type, flags);
  } catch (...) {
    return CUDA_ERROR_OUT_OF_MEMORY;
  }
}

CUdeviceptr ProgramMaps::place_of(Handle handle) noexcept {
  std::lock_guard lock(mutex_);
  const auto found = frames_.find(handle);
  return found != frames_.end() ? found->second.placed_at : 0;
}

// Frames go when nobody has a handle of them and they are mapped nowhere, as in the driver.
void ProgramMaps::settle(Handle handle) {
  const auto found = frames_.find(handle);
  if (found == frames_.end() || found->second.references > 0 || found->second.mappings > 0) return;
  found->second.pool->give_frames(&found->second.loose);
  frames_.erase(found);
}

CUresult ProgramMaps::map(CUdeviceptr p, size_t size, size_t offset, Handle handle,
                          unsigned long long flags) noexcept {
  if (known_.load(std::memory_order_relaxed) == 0 && !is_ours(handle))
    return CUDA_ERROR_NOT_SUPPORTED;
  try {
    std::lock_guard lock(mutex_);
    const auto range = range_at(p);
    const bool in_range = range != ranges_.end();
    if (!is_ours(handle) && !in_range) return CUDA_ERROR_NOT_SUPPORTED;
    if (in_range) {
      if (size > range->first + range->second.bytes - p) return CUDA_ERROR_INVALID_VALUE;
      const auto next = first_in(p);
      if (mapping_at(p) != mappings_.end() || (next != mappings_.end() && next->first - p < size))
        return CUDA_ERROR_INVALID_VALUE;
    }
    if (!is_ours(handle)) {
      const CUresult r = FORWARD(cuMemMap, p, size, offset, handle, flags);
      if (r == CUDA_SUCCESS) mappings_[p] = {size, handle, ++next_id_};
      return r;
    }
    const auto found = frames_.find(handle);
    if (found == frames_.end() || flags != 0 || size == 0 || !is_aligned(p) || !is_aligned(size))
      return CUDA_ERROR_INVALID_VALUE;
    Frames& frames = found->second;
    if (offset != 0 || size != frames.bytes) return kPartly;
    Mapping mapping{size, handle, ++next_id_};
    mapping.placed = in_range && range->second.pool == frames.pool && frames.mappings == 0;
    const auto at = mappings_.emplace(p, mapping).first;
    const CUresult r = mapping.placed ? place(p, frames) : map_pieces(p, frames);
    if (r != CUDA_SUCCESS) {
      mappings_.erase(at);
      return r;
    }
    ++frames.mappings;
    return r;
  } catch (...) {
    return CUDA_ERROR_OUT_OF_MEMORY;
  }
}

CUresult ProgramMaps::place(CUdeviceptr p, Frames& frames) {
  const auto range = range_at(p);
  pool::Request request;
  request.call = "cuMemMap";
  request.bytes = frames.bytes;
  request.device = frames.asked.location.id;
  request.kind = pool::Kind::mapped;
  const CUresult r = frames.pool->map_frames(
      p, request, range->second.arena,
      static_cast<uint32_t>((p - range->first) >> pool::kGranuleShift), &frames.loose);
  if (r == CUDA_SUCCESS) frames.placed_at = p;
  return r;
}

// Where they cannot be followed: in a range of the driver's or of another device, or in a second
// place. They stay what they are for good.
CUresult ProgramMaps::map_pieces(CUdeviceptr p, Frames& frames) {
  std::vector<Page> pages = frames.loose.pages;
  if (frames.placed_at != 0) {
    const CUresult r = frames.pool->pin_mapped(frames.placed_at, true, &pages);
    if (r != CUDA_SUCCESS) return r;
  }
  frames.loose.shared = true;
  const auto at = [&](const Page& page) {
    return p + (CUdeviceptr{page.granule} << pool::kGranuleShift);
  };
  for (size_t i = 0; i < pages.size(); ++i) {
    const CUresult r =
        FORWARD(cuMemMap, at(pages[i]), pages[i].bytes(), size_t{0}, pages[i].frame.handle, 0ull);
    if (r == CUDA_SUCCESS) continue;
    while (i-- > 0) FORWARD(cuMemUnmap, at(pages[i]), pages[i].bytes());
    return r;
  }
  return CUDA_SUCCESS;
}

CUresult ProgramMaps::unmap(CUdeviceptr p, size_t size) noexcept {
  if (known_.load(std::memory_order_relaxed) == 0) return CUDA_ERROR_NOT_SUPPORTED;
  std::lock_guard lock(mutex_);
  const auto inside = [&](Mappings::iterator m) {
    return m != mappings_.end() && m->first - p < size;
  };
  if (const auto around = mapping_at(p); around != mappings_.end() && around->first != p)
    return CUDA_ERROR_INVALID_VALUE;
  if (!inside(first_in(p))) return CUDA_ERROR_NOT_SUPPORTED;
  for (auto m = first_in(p); inside(m); ++m) {
    if (m->second.bytes > size - (m->first - p)) return CUDA_ERROR_INVALID_VALUE;
  }
  CUdeviceptr at = p;
  // What lies between is the driver's, where the range is, or nothing, which it does not mind.
  const auto skip_to = [&](CUdeviceptr end) {
    if (end > at && range_at(at) == ranges_.end()) FORWARD(cuMemUnmap, at, end - at);
  };
  for (auto m = first_in(p); inside(m);) {
    skip_to(m->first);
    at = m->first + m->second.bytes;
    const Mapping& mapping = m->second;
    const auto frames = frames_.find(mapping.handle);
    const CUresult r = mapping.placed
                           ? frames->second.pool->unmap_frames(m->first, &frames->second.loose)
                           : FORWARD(cuMemUnmap, m->first, mapping.bytes);
    if (r != CUDA_SUCCESS) return r;
    if (frames != frames_.end()) {
      if (mapping.placed) frames->second.placed_at = 0;
      --frames->second.mappings;
      settle(mapping.handle);
    }
    m = mappings_.erase(m);
  }
  skip_to(p + size);
  return CUDA_SUCCESS;
}

CUresult ProgramMaps::set_access(CUdeviceptr p, size_t size, const CUmemAccessDesc* access,
                                 size_t count) noexcept {
  if (known_.load(std::memory_order_relaxed) == 0 || access == nullptr || count == 0)
    return CUDA_ERROR_NOT_SUPPORTED;
  std::lock_guard lock(mutex_);
  if (range_at(p) == ranges_.end()) return CUDA_ERROR_NOT_SUPPORTED;
  // Whole mappings, end to end.
  auto m = mappings_.find(p);
  CUdeviceptr at = p;
  for (; m != mappings_.end() && m->first == at && at - p < size; ++m) at += m->second.bytes;
  if (size == 0 || at - p != size) return CUDA_ERROR_INVALID_VALUE;
  for (m = mappings_.find(p); m != mappings_.end() && m->first < at; ++m) {
    const CUresult r = open(m->first, m->second, access, count);
    if (r != CUDA_SUCCESS) return r;
  }
  return CUDA_SUCCESS;
}

CUresult ProgramMaps::open(CUdeviceptr p, Mapping& mapping, const CUmemAccessDesc* access,
                           size_t count) {
  if (!mapping.placed || mapping.by_driver || !is_plain(access, count)) {
    const CUresult r = leave_to_driver(p, mapping);
    return r != CUDA_SUCCESS ? r : FORWARD(cuMemSetAccess, p, mapping.bytes, access, count);
  }
  DevicePool* owner = frames_.at(mapping.handle).pool;
  for (size_t i = 0; i < count; ++i) {
    const int device = access[i].location.id;
    const bool own = device == owner->device();
    const CUresult r = own ? owner->open_mapped(p) : owner->allow_access(device);
    if (r != CUDA_SUCCESS) return r;
    if (own) {
      mapping.access = kReadWrite;
    } else {
      mapping.peers |= uint64_t{1} << device;
    }
  }
  return CUDA_SUCCESS;
}

CUresult ProgramMaps::leave_to_driver(CUdeviceptr p, Mapping& mapping) {
  if (!mapping.placed || mapping.by_driver) return CUDA_SUCCESS;
  std::vector<Page> pages;
  const CUresult r = frames_.at(mapping.handle).pool->pin_mapped(p, true, &pages);
  mapping.by_driver = r == CUDA_SUCCESS;
  return r;
}

bool ProgramMaps::view(CUdeviceptr p, View* out) noexcept {
  if (known_.load(std::memory_order_relaxed) == 0) return false;
  std::lock_guard lock(mutex_);
  const auto m = mapping_at(p);
  if (m == mappings_.end()) return false;
  const Mapping& mapping = m->second;
  *out = {};
  if (const auto range = range_at(p); range != ranges_.end()) {
    out->range = range->first;
    out->range_bytes = range->second.bytes;
  }
  out->base = m->first;
  out->bytes = mapping.bytes;
  out->mapping_id = mapping.id;
  const auto frames = frames_.find(mapping.handle);
  out->is_foreign = frames == frames_.end();
  if (out->is_foreign) return true;
  out->device = frames->second.asked.location.id;
  out->rdma = frames->second.asked.allocFlags.gpuDirectRDMACapable != 0;
  out->handle_types = frames->second.asked.requestedHandleTypes;
  out->handle_id = frames->second.id;
  out->access = mapping.access;
  out->peers = mapping.peers;
  out->by_driver = !mapping.placed || mapping.by_driver;
  if (!out->by_driver) return true;
  const CUmemLocation here{CU_MEM_LOCATION_TYPE_DEVICE, out->device};
  unsigned long long flags = 0;
  FORWARD(cuMemGetAccess, &flags, &here, p);
  out->access = static_cast<unsigned>(flags);
  return true;
}

bool ProgramMaps::holds(CUdeviceptr p, View* out) noexcept {
  if (known_.load(std::memory_order_relaxed) == 0) return false;
  std::lock_guard lock(mutex_);
  const auto range = range_at(p);
  if (range == ranges_.end()) return false;
  if (out != nullptr) {
    out->range = range->first;
    out->range_bytes = range->second.bytes;
  }
  return true;
}

bool ProgramMaps::pin(CUdeviceptr p, size_t size) noexcept {
  std::lock_guard lock(mutex_);
  bool on_device = true;
  auto m = mapping_at(p);
  if (m == mappings_.end()) m = first_in(p);
  for (; m != mappings_.end() && (m->first <= p || m->first - p < size); ++m) {
    if (!m->second.placed) continue;
    std::vector<Page> pages;
    if (frames_.at(m->second.handle).pool->pin_mapped(m->first, true, &pages) != CUDA_SUCCESS)
      return false;
    on_device &= std::all_of(pages.begin(), pages.end(),
                             [](const Page& page) { return page.where == Where::device; });
  }
  return on_device;
}

std::map<CUdeviceptr, ProgramMaps::Range>::iterator ProgramMaps::range_at(CUdeviceptr p) {
  auto next = ranges_.upper_bound(p);
  if (next == ranges_.begin()) return ranges_.end();
  --next;
  return p - next->first < next->second.bytes ? next : ranges_.end();
}

ProgramMaps::Mappings::iterator ProgramMaps::mapping_at(CUdeviceptr p) {
  auto next = mappings_.upper_bound(p);
  if (next == mappings_.begin()) return mappings_.end();
  --next;
  return p - next->first < next->second.bytes ? next : mappings_.end();
}

ProgramMaps::Mappings::iterator ProgramMaps::first_in(CUdeviceptr p) {
  return mappings_.lower_bound(p);
}

}  // namespace flexlom
