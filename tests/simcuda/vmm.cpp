// Virtual memory management: reservations, physical handles, mappings, access rights.
#include "tests/simcuda/vmm.hpp"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <algorithm>

#include "tests/simcuda/address_space.hpp"
#include "tests/simcuda/simcuda.h"

namespace flexlom::sim {
namespace {

std::atomic<uint64_t> live_handle_count{0};

struct CountedHandle : Handle {
  CountedHandle() { ++live_handle_count; }
  ~CountedHandle() { --live_handle_count; }
};

std::map<CUmemGenericAllocationHandle, std::shared_ptr<Handle>>& handles() {  // memory_lock
  static auto* const all = new std::map<CUmemGenericAllocationHandle, std::shared_ptr<Handle>>;
  return *all;
}
std::map<CUdeviceptr, Reservation>& reservations() {  // memory_lock
  static auto* const all = new std::map<CUdeviceptr, Reservation>;
  return *all;
}

bool aligned(uint64_t value) { return value % kGranularity == 0; }
double mebibytes(size_t bytes) { return static_cast<double>(bytes) / (1 << 20); }

// Every exportable frame has a file descriptor, and a pool may make all of its frames so.
void raise_fd_limit() {
  rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) || limit.rlim_cur >= limit.rlim_max) return;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
}

// Who a location means: a device, or the host. Throws for what the driver refuses.
Place& place_of(const CUmemLocation& location) {
  switch (location.type) {
    case CU_MEM_LOCATION_TYPE_DEVICE:
      return device_at(location.id).place;
    case CU_MEM_LOCATION_TYPE_HOST_NUMA:
      require(location.id == 0);
      [[fallthrough]];
    case CU_MEM_LOCATION_TYPE_HOST:
      require(options().host_vmm && options().driver_version >= 12020, CUDA_ERROR_NOT_SUPPORTED);
      return state().host;
    default:
      fail(CUDA_ERROR_INVALID_VALUE);
  }
}

void check_properties(const CUmemAllocationProp& p) {
  require(p.type == CU_MEM_ALLOCATION_TYPE_PINNED);
  constexpr unsigned known = CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR;
  require((static_cast<unsigned>(p.requestedHandleTypes) & ~known) == 0, CUDA_ERROR_NOT_SUPPORTED);
  require(p.location.type != CU_MEM_LOCATION_TYPE_HOST || !p.requestedHandleTypes);
}

CUresult mem_create(Call&, CUmemGenericAllocationHandle* out, size_t bytes,
                    const CUmemAllocationProp* properties, unsigned long long flags) {
  require(out && properties && !flags && bytes && aligned(bytes));
  check_properties(*properties);
  Place& place = place_of(properties->location);
  require(bytes <= kMaxReservation, CUDA_ERROR_OUT_OF_MEMORY);
  const bool exportable = properties->requestedHandleTypes != 0;
  cost_us(place.device < 0 ? 450 * mebibytes(bytes) : 9 + 0.01 * mebibytes(bytes));
  if (exportable) raise_fd_limit();
  auto handle = std::make_shared<CountedHandle>();
  std::lock_guard guard(state().memory_lock);
  handle->frame = place.take(bytes, exportable);
  require(handle->frame != nullptr, CUDA_ERROR_OUT_OF_MEMORY);
  handle->properties = *properties;
  *out = publish(std::move(handle));
  return CUDA_SUCCESS;
}

CUresult mem_release(Call&, CUmemGenericAllocationHandle value) {
  cost_us(9);
  std::lock_guard guard(state().memory_lock);
  std::shared_ptr<Handle> handle = handle_of_value(value);
  if (--handle->references == 0) handles().erase(value);
  return CUDA_SUCCESS;
}

CUresult mem_retain_handle(Call&, CUmemGenericAllocationHandle* out, void* address) {
  require(out && address);
  std::lock_guard guard(state().memory_lock);
  Mapping* mapping = mapping_at(reinterpret_cast<CUdeviceptr>(address));
  require(mapping != nullptr);
  ++mapping->handle->references;
  handles()[mapping->handle->value] = mapping->handle;
  *out = mapping->handle->value;
  return CUDA_SUCCESS;
}

