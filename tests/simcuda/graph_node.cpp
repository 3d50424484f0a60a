// Graph nodes of every kind: adding, asking, changing.
#include "tests/simcuda/graph_node.hpp"

#include "tests/simcuda/copy.hpp"
#include "tests/simcuda/event.hpp"
#include "tests/simcuda/host_callback.hpp"
#include "tests/simcuda/kernels.hpp"
#include "tests/simcuda/launch.hpp"
#include "tests/simcuda/module.hpp"
#include "tests/simcuda/pool.hpp"

namespace flexlom::sim {

Task task_from(const CUDA_KERNEL_NODE_PARAMS_v1& p) {
  CUDA_KERNEL_NODE_PARAMS_v2 w{};
  w.func = p.func;
  w.gridDimX = p.gridDimX;
  w.gridDimY = p.gridDimY;
  w.gridDimZ = p.gridDimZ;
  w.blockDimX = p.blockDimX;
  w.blockDimY = p.blockDimY;
  w.blockDimZ = p.blockDimZ;
  w.sharedMemBytes = p.sharedMemBytes;
  w.kernelParams = p.kernelParams;
  w.extra = p.extra;
  return task_from(w);
}

// A CUkernel goes into `kern`; in `func` an H200 refuses it, although launches take it there.
Task task_from(const CUDA_KERNEL_NODE_PARAMS_v2& p) {
  const CUfunction function = p.func ? p.func : reinterpret_cast<CUfunction>(p.kern);
  require_kind(function, !p.func);
  return make_kernel_task(function, {p.gridDimX, p.gridDimY, p.gridDimZ},
                          {p.blockDimX, p.blockDimY, p.blockDimZ}, p.sharedMemBytes, p.kernelParams,
                          p.extra);
}
Task task_from(const CUDA_MEMCPY3D& p) { return CopyTask{checked_copy(p)}; }
Task task_from(const CUDA_MEMSET_NODE_PARAMS& p) {
  check_memset(p);
  return MemsetTask{p};
}
Task task_from(const CUDA_HOST_NODE_PARAMS_v1& p) {
  require(p.fn);
  return make_host_task(p.fn, p.userData);
}
Task task_from(const CUDA_BATCH_MEM_OP_NODE_PARAMS_v1& p) {
  require(p.paramArray && p.count && p.count <= 256 && !p.flags);
  MemOpTask task;
  task.operations.assign(p.paramArray, p.paramArray + p.count);
  return task;
}

namespace {
Task child_task(CUgraph handle) {
  std::lock_guard guard(state().submit_lock);
  return ChildGraphTask{graph_of(handle)->copy()};
}
Task alloc_task(const CUmemPoolProps& properties, size_t bytes, CUdeviceptr* out) {
  require(bytes && properties.location.type == CU_MEM_LOCATION_TYPE_DEVICE);
  Context& context = current_context();
  require(device_at(properties.location.id).ordinal == context.device, CUDA_ERROR_NOT_SUPPORTED);
  AllocTask task = make_alloc_task(context, bytes);
  *out = task.what.dptr;
  return task;
}
Task free_task(CUdeviceptr address) {
  std::lock_guard guard(state().memory_lock);
  const Allocation* a = allocation_at(address);
  require(a && a->address == address && a->graph_owned);
  return FreeTask{address};
}
}  // namespace

Task task_from(CUgraphNodeParams& p) {
  switch (p.type) {
    case CU_GRAPH_NODE_TYPE_KERNEL: {
      return task_from(CUDA_KERNEL_NODE_PARAMS_v2{
          p.kernel.func, p.kernel.gridDimX, p.kernel.gridDimY, p.kernel.gridDimZ,
          p.kernel.blockDimX, p.kernel.blockDimY, p.kernel.blockDimZ, p.kernel.sharedMemBytes,
          p.kernel.kernelParams, p.kernel.extra, p.kernel.kern, p.kernel.ctx});
    }
    case CU_GRAPH_NODE_TYPE_MEMCPY:
      return task_from(p.memcpy.copyParams);
    case CU_GRAPH_NODE_TYPE_MEMSET:
      return task_from(CUDA_MEMSET_NODE_PARAMS{p.memset.dst, p.memset.pitch, p.memset.value,
                                               p.memset.elementSize, p.memset.width,
                                               p.memset.height});
    case CU_GRAPH_NODE_TYPE_HOST:
      return task_from(CUDA_HOST_NODE_PARAMS_v1{p.host.fn, p.host.userData});
    case CU_GRAPH_NODE_TYPE_GRAPH:
      return child_task(p.graph.graph);
    case CU_GRAPH_NODE_TYPE_EMPTY:
      return EmptyTask{};
    case CU_GRAPH_NODE_TYPE_WAIT_EVENT:
      return EventWaitTask{event_of(p.eventWait.event)};
    case CU_GRAPH_NODE_TYPE_EVENT_RECORD:
      return EventRecordTask{event_of(p.eventRecord.event)};
    case CU_GRAPH_NODE_TYPE_MEM_ALLOC:
      return alloc_task(p.alloc.poolProps, p.alloc.bytesize, &p.alloc.dptr);
    case CU_GRAPH_NODE_TYPE_MEM_FREE:
      return free_task(p.free.dptr);
    case CU_GRAPH_NODE_TYPE_BATCH_MEM_OP:
      return task_from(CUDA_BATCH_MEM_OP_NODE_PARAMS_v1{p.memOp.ctx, p.memOp.count,
                                                        p.memOp.paramArray, p.memOp.flags});
    default:
      fail(CUDA_ERROR_NOT_SUPPORTED);
  }
}

namespace {

CUresult add(CUgraphNode* out, CUgraph handle, const CUgraphNode* dependencies, size_t count,
             Task task) {
  require(out);
  note_places(task);
  std::lock_guard guard(state().submit_lock);
  std::shared_ptr<Graph> graph = graph_of(handle);
  *out = handle_of(graph->add(std::move(task), nodes_of(*graph, dependencies, count)));
  return CUDA_SUCCESS;
}
// A change of parameters keeps the kind of the node.
CUresult change(CUgraphNode handle, Task task) {
  note_places(task);
  std::lock_guard guard(state().submit_lock);
  Node& node = node_of(handle);
  require(node.task.index() == task.index());
  node.task = std::move(task);
  return CUDA_SUCCESS;
}

// The context that copies and memsets name is not looked at: all see the same memory here.
template <class Params, class... Context>
CUresult add_from(Call&, CUgraphNode* out, CUgraph graph, const CUgraphNode* after, size_t count,
                  const Params* p, Context...) {
  require(p);
  return add(out, graph, after, count, task_from(*p));
}
constexpr auto add_memcpy = add_from<CUDA_MEMCPY3D, CUcontext>;
constexpr auto add_memset = add_from<CUDA_MEMSET_NODE_PARAMS, CUcontext>;

CUresult add_empty(Call&, CUgraphNode* out, CUgraph graph, const CUgraphNode* after, size_t count) {
  return add(out, graph, after, count, EmptyTask{});
}
CUresult add_child(Call&, CUgraphNode* out, CUgraph graph, const CUgraphNode* after, size_t count,
                   CUgraph child) {
  return add(out, graph, after, count, child_task(child));
}
template <class Kind>
CUresult add_event(Call&, CUgraphNode* out, CUgraph graph, const CUgraphNode* after, size_t count,
                   CUevent event) {
  return add(out, graph, after, count, Kind{event_of(event)});
}
CUresult add_alloc(Call&, CUgraphNode* out, CUgraph graph, const CUgraphNode* after, size_t count,
                   CUDA_MEM_ALLOC_NODE_PARAMS* p) {
  require(p);
  return add(out, graph, after, count, alloc_task(p->poolProps, p->bytesize, &p->dptr));
}
CUresult add_free(Call&, CUgraphNode* out, CUgraph graph, const CUgraphNode* after, size_t count,
                  CUdeviceptr address) {
  return add(out, graph, after, count, free_task(address));
}
CUresult add_node_v2(Call&, CUgraphNode* out, CUgraph graph, const CUgraphNode* after,
                     const CUgraphEdgeData*, size_t count, CUgraphNodeParams* p) {
  require(p);
  return add(out, graph, after, count, task_from(*p));
}
CUresult add_node(Call& c, CUgraphNode* out, CUgraph graph, const CUgraphNode* after, size_t count,
                  CUgraphNodeParams* p) {
  return add_node_v2(c, out, graph, after, nullptr, count, p);
}

// The pointers stay valid as long as the node does and is not changed.
template <class Params>
CUresult kernel_get_params(Call&, CUgraphNode handle, Params* out) {
  require(out);
  std::lock_guard guard(state().submit_lock);
  Node& node = node_of(handle);
  KernelTask& task = part<KernelTask>(node);
  node.param_pointers.clear();
  for (const Param& param : task.kernel->params)
    node.param_pointers.push_back(task.params.data() + param.offset);
  *out = {};
  out->func = static_cast<CUfunction>(task.handle);
  if (is_kernel_handle(out->func)) {
    const auto kernel = reinterpret_cast<CUkernel>(out->func);
    if constexpr (requires { out->kern; }) {
      out->func = nullptr;
      out->kern = kernel;
    } else {
      out->func = function_of_kernel(kernel);
    }
  }
  out->gridDimX = task.grid[0];
  out->gridDimY = task.grid[1];
  out->gridDimZ = task.grid[2];
  out->blockDimX = task.block[0];
  out->blockDimY = task.block[1];
  out->blockDimZ = task.block[2];
  out->sharedMemBytes = task.shared_bytes;
  out->kernelParams = node.param_pointers.data();
  return CUDA_SUCCESS;
}
template <class Params>
CUresult change_from(Call&, CUgraphNode node, const Params* p) {
  require(p);
  return change(node, task_from(*p));
}
CUresult kernel_get_attribute(Call&, CUgraphNode handle, CUkernelNodeAttrID,
                              CUkernelNodeAttrValue* out) {
  require(out);
  std::lock_guard guard(state().submit_lock);
  part<KernelTask>(node_of(handle));
  *out = {};
  return CUDA_SUCCESS;
}
CUresult kernel_set_attribute(Call&, CUgraphNode handle, CUkernelNodeAttrID,
                              const CUkernelNodeAttrValue* value) {
  require(value);
  std::lock_guard guard(state().submit_lock);
  part<KernelTask>(node_of(handle));
  return CUDA_SUCCESS;
}

// Of the kinds whose task holds what they were made from.
template <class Kind>
CUresult get_params(Call&, CUgraphNode handle, decltype(Kind::what)* out) {
  require(out);
  std::lock_guard guard(state().submit_lock);
  *out = part<Kind>(node_of(handle)).what;
  return CUDA_SUCCESS;
}
CUresult host_get_params(Call&, CUgraphNode handle, CUDA_HOST_NODE_PARAMS_v1* out) {
  require(out);
  std::lock_guard guard(state().submit_lock);
  const HostTask& task = part<HostTask>(node_of(handle));
  *out = {task.fn, task.user_data};
  return CUDA_SUCCESS;
}
CUresult memop_get_params(Call&, CUgraphNode handle, CUDA_BATCH_MEM_OP_NODE_PARAMS_v1* out) {
  require(out);
  std::lock_guard guard(state().submit_lock);
  MemOpTask& task = part<MemOpTask>(node_of(handle));
  *out = {};
  out->count = static_cast<unsigned>(task.operations.size());
  out->paramArray = task.operations.data();
  return CUDA_SUCCESS;
}
CUresult child_get_graph(Call&, CUgraphNode handle, CUgraph* out) {
  require(out);
  std::lock_guard guard(state().submit_lock);
  *out = reinterpret_cast<CUgraph>(part<ChildGraphTask>(node_of(handle)).graph.get());
  return CUDA_SUCCESS;
}
template <class Kind>
CUresult get_event(Call&, CUgraphNode handle, CUevent* out) {
  require(out);
  std::lock_guard guard(state().submit_lock);
  *out = reinterpret_cast<CUevent>(part<Kind>(node_of(handle)).event.get());
  return CUDA_SUCCESS;
}
template <class Kind>
CUresult set_event(Call&, CUgraphNode node, CUevent event) {
  return change(node, Kind{event_of(event)});
}
CUresult free_get_params(Call&, CUgraphNode handle, CUdeviceptr* out) {
  require(out);
  std::lock_guard guard(state().submit_lock);
  *out = part<FreeTask>(node_of(handle)).address;
  return CUDA_SUCCESS;
}
CUresult node_set_params(Call&, CUgraphNode node, CUgraphNodeParams* p) {
  require(p && p->type != CU_GRAPH_NODE_TYPE_MEM_ALLOC);
  return change(node, task_from(*p));
}

}  // namespace
}  // namespace flexlom::sim

