// Legacy IPC: a handle names the exporting process's file descriptor, opened through /proc.
//
// As with the real driver the memory must stay allocated while others have it open.
#include <fcntl.h>
#include <unistd.h>

#include <cstring>
#include <string>

#include "tests/simcuda/address_space.hpp"
#include "tests/simcuda/memory.hpp"

namespace flexlom::sim {
namespace {

constexpr uint64_t kMagic = 0x63706961647563;

struct Wire {
  uint64_t magic;
  int32_t pid;
  int32_t fd;
  uint64_t frame_offset;  // where the frame lies in the file
  uint64_t frame_bytes;
  uint64_t offset;  // where the allocation lies in the frame
  uint64_t bytes;
  uint64_t id;
  int32_t device;
  int32_t unused;
};
static_assert(sizeof(Wire) <= sizeof(CUipcMemHandle));

CUresult get_mem_handle(Call&, CUipcMemHandle* out, CUdeviceptr address) {
  require(out);
  current_context();
  std::lock_guard guard(state().memory_lock);
  const Allocation* a = allocation_at(address);
  require(a && a->kind == Kind::device && !a->pool && !a->graph_owned);
  const Frame& frame = a->chunk ? *a->chunk->frame : *a->frame;
  Wire wire{};
  wire.magic = kMagic;
  wire.pid = getpid();
  wire.fd = frame.fd;
  wire.frame_offset = frame.offset;
  wire.frame_bytes = frame.bytes;
  wire.offset = a->chunk ? a->address - a->chunk->address : 0;
  wire.bytes = a->bytes;
  wire.id = a->id;
  wire.device = a->device;
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
  const std::string path = "/proc/" + std::to_string(wire.pid) + "/fd/" + std::to_string(wire.fd);
  const int fd = ::open(path.c_str(), O_RDWR | O_CLOEXEC);
  require(fd >= 0, CUDA_ERROR_MAP_FAILED);
  std::shared_ptr<Frame> frame = import_frame(fd, wire.frame_offset, wire.frame_bytes);
  const uint64_t base = reserve_range(frame->bytes, kGranularity, 0);
  require(base != 0, CUDA_ERROR_OUT_OF_MEMORY);
  if (!map_pages(base, frame->bytes, fd, frame->offset, Access::write)) {
    release_range(base, frame->bytes);
    return CUDA_ERROR_MAP_FAILED;
  }
  Allocation a;
  a.address = base + wire.offset;
  a.bytes = wire.bytes;
  a.reserved = frame->bytes;
  a.kind = Kind::imported;
  a.device = wire.device;
  a.context = &context;
  a.frame = std::move(frame);
  a.id = state().next_id++;
  a.opens = 1;
  a.import_offset = wire.offset;
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

}  // namespace
}  // namespace flexlom::sim

using namespace flexlom::sim;
SIM_EXPORT(cuIpcGetMemHandle, get_mem_handle);
SIM_EXPORT(cuIpcOpenMemHandle, open_mem_handle);
SIM_EXPORT(cuIpcOpenMemHandle_v2, open_mem_handle);
SIM_EXPORT(cuIpcCloseMemHandle, close_mem_handle);