CUresult mem_get_granularity(Call&, size_t* out, const CUmemAllocationProp* properties,
                             CUmemAllocationGranularity_flags option) {
  require(out && properties);
  require(option == CU_MEM_ALLOC_GRANULARITY_MINIMUM ||
          option == CU_MEM_ALLOC_GRANULARITY_RECOMMENDED);
  check_properties(*properties);
  place_of(properties->location);
  *out = kGranularity;
  return CUDA_SUCCESS;
}

CUresult mem_get_properties(Call&, CUmemAllocationProp* out, CUmemGenericAllocationHandle value) {
  require(out);
  std::lock_guard guard(state().memory_lock);
  *out = handle_of_value(value)->properties;
  return CUDA_SUCCESS;
}

CUresult address_reserve(Call&, CUdeviceptr* out, size_t bytes, size_t alignment, CUdeviceptr hint,
                         unsigned long long flags) {
  require(out && bytes && aligned(bytes) && !flags);
  require((alignment & (alignment - 1)) == 0);
  require(bytes <= kMaxReservation, CUDA_ERROR_OUT_OF_MEMORY);
  std::lock_guard guard(state().memory_lock);
  const uint64_t address = reserve_range(bytes, alignment, hint);
  require(address != 0, CUDA_ERROR_OUT_OF_MEMORY);
  reservations()[address] = {address, bytes};
  *out = address;
  return CUDA_SUCCESS;
}

CUresult address_free(Call&, CUdeviceptr address, size_t bytes) {
  std::lock_guard guard(state().memory_lock);
  auto found = reservations().find(address);
  require(found != reservations().end() && found->second.bytes == bytes);
  auto mapping = mappings().lower_bound(address);
  require(mapping == mappings().end() || mapping->first >= address + bytes);
  release_range(address, bytes);
  reservations().erase(found);
  return CUDA_SUCCESS;
}

CUresult mem_map(Call&, CUdeviceptr address, size_t bytes, size_t offset,
                 CUmemGenericAllocationHandle value, unsigned long long flags) {
  require(!flags && bytes && aligned(bytes) && aligned(address) && aligned(offset));
  cost_us(0.6);
  std::lock_guard guard(state().memory_lock);
  std::shared_ptr<Handle> handle = handle_of_value(value);
  const size_t whole = handle->frame->bytes;
  require(offset == 0 && bytes == whole, CUDA_ERROR_NOT_SUPPORTED);
  const Reservation* reservation = reservation_at(address);
  require(reservation && bytes <= reservation->address + reservation->bytes - address);
  auto next = mappings().lower_bound(address);
  require(!mapping_at(address) && (next == mappings().end() || next->first >= address + bytes));
  require(map_pages(address, bytes, handle->frame->fd, handle->frame->offset, Access::none),
          CUDA_ERROR_OUT_OF_MEMORY);
  Mapping mapping;
  mapping.address = address;
  mapping.bytes = bytes;
  mapping.id = state().next_id++;
  mapping.device_access.assign(state().devices.size(), CU_MEM_ACCESS_FLAGS_PROT_NONE);
  ++handle->mappings;
  mapping.handle = std::move(handle);
  mappings().emplace(address, std::move(mapping));
  return CUDA_SUCCESS;
}

// The mappings that make up a range exactly, end to end; throws when there is a hole or a part.
std::vector<Mapping*> whole_mappings(CUdeviceptr address, size_t bytes) {
  require(bytes && aligned(bytes) && aligned(address));
  std::vector<Mapping*> list;
  CUdeviceptr at = address;
  for (auto it = mappings().find(address); at < address + bytes; ++it) {
    require(it != mappings().end() && it->first == at);
    list.push_back(&it->second);
    at += it->second.bytes;
  }
  require(at == address + bytes);
  return list;
}

CUresult mem_unmap(Call&, CUdeviceptr address, size_t bytes) {
  std::lock_guard guard(state().memory_lock);
  for (Mapping* mapping : whole_mappings(address, bytes)) {
    cost_us(mapping->handle->on_device() ? 14 : 28 + 2 * mebibytes(mapping->bytes));
    require(unmap_pages(mapping->address, mapping->bytes), CUDA_ERROR_OUT_OF_MEMORY);
    --mapping->handle->mappings;
    mappings().erase(mapping->address);
  }
  return CUDA_SUCCESS;
}