using namespace flexlom::sim;
SIM_EXPORT(cuGraphAddKernelNode, add_from<CUDA_KERNEL_NODE_PARAMS_v1>);
SIM_EXPORT(cuGraphAddKernelNode_v2, add_from<CUDA_KERNEL_NODE_PARAMS_v2>);
SIM_EXPORT(cuGraphAddMemcpyNode, add_memcpy);
SIM_EXPORT(cuGraphAddMemsetNode, add_memset);
SIM_EXPORT(cuGraphAddHostNode, add_from<CUDA_HOST_NODE_PARAMS_v1>);
SIM_EXPORT(cuGraphAddBatchMemOpNode, add_from<CUDA_BATCH_MEM_OP_NODE_PARAMS_v1>);
SIM_EXPORT(cuGraphAddEmptyNode, add_empty);
SIM_EXPORT(cuGraphAddChildGraphNode, add_child);
SIM_EXPORT(cuGraphAddEventRecordNode, add_event<EventRecordTask>);
SIM_EXPORT(cuGraphAddEventWaitNode, add_event<EventWaitTask>);
SIM_EXPORT(cuGraphAddMemAllocNode, add_alloc);
SIM_EXPORT(cuGraphAddMemFreeNode, add_free);
SIM_EXPORT(cuGraphAddNode, add_node);
SIM_EXPORT(cuGraphAddNode_v2, add_node_v2);
SIM_EXPORT(cuGraphKernelNodeGetParams, kernel_get_params<CUDA_KERNEL_NODE_PARAMS_v1>);
SIM_EXPORT(cuGraphKernelNodeGetParams_v2, kernel_get_params<CUDA_KERNEL_NODE_PARAMS_v2>);
SIM_EXPORT(cuGraphKernelNodeSetParams, change_from<CUDA_KERNEL_NODE_PARAMS_v1>);
SIM_EXPORT(cuGraphKernelNodeSetParams_v2, change_from<CUDA_KERNEL_NODE_PARAMS_v2>);
SIM_EXPORT(cuGraphKernelNodeGetAttribute, kernel_get_attribute);
SIM_EXPORT(cuGraphKernelNodeSetAttribute, kernel_set_attribute);
SIM_EXPORT(cuGraphMemcpyNodeGetParams, get_params<CopyTask>);
SIM_EXPORT(cuGraphMemcpyNodeSetParams, change_from<CUDA_MEMCPY3D>);
SIM_EXPORT(cuGraphMemsetNodeGetParams, get_params<MemsetTask>);
SIM_EXPORT(cuGraphMemsetNodeSetParams, change_from<CUDA_MEMSET_NODE_PARAMS>);
SIM_EXPORT(cuGraphHostNodeGetParams, host_get_params);
SIM_EXPORT(cuGraphHostNodeSetParams, change_from<CUDA_HOST_NODE_PARAMS_v1>);
SIM_EXPORT(cuGraphBatchMemOpNodeGetParams, memop_get_params);
SIM_EXPORT(cuGraphBatchMemOpNodeSetParams, change_from<CUDA_BATCH_MEM_OP_NODE_PARAMS_v1>);
SIM_EXPORT(cuGraphChildGraphNodeGetGraph, child_get_graph);
SIM_EXPORT(cuGraphEventRecordNodeGetEvent, get_event<EventRecordTask>);
SIM_EXPORT(cuGraphEventRecordNodeSetEvent, set_event<EventRecordTask>);
SIM_EXPORT(cuGraphEventWaitNodeGetEvent, get_event<EventWaitTask>);
SIM_EXPORT(cuGraphEventWaitNodeSetEvent, set_event<EventWaitTask>);
SIM_EXPORT(cuGraphMemAllocNodeGetParams, get_params<AllocTask>);
SIM_EXPORT(cuGraphMemFreeNodeGetParams, free_get_params);
SIM_EXPORT(cuGraphNodeSetParams, node_set_params);
