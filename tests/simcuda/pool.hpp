// Memory pools of the stream-ordered allocator, and pinned host memory.
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "tests/simcuda/memory.hpp"
#include "tests/simcuda/task.hpp"

namespace flexlom::sim {

// Guarded by memory_lock. A pool keeps nothing cached: what is freed in stream order goes back to
// the device when the stream gets there.
struct Pool {
  CUmemPoolProps properties{};
  int device = 0;
  bool is_default = false;
  bool imported = false;  // from another process: frees what was imported, allocates nothing
  uint64_t release_threshold = 0;
  int reuse_event = 1, reuse_opportunistic = 1, reuse_internal = 1;
  uint64_t used_bytes = 0, used_high = 0;          // as asked for, to the byte
  uint64_t reserved_bytes = 0, reserved_high = 0;  // whole granules
  std::vector<CUmemAccess_flags> device_access;
  bool destroyed = false;  // freed with its last allocation

  void use(size_t bytes) {
    used_bytes += bytes;
    used_high = std::max(used_high, used_bytes);
  }
  void unuse(size_t bytes) { used_bytes -= bytes; }
  void reserve(size_t bytes) {
    reserved_bytes += bytes;
    reserved_high = std::max(reserved_high, reserved_bytes);
  }
  void unreserve(size_t bytes) { reserved_bytes -= bytes; }
};

Pool* new_default_pool(int device);
Pool* new_pool(int device, const CUmemPoolProps& properties);
Pool& pool_of(CUmemoryPool handle);  // throws INVALID_VALUE; memory_lock held
inline CUmemoryPool handle_of(Pool* pool) { return reinterpret_cast<CUmemoryPool>(pool); }

// Memory for an allocation node of a graph. Throws OUT_OF_MEMORY.
AllocTask make_alloc_task(Context& context, size_t bytes);
// A launch of the graph: its memory becomes live, unless a node frees it. Throws INVALID_VALUE when
// the memory of an earlier launch was not freed.
void claim_graph_memory(const Graph& graph);

// Unmaps pinned host memory of an allocation that is being removed. memory_lock held.
void free_pinned(Allocation& allocation);

}  // namespace flexlom::sim