Access strongest(const Mapping& mapping) {
  unsigned all = mapping.host_access;
  for (CUmemAccess_flags access : mapping.device_access) all |= access;
  if (all == CU_MEM_ACCESS_FLAGS_PROT_NONE) return Access::none;
  return all & 2 ? Access::write : Access::read;
}

CUresult mem_set_access(Call&, CUdeviceptr address, size_t bytes, const CUmemAccessDesc* wanted,
                        size_t count) {
  require(wanted && count);
  for (size_t i = 0; i < count; ++i) {
    if (wanted[i].location.type == CU_MEM_LOCATION_TYPE_DEVICE)
      require(wanted[i].location.id >= 0 &&
              wanted[i].location.id < static_cast<int>(state().devices.size()));
    else
      require(wanted[i].location.type == CU_MEM_LOCATION_TYPE_HOST ||
              wanted[i].location.type == CU_MEM_LOCATION_TYPE_HOST_NUMA);
    require(wanted[i].flags == CU_MEM_ACCESS_FLAGS_PROT_NONE ||
            wanted[i].flags == CU_MEM_ACCESS_FLAGS_PROT_READ ||
            wanted[i].flags == CU_MEM_ACCESS_FLAGS_PROT_READWRITE);
  }
  std::lock_guard guard(state().memory_lock);
  for (Mapping* mapping : whole_mappings(address, bytes)) {
    const CUmemLocation& place = mapping->handle->properties.location;
    for (size_t i = 0; i < count && mapping->handle->on_device() && !options().peers; ++i)
      require(wanted[i].location.type != CU_MEM_LOCATION_TYPE_DEVICE ||
              wanted[i].location.id == place.id || wanted[i].flags == 0);
    cost_us(mapping->handle->on_device() ? 23 : 30 + 9 * mebibytes(mapping->bytes));
    for (size_t i = 0; i < count; ++i) {
      if (wanted[i].location.type == CU_MEM_LOCATION_TYPE_DEVICE)
        mapping->device_access[static_cast<size_t>(wanted[i].location.id)] = wanted[i].flags;
      else
        mapping->host_access = wanted[i].flags;
    }
    require(protect_pages(mapping->address, mapping->bytes, strongest(*mapping)),
            CUDA_ERROR_OUT_OF_MEMORY);
  }
  return CUDA_SUCCESS;
}

CUresult mem_get_access(Call&, unsigned long long* out, const CUmemLocation* location,
                        CUdeviceptr address) {
  require(out && location);
  std::lock_guard guard(state().memory_lock);
  const Mapping* mapping = mapping_at(address);
  if (!mapping && allocation_at(address)) {  // no rights are kept for what was not mapped by hand
    *out = CU_MEM_ACCESS_FLAGS_PROT_NONE;
    return CUDA_SUCCESS;
  }
  require(mapping != nullptr);
  if (location->type == CU_MEM_LOCATION_TYPE_DEVICE) {
    device_at(location->id);
    *out = mapping->device_access[static_cast<size_t>(location->id)];
  } else {
    require(location->type == CU_MEM_LOCATION_TYPE_HOST ||
            location->type == CU_MEM_LOCATION_TYPE_HOST_NUMA);
    *out = mapping->host_access;
  }
  return CUDA_SUCCESS;
}

CUresult export_handle(Call&, void* out, CUmemGenericAllocationHandle value,
                       CUmemAllocationHandleType type, unsigned long long flags) {
  require(out && !flags && type == CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR);
  std::lock_guard guard(state().memory_lock);
  std::shared_ptr<Handle> handle = handle_of_value(value);
  require(handle->properties.requestedHandleTypes & CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR);
  const int fd = fcntl(handle->frame->fd, F_DUPFD_CLOEXEC, 0);
  require(fd >= 0, CUDA_ERROR_OUT_OF_MEMORY);
  *static_cast<int*>(out) = fd;
  return CUDA_SUCCESS;
}

