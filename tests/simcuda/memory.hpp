// Everything that has a device address: allocations and VMM mappings, and questions about them.
#pragma once
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "tests/simcuda/context.hpp"
#include "tests/simcuda/state.hpp"

namespace flexlom::sim {

struct Pool;

enum class Kind { device, managed, pinned, registered, imported };

// A granule that small allocations share, as they do in the real driver: its memory is held from
// the first to the last of them. Guarded by memory_lock.
struct Chunk {
  CUdeviceptr address = 0;
  std::shared_ptr<Frame> frame;
  Extents free{0, kGranularity};
  int device = 0;
  Pool* pool = nullptr;
};

// One allocation the program asked for. All guarded by memory_lock.
struct Allocation {
  CUdeviceptr address = 0;
  size_t bytes = 0;     // as asked for
  size_t reserved = 0;  // what it takes: device address range and physical memory
  Kind kind = Kind::device;
  int device = 0;
  Context* context = nullptr;
  Pool* pool = nullptr;          // stream-ordered
  std::shared_ptr<Frame> frame;  // null when inside a chunk of small allocations
  Chunk* chunk = nullptr;
  uint64_t id = 0;
  bool sync_memops = true;
  bool freeing = false;      // cuMemFreeAsync was called, the stream has not got there yet
  bool graph_owned = false;  // by an allocation node: goes with the last graph that has it
  bool graph_live = false;   // the graph was launched and the memory is not freed yet
  bool graph_left = false;   // the graph went while it was live: the program frees it
  int ipc_ticket = -1;       // exported: an fd that lives as long as the allocation
  unsigned opens = 0;        // imported: cuIpcOpenMemHandle calls not yet closed
  size_t import_offset = 0;  // imported: where it lies in the frame, which is mapped whole
  std::string import_key;    // imported: what was opened
  bool read_mostly = false;  // managed: advice, kept to be asked for
  CUdevice preferred = CU_DEVICE_INVALID;
  CUdevice last_prefetch = CU_DEVICE_INVALID;
};

// A whole VMM handle mapped into a reservation. Guarded by memory_lock.
struct Handle;
struct Mapping {
  CUdeviceptr address = 0;
  size_t bytes = 0;
  std::shared_ptr<Handle> handle;
  uint64_t id = 0;
  std::vector<CUmemAccess_flags> device_access;  // one for each device
  CUmemAccess_flags host_access = CU_MEM_ACCESS_FLAGS_PROT_NONE;
  bool sync_memops = true;  // until someone tries to set it
};

// The allocation or mapping that an address lies in; null when there is none. memory_lock held.
Allocation* allocation_at(CUdeviceptr address);
Mapping* mapping_at(CUdeviceptr address);

// Allocates in the device's address space. pool: null for cuMemAlloc. Throws OUT_OF_MEMORY.
CUdeviceptr allocate(Context& context, size_t bytes, Kind kind, Pool* pool);
// Removes it and gives back its memory. memory_lock held.
void remove(Allocation& allocation);
// Frees what belongs to a context that is going away.
void free_all_of(Context& context);

// Throws INVALID_VALUE when the range touches GPU memory and is not fully inside allocations or
// accessible mappings. Plain host memory passes when `device_only` is false.
void check_range(CUdeviceptr address, size_t bytes, bool device_only);

// Throws INVALID_VALUE when part of the range is device memory that a device may not touch: mapped
// or stream-ordered memory without access for it; with `plain`, also another device's cuMemAlloc
// memory unless the context has enabled peer access (copies reach that without, recorded on two
// H200s). Memory of the host without access is not refused: driver 580 crashes, so this does, too.
void check_reach(const Context& context, CUdeviceptr address, size_t bytes, bool plain);

// All allocations, by address. memory_lock held.
std::map<CUdeviceptr, Allocation>& allocations();

}  // namespace flexlom::sim
