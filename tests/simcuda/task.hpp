// One piece of GPU work, as data: what a stream executes, what a capture records, what a graph node
// holds. Everything a task needs is copied into it when it is made.
#pragma once
#include <cstddef>
#include <functional>
#include <memory>
#include <variant>
#include <vector>

#include "tests/simcuda/api.hpp"

namespace flexlom::sim {

struct Kernel;
struct Event;
struct Graph;

struct KernelTask {
  const Kernel* kernel = nullptr;
  void* handle = nullptr;  // the CUfunction or CUkernel it was launched by
  unsigned grid[3] = {1, 1, 1};
  unsigned block[3] = {1, 1, 1};
  unsigned shared_bytes = 0;
  std::vector<std::byte> params;  // laid out as the kernel declares them
};
struct CopyTask {
  CUDA_MEMCPY3D what{};  // srcDevice/srcHost already resolved: see copy.cpp
  // What the operands' memory was when a graph node was made of this: see note_places() in copy.hpp.
  unsigned char source = 0, target = 0;
};
struct MemsetTask {
  CUDA_MEMSET_NODE_PARAMS what{};
};
struct HostTask {
  std::function<void()> call;
  CUhostFn fn = nullptr;  // for graph queries; null for cuStreamAddCallback
  void* user_data = nullptr;
};
struct EmptyTask {};
struct EventRecordTask {
  std::shared_ptr<Event> event;
};
struct EventWaitTask {
  std::shared_ptr<Event> event;
};
struct MemOpTask {
  std::vector<CUstreamBatchMemOpParams> operations;
};
struct ChildGraphTask {
  std::shared_ptr<Graph> graph;
};
// The memory exists from the node's creation until the last graph that holds the node is gone: the
// address is fixed, as with the real driver, and so here is the memory behind it.
struct AllocTask {
  CUDA_MEM_ALLOC_NODE_PARAMS what{};
  std::shared_ptr<void> memory;
};
struct FreeTask {
  CUdeviceptr address = 0;
};

using Task = std::variant<KernelTask, CopyTask, MemsetTask, HostTask, EmptyTask, EventRecordTask,
                          EventWaitTask, MemOpTask, ChildGraphTask, AllocTask, FreeTask>;

// Executes the task on the calling (stream) thread. No lock held.
void run(const Task& task);

// The parts of run, each in the file of its kind.
void run_kernel(const KernelTask& task);
void run_copy(const CUDA_MEMCPY3D& what);
void run_memset(const CUDA_MEMSET_NODE_PARAMS& what);
void run_memops(const std::vector<CUstreamBatchMemOpParams>& operations);
void run_graph(const Graph& graph);
void run_free(CUdeviceptr address);  // leaves memory alone that a graph owns

}  // namespace flexlom::sim