// The frame behind an fd when this process made it: the memory must not be counted twice.
std::shared_ptr<Frame> own_frame(const struct stat& wanted) {
  const auto same = [&](const Frame& frame) {
    struct stat status;
    return frame.own_fd && fstat(frame.fd, &status) == 0 && status.st_ino == wanted.st_ino &&
           status.st_dev == wanted.st_dev;
  };
  for (const auto& [value, handle] : handles())
    if (same(*handle->frame)) return handle->frame;
  for (const auto& [address, mapping] : mappings())
    if (same(*mapping.handle->frame)) return mapping.handle->frame;
  return {};
}

CUresult import_handle(Call&, CUmemGenericAllocationHandle* out, void* os_handle,
                       CUmemAllocationHandleType type) {
  require(out && type == CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR);
  const int fd = static_cast<int>(reinterpret_cast<intptr_t>(os_handle));
  struct stat status;
  int device = 0;
  require(fstat(fd, &status) == 0 && shared_place(fd, device));
  auto handle = std::make_shared<CountedHandle>();
  handle->properties.type = CU_MEM_ALLOCATION_TYPE_PINNED;
  handle->properties.requestedHandleTypes = CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR;
  handle->properties.location.type =
      device < 0 ? CU_MEM_LOCATION_TYPE_HOST_NUMA : CU_MEM_LOCATION_TYPE_DEVICE;
  handle->properties.location.id = device < 0 ? 0 : device_at(device).ordinal;
  std::lock_guard guard(state().memory_lock);
  handle->frame = own_frame(status);
  if (!handle->frame) {
    const int own = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    require(own >= 0, CUDA_ERROR_OUT_OF_MEMORY);
    handle->frame = import_frame(own, 0, static_cast<size_t>(status.st_size));
  }
  *out = publish(std::move(handle));
  return CUDA_SUCCESS;
}

}  // namespace

std::map<CUdeviceptr, Mapping>& mappings() {
  static auto* const all = new std::map<CUdeviceptr, Mapping>;
  return *all;
}

CUmemGenericAllocationHandle publish(std::shared_ptr<Handle> handle) {
  handle->id = state().next_id++;
  handle->value = 0x51000000000 + handle->id;  // nothing that could be taken for a small integer
  handle->references = 1;
  const auto value = handle->value;
  handles()[value] = std::move(handle);
  return value;
}

std::shared_ptr<Handle> handle_of_value(CUmemGenericAllocationHandle value) {
  const auto found = handles().find(value);
  require(found != handles().end());
  return found->second;
}

Mapping* mapping_at(CUdeviceptr address) {
  auto after = mappings().upper_bound(address);
  if (after == mappings().begin()) return nullptr;
  Mapping& candidate = std::prev(after)->second;
  return address - candidate.address < candidate.bytes ? &candidate : nullptr;
}

Reservation* reservation_at(CUdeviceptr address) {
  auto after = reservations().upper_bound(address);
  if (after == reservations().begin()) return nullptr;
  Reservation& candidate = std::prev(after)->second;
  return address - candidate.address < candidate.bytes ? &candidate : nullptr;
}

}  // namespace flexlom::sim

using namespace flexlom::sim;
SIM_EXPORT(cuMemCreate, mem_create);
SIM_EXPORT(cuMemRelease, mem_release);
SIM_EXPORT(cuMemRetainAllocationHandle, mem_retain_handle);
SIM_EXPORT(cuMemGetAllocationGranularity, mem_get_granularity);
SIM_EXPORT(cuMemGetAllocationPropertiesFromHandle, mem_get_properties);
SIM_EXPORT(cuMemAddressReserve, address_reserve);
SIM_EXPORT(cuMemAddressFree, address_free);
SIM_EXPORT(cuMemMap, mem_map);
SIM_EXPORT(cuMemUnmap, mem_unmap);
SIM_EXPORT(cuMemSetAccess, mem_set_access);
SIM_EXPORT(cuMemGetAccess, mem_get_access);
SIM_EXPORT(cuMemExportToShareableHandle, export_handle);
SIM_EXPORT(cuMemImportFromShareableHandle, import_handle);

extern "C" __attribute__((visibility("default"))) uint64_t simcuda_live_handles(void) {
  return live_handle_count.load();
}
