// Memory shared with other processes: legacy IPC and exported pools. A handle names the exporting
// process's file descriptor, opened through /proc.
//
// As with the real driver the memory must stay allocated while others have it open.
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <string>

#include "tests/simcuda/address_space.hpp"
#include "tests/simcuda/memory.hpp"
#include "tests/simcuda/pool.hpp"

namespace flexlom::sim {
namespace {

constexpr uint64_t kMagic = 0x63706961647563;
constexpr char kPoolName[] = "simcuda-pool:";

struct Wire {
  uint64_t magic;
  int32_t pid;
  int32_t fd;
  uint64_t frame_offset;  // where the frame lies in the file
  uint64_t frame_bytes;
  uint64_t offset;  // where the allocation lies in the frame
  uint64_t bytes;
  uint64_t id;
  int16_t device;
  int16_t unused;
  int32_t ticket;  // an fd of the exporter: named after the allocation, open as long as it lives
};
static_assert(sizeof(Wire) <= sizeof(CUipcMemHandle));
static_assert(sizeof(Wire) <= sizeof(CUmemPoolPtrExportData));

std::string path_of(int pid, int fd) {
  return "/proc/" + std::to_string(pid) + "/fd/" + std::to_string(fd);
}
std::string ticket_name(uint64_t id) { return "simcuda-ticket:" + std::to_string(id); }

// memory_lock held, as for all of these.
Wire wire_of(Allocation& a) {
  if (a.ipc_ticket < 0) a.ipc_ticket = memfd_create(ticket_name(a.id).c_str(), MFD_CLOEXEC);
  require(a.ipc_ticket >= 0, CUDA_ERROR_OUT_OF_MEMORY);
  const Frame& frame = a.chunk ? *a.chunk->frame : *a.frame;
  Wire wire{};
  wire.magic = kMagic;
  wire.pid = getpid();
  wire.fd = frame.fd;
  wire.frame_offset = frame.offset;
  wire.frame_bytes = frame.bytes;
  wire.offset = a.chunk ? a.address - a.chunk->address : 0;
  wire.bytes = a.bytes;
  wire.id = a.id;
  wire.device = static_cast<int16_t>(a.device);
  wire.ticket = a.ipc_ticket;
  return wire;
}

bool still_allocated(const Wire& wire) {
  char name[128];
  const ssize_t n = readlink(path_of(wire.pid, wire.ticket).c_str(), name, sizeof name);
  const std::string wanted = "/memfd:" + ticket_name(wire.id) + " ";
  return n > 0 && std::string(name, static_cast<size_t>(n)).starts_with(wanted);
}

// Maps the frame that the other process's allocation lies in.
Allocation map_wire(const Wire& wire) {
  const int fd = ::open(path_of(wire.pid, wire.fd).c_str(), O_RDWR | O_CLOEXEC);
  require(fd >= 0, CUDA_ERROR_MAP_FAILED);
  std::shared_ptr<Frame> frame = import_frame(fd, wire.frame_offset, wire.frame_bytes);
  require(still_allocated(wire));
  const uint64_t base = reserve_range(frame->bytes, kGranularity, 0);
  require(base != 0, CUDA_ERROR_OUT_OF_MEMORY);
  if (!map_pages(base, frame->bytes, fd, frame->offset, Access::write)) {
    release_range(base, frame->bytes);
    fail(CUDA_ERROR_MAP_FAILED);
  }
  Allocation a;
  a.address = base + wire.offset;
  a.bytes = wire.bytes;
  a.reserved = frame->bytes;
  a.device = wire.device;
  a.frame = std::move(frame);
  a.id = state().next_id++;
  a.import_offset = wire.offset;
  return a;
}

CUresult get_mem_handle(Call&, CUipcMemHandle* out, CUdeviceptr address) {
  require(out);
  current_context();
  std::lock_guard guard(state().memory_lock);
  Allocation* a = allocation_at(address);
  require(a && a->kind == Kind::device && !a->pool && !a->graph_owned);
  const Wire wire = wire_of(*a);
  *out = {};
  memcpy(out, &wire, sizeof wire);
  return CUDA_SUCCESS;
}

Allocation* already_open(const std::string& key) {
  for (auto& [address, a] : allocations())
    if (a.kind == Kind::imported && a.import_key == key) return &a;
  return nullptr;
}

CUresult open_mem_handle(Call&, CUdeviceptr* out, CUipcMemHandle handle, unsigned flags) {
  require(out && (flags & ~static_cast<unsigned>(CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS)) == 0);
  Context& context = current_context();
  Wire wire;
  memcpy(&wire, &handle, sizeof wire);
  require(wire.magic == kMagic);
  require(wire.pid != getpid(), CUDA_ERROR_INVALID_CONTEXT);
  const std::string key(reinterpret_cast<const char*>(&wire), sizeof wire);
  std::lock_guard guard(state().memory_lock);
  if (Allocation* open = already_open(key)) {
    ++open->opens;
    *out = open->address;
    return CUDA_SUCCESS;
  }
  Allocation a = map_wire(wire);
  a.kind = Kind::imported;
  a.context = &context;
  a.opens = 1;
  a.import_key = key;
  *out = a.address;
  allocations().emplace(a.address, std::move(a));
  return CUDA_SUCCESS;
}

CUresult close_mem_handle(Call&, CUdeviceptr address) {
  Context& context = current_context();
  drain(context);
  std::lock_guard guard(state().memory_lock);
  Allocation* a = allocation_at(address);
  require(a && a->address == address && a->kind == Kind::imported);
  if (--a->opens == 0) remove(*a);
  return CUDA_SUCCESS;
}

// A shared pool is no more than its device: each of its pointers names its own memory.
CUresult pool_export(Call&, void* out, CUmemoryPool handle, CUmemAllocationHandleType type,
                     unsigned long long flags) {
  require(out && !flags && type == CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR);
  std::lock_guard guard(state().memory_lock);
  const Pool& pool = pool_of(handle);
  require(!pool.imported && (pool.properties.handleTypes & type));
  const std::string name = kPoolName + std::to_string(pool.device);
  const int fd = memfd_create(name.c_str(), MFD_CLOEXEC);
  require(fd >= 0, CUDA_ERROR_OUT_OF_MEMORY);
  *static_cast<int*>(out) = fd;
  return CUDA_SUCCESS;
}

CUresult pool_import(Call&, CUmemoryPool* out, void* os_handle, CUmemAllocationHandleType type,
                     unsigned long long flags) {
  require(out && !flags && type == CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR);
  char name[128] = {};
  const int fd = static_cast<int>(reinterpret_cast<intptr_t>(os_handle));
  require(readlink(("/proc/self/fd/" + std::to_string(fd)).c_str(), name, sizeof name - 1) > 0);
  int device = 0;
  require(sscanf(name, ("/memfd:" + std::string(kPoolName) + "%d").c_str(), &device) == 1);
  CUmemPoolProps properties{};
  properties.allocType = CU_MEM_ALLOCATION_TYPE_PINNED;
  properties.location = {CU_MEM_LOCATION_TYPE_DEVICE, device_at(device).ordinal};
  Pool* pool = new_pool(device, properties);
  pool->imported = true;
  *out = handle_of(pool);
  return CUDA_SUCCESS;
}

CUresult pool_export_pointer(Call&, CUmemPoolPtrExportData* out, CUdeviceptr address) {
  require(out);
  std::lock_guard guard(state().memory_lock);
  Allocation* a = allocation_at(address);
  require(a && a->address == address && !a->freeing && a->pool && a->pool->properties.handleTypes);
  const Wire wire = wire_of(*a);
  *out = {};
  memcpy(out, &wire, sizeof wire);
  return CUDA_SUCCESS;
}

CUresult pool_import_pointer(Call&, CUdeviceptr* out, CUmemoryPool handle,
                             CUmemPoolPtrExportData* data) {
  require(out && data);
  Wire wire;
  memcpy(&wire, data, sizeof wire);
  require(wire.magic == kMagic);
  std::lock_guard guard(state().memory_lock);
  Pool& pool = pool_of(handle);
  require(pool.imported && pool.device == wire.device);
  Allocation a = map_wire(wire);
  a.pool = &pool;
  pool.use(a.bytes);
  pool.reserve(a.reserved);
  *out = a.address;
  allocations().emplace(a.address, std::move(a));
  return CUDA_SUCCESS;
}

}  // namespace
}  // namespace flexlom::sim

using namespace flexlom::sim;
SIM_EXPORT(cuIpcGetMemHandle, get_mem_handle);
SIM_EXPORT(cuIpcOpenMemHandle, open_mem_handle);
SIM_EXPORT(cuIpcOpenMemHandle_v2, open_mem_handle);
SIM_EXPORT(cuIpcCloseMemHandle, close_mem_handle);
SIM_EXPORT(cuMemPoolExportToShareableHandle, pool_export);
SIM_EXPORT(cuMemPoolImportFromShareableHandle, pool_import);
SIM_EXPORT(cuMemPoolExportPointer, pool_export_pointer);
SIM_EXPORT(cuMemPoolImportPointer, pool_import_pointer);
