// Executable graphs: through the hooks, on the simulated driver.
#include <algorithm>
#include <cstring>
#include <map>

#include "interpose/heat/range.h"
#include "tests/heat/testing.h"

namespace own = flexlom::own;

namespace testing {
namespace {

// Real memory that counts as the pool's.
class PoolMemory {
 public:
  explicit PoolMemory(size_t offset, size_t bytes = 2 * kMiB) : bytes_(bytes) {
    REQUIRE_OK(cuMemAddressReserve(&at, bytes, 0, kPool + offset, 0));
    flexlom::heat::note_range(at, bytes);  // a driver is free to give another address than the hint
    CUmemAllocationProp prop = {};
    prop.type = CU_MEM_ALLOCATION_TYPE_PINNED;
    prop.location.type = CU_MEM_LOCATION_TYPE_DEVICE;
    CUmemAccessDesc access = {prop.location, CU_MEM_ACCESS_FLAGS_PROT_READWRITE};
    REQUIRE_OK(cuMemCreate(&handle_, bytes, &prop, 0));
    REQUIRE_OK(cuMemMap(at, bytes, 0, handle_, 0));
    REQUIRE_OK(cuMemSetAccess(at, bytes, &access, 1));
  }
  ~PoolMemory() {
    CHECK_OK(cuMemUnmap(at, bytes_));
    CHECK_OK(cuMemRelease(handle_));
    CHECK_OK(cuMemAddressFree(at, bytes_));
  }
  PoolMemory(const PoolMemory&) = delete;
  CUdeviceptr at = 0;

 private:
  const size_t bytes_;
  CUmemGenericAllocationHandle handle_ = 0;
};

struct Graph {
  CUgraph handle = nullptr;
  Graph() { REQUIRE_OK(cuGraphCreate(&handle, 0)); }
  ~Graph() { CHECK_OK(own::cuGraphDestroy(handle)); }
  Graph(const Graph&) = delete;
};

// The parameters of a fill of some memory, which they must outlive.
struct Fill {
  CUdeviceptr to;
  uint64_t count = 16;
  uint32_t seed = 1;
  void* list[3] = {&to, &count, &seed};
  explicit Fill(CUdeviceptr p) : to(p) {}
  Fill(const Fill&) = delete;
  CUDA_KERNEL_NODE_PARAMS_v2 node(CUfunction f) {
    return {f, 1, 1, 1, 32, 1, 1, 0, list, nullptr, nullptr, nullptr};
  }
  // A node tells the two kinds of handle apart, where a launch takes either for a function.
  CUDA_KERNEL_NODE_PARAMS_v2 kernel_node(CUfunction k) {
    CUDA_KERNEL_NODE_PARAMS_v2 params = node(nullptr);
    params.kern = reinterpret_cast<CUkernel>(k);
    return params;
  }
};

CUDA_MEMCPY3D copy_of(CUdeviceptr to, CUdeviceptr from) {
  CUDA_MEMCPY3D c = {};
  c.srcMemoryType = c.dstMemoryType = CU_MEMORYTYPE_DEVICE;
  c.srcDevice = from;
  c.dstDevice = to;
  c.WidthInBytes = 64;
  c.Height = c.Depth = 1;
  return c;
}
CUDA_MEMSET_NODE_PARAMS set_of(CUdeviceptr to) { return {to, 0, 0, 4, 16, 1}; }

CUgraphNode add_fill(CUgraph graph, const CUDA_KERNEL_NODE_PARAMS_v2& params) {
  CUgraphNode node = nullptr;
  REQUIRE_OK(cuGraphAddKernelNode_v2(&node, graph, nullptr, 0, &params));
  return node;
}
CUgraphNode add_function(CUgraph graph, CUfunction f, CUdeviceptr to) {
  Fill fill(to);
  return add_fill(graph, fill.node(f));
}
CUgraphNode add_kernel(CUgraph graph, CUfunction kernel, CUdeviceptr to) {
  Fill fill(to);
  return add_fill(graph, fill.kernel_node(kernel));
}

struct Exec {
  CUgraphExec handle = nullptr;
  explicit Exec(CUgraph graph) { REQUIRE_OK(own::cuGraphInstantiateWithFlags(&handle, graph, 0)); }
  ~Exec() { CHECK_OK(own::cuGraphExecDestroy(handle)); }
  Exec(const Exec&) = delete;
};

// Where a driver puts one block after the other is its own affair.
Words ascending(Words words) {
  std::sort(words.begin(), words.end());
  return words;
}

Words named_by(CUgraphExec exec, bool complete = true) {
  Named named;
  flexlom::heat::names(Entry::cuGraphLaunch, named, exec, CUstream{});
  CHECK(named.function == exec);
  CHECK(named.unknown != complete);
  CHECK(named.count == 0);
  return words_of(named);
}

}  // namespace

TEST_CASE("a graph names what its nodes name, once") {
  Session session;
  PoolMemory a(64 * kMiB), b(66 * kMiB), c(70 * kMiB), d(80 * kMiB);
  Graph graph;
  add_function(graph.handle, session.function("flex_fill"), a.at + 512);
  add_kernel(graph.handle, session.kernel("flex_fill"), a.at + 512);
  CUgraphNode node = nullptr;
  const CUDA_MEMCPY3D copy = copy_of(b.at, c.at + 64);
  REQUIRE_OK(cuGraphAddMemcpyNode(&node, graph.handle, nullptr, 0, &copy, session.context));
  const CUDA_MEMSET_NODE_PARAMS set = set_of(c.at + 128);
  REQUIRE_OK(cuGraphAddMemsetNode(&node, graph.handle, nullptr, 0, &set, session.context));
  CUstreamBatchMemOpParams operation = {};
  operation.writeValue = {CU_STREAM_MEM_OP_WRITE_VALUE_32, d.at, {7}, 0, 0};
  const CUDA_BATCH_MEM_OP_NODE_PARAMS operations = {session.context, 1, &operation, 0};
  REQUIRE_OK(cuGraphAddBatchMemOpNode(&node, graph.handle, nullptr, 0, &operations));
  REQUIRE_OK(cuGraphAddEmptyNode(&node, graph.handle, nullptr, 0));
  const CUDA_HOST_NODE_PARAMS host = {[](void*) {}, nullptr};
  REQUIRE_OK(cuGraphAddHostNode(&node, graph.handle, nullptr, 0, &host));
  const Words expected = ascending({a.at + 512, b.at, c.at + 64, d.at});

  CUgraphExec execs[5] = {};
  CUDA_GRAPH_INSTANTIATE_PARAMS params = {};
  REQUIRE_OK(own::cuGraphInstantiate(&execs[0], graph.handle, nullptr, nullptr, 0));
  REQUIRE_OK(own::cuGraphInstantiate_v2(&execs[1], graph.handle, nullptr, nullptr, 0));
  REQUIRE_OK(own::cuGraphInstantiateWithFlags(&execs[2], graph.handle, 0));
  REQUIRE_OK(own::cuGraphInstantiateWithParams(&execs[3], graph.handle, &params));
  REQUIRE_OK(own::cuGraphInstantiateWithParams_ptsz(&execs[4], graph.handle, &params));
  for (const CUgraphExec exec : execs) {
    CHECK(named_by(exec) == expected);
    CHECK_OK(own::cuGraphExecDestroy(exec));
    CHECK(named_by(exec, false).empty());  // gone
  }
}

TEST_CASE("of a granule one word is kept, and the word at its start") {
  Session session;
  PoolMemory a(64 * kMiB, 4 * kMiB);
  Graph graph;
  const CUfunction f = session.function("flex_fill");
  for (const size_t offset : {size_t{0}, size_t{512}, size_t{1024}, 2 * kMiB, 3 * kMiB})
    add_function(graph.handle, f, a.at + offset);
  Exec exec(graph.handle);
  CHECK(named_by(exec.handle) == ascending({a.at, a.at + 512, a.at + 2 * kMiB, a.at + 3 * kMiB}));
}

TEST_CASE("how many nodes name it, and how many name anything") {
  Session session;
  PoolMemory a(64 * kMiB, 4 * kMiB), b(70 * kMiB);
  Graph graph;
  const CUfunction f = session.function("flex_fill");
  for (const size_t offset : {size_t{512}, size_t{0}, size_t{1024}, 3 * kMiB, size_t{512}})
    add_function(graph.handle, f, a.at + offset);
  add_function(graph.handle, f, b.at);
  CUgraphNode node = nullptr;
  REQUIRE_OK(cuGraphAddEmptyNode(&node, graph.handle, nullptr, 0));
  Exec exec(graph.handle);
  Named named;
  flexlom::heat::names(Entry::cuGraphLaunch, named, exec.handle, CUstream{});
  REQUIRE(named.graph != nullptr);
  CHECK(named.graph->nodes == 6);
  std::map<CUdeviceptr, unsigned> times;
  REQUIRE(named.graph->times.size() == named.graph->words.size());
  for (size_t i = 0; i < named.graph->words.size(); ++i)
    times[named.graph->words[i]] = named.graph->times[i];
  const std::map<CUdeviceptr, unsigned> expected = {
      {a.at, 1}, {a.at + 512, 3}, {a.at + 3 * kMiB, 1}, {b.at, 1}};
  CHECK(times == expected);
}

TEST_CASE("captured, in child graphs, without a context, while a capture is open") {
  Session session;
  PoolMemory a(64 * kMiB), b(66 * kMiB), c(68 * kMiB);
  CUstream stream = nullptr;
  REQUIRE_OK(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
  REQUIRE_OK(cuStreamBeginCapture_v2(stream, CU_STREAM_CAPTURE_MODE_GLOBAL));
  Fill fill(a.at);
  REQUIRE_OK(cuLaunchKernel(session.function("flex_fill"), 1, 1, 1, 32, 1, 1, 0, stream, fill.list,
                            nullptr));
  REQUIRE_OK(cuMemsetD32Async(b.at, 0, 16, stream));
  CUgraph inner = nullptr;
  REQUIRE_OK(cuStreamEndCapture(stream, &inner));

  Graph outer;
  CUgraphNode child = nullptr;
  REQUIRE_OK(cuGraphAddChildGraphNode(&child, outer.handle, nullptr, 0, inner));
  add_kernel(outer.handle, session.kernel("flex_fill"), c.at);
  CHECK_OK(own::cuGraphDestroy(inner));

  // Asked about for the first time during a capture: it must go on.
  Exec exec(outer.handle);
  flexlom::heat::forget_handles();
  REQUIRE_OK(cuStreamBeginCapture_v2(stream, CU_STREAM_CAPTURE_MODE_GLOBAL));
  REQUIRE_OK(cuCtxSetCurrent(nullptr));
  flexlom::heat::exec_made(exec.handle, outer.handle);
  CHECK(named_by(exec.handle) == ascending({a.at, b.at, c.at}));
  REQUIRE_OK(cuCtxSetCurrent(session.context));
  CUstreamCaptureStatus status = CU_STREAM_CAPTURE_STATUS_NONE;
  CHECK_OK(cuStreamIsCapturing(stream, &status));
  CHECK(status == CU_STREAM_CAPTURE_STATUS_ACTIVE);
  CUgraph unused = nullptr;
  CHECK_OK(cuStreamEndCapture(stream, &unused));
  CHECK_OK(cuGraphDestroy(unused));

  // Another child in its place.
  Graph other;
  Fill second(b.at);
  auto params = second.node(session.function("flex_fill"));
  CUgraphNode nodes[2] = {};
  REQUIRE_OK(cuGraphAddKernelNode_v2(&nodes[0], other.handle, nullptr, 0, &params));
  CUDA_MEMSET_NODE_PARAMS set = set_of(b.at);
  REQUIRE_OK(cuGraphAddMemsetNode(&nodes[1], other.handle, &nodes[0], 1, &set, session.context));
  CHECK_OK(own::cuGraphExecChildGraphNodeSetParams(exec.handle, child, other.handle));
  CHECK(named_by(exec.handle) == ascending({b.at, c.at}));
  // And once more, with the graph's nodes used by two children at a time.
  set = set_of(a.at);
  REQUIRE_OK(cuGraphMemsetNodeSetParams(nodes[1], &set));
  CUgraphNodeParams any = {};
  any.type = CU_GRAPH_NODE_TYPE_GRAPH;
  any.graph.graph = other.handle;
  CHECK_OK(own::cuGraphExecNodeSetParams(exec.handle, child, &any));
  CHECK(named_by(exec.handle) == ascending({a.at, b.at, c.at}));
  CHECK_OK(cuStreamDestroy_v2(stream));
}

TEST_CASE("changes of one node") {
  Session session;
  PoolMemory a(64 * kMiB), b(66 * kMiB), c(68 * kMiB), d(70 * kMiB);
  const CUfunction f = session.function("flex_fill");
  Graph graph;
  CUgraphNode kernel = add_function(graph.handle, f, a.at);
  CUgraphNode copying = nullptr, filling = nullptr, operating = nullptr;
  CUDA_MEMCPY3D copy = copy_of(a.at, a.at + 1024);
  REQUIRE_OK(cuGraphAddMemcpyNode(&copying, graph.handle, nullptr, 0, &copy, session.context));
  CUDA_MEMSET_NODE_PARAMS set = set_of(a.at);
  REQUIRE_OK(cuGraphAddMemsetNode(&filling, graph.handle, nullptr, 0, &set, session.context));
  CUstreamBatchMemOpParams operation = {};
  operation.writeValue = {CU_STREAM_MEM_OP_WRITE_VALUE_32, a.at, {7}, 0, 0};
  CUDA_BATCH_MEM_OP_NODE_PARAMS operations = {session.context, 1, &operation, 0};
  REQUIRE_OK(cuGraphAddBatchMemOpNode(&operating, graph.handle, nullptr, 0, &operations));
  Exec exec(graph.handle);
  Exec untouched(graph.handle);
  const Words before = {a.at, a.at + 1024};
  CHECK(named_by(exec.handle) == before);

  Fill fill(b.at);
  CUDA_KERNEL_NODE_PARAMS_v1 old = {f, 1, 1, 1, 32, 1, 1, 0, fill.list, nullptr};
  CHECK_OK(own::cuGraphExecKernelNodeSetParams(exec.handle, kernel, &old));
  CHECK(named_by(exec.handle) == ascending({a.at, a.at + 1024, b.at}));
  fill.to = c.at;
  CUDA_KERNEL_NODE_PARAMS_v2 params = fill.node(f);
  CHECK_OK(own::cuGraphExecKernelNodeSetParams_v2(exec.handle, kernel, &params));
  CHECK(named_by(exec.handle) == ascending({a.at, a.at + 1024, c.at}));
  copy = copy_of(b.at, b.at + 1024);
  CHECK_OK(own::cuGraphExecMemcpyNodeSetParams(exec.handle, copying, &copy, session.context));
  CHECK(named_by(exec.handle) == ascending({a.at, b.at, b.at + 1024, c.at}));
  set = set_of(d.at);
  CHECK_OK(own::cuGraphExecMemsetNodeSetParams(exec.handle, filling, &set, session.context));
  operation.writeValue.address = d.at + 4;
  CHECK_OK(own::cuGraphExecBatchMemOpNodeSetParams(exec.handle, operating, &operations));
  CHECK(named_by(exec.handle) == ascending({b.at, b.at + 1024, c.at, d.at, d.at + 4}));

  // The call for any kind.
  fill.to = a.at;
  CUgraphNodeParams any = {};
  any.type = CU_GRAPH_NODE_TYPE_KERNEL;
  any.kernel = {f, 1, 1, 1, 32, 1, 1, 0, fill.list, nullptr, nullptr, nullptr};
  CHECK_OK(own::cuGraphExecNodeSetParams(exec.handle, kernel, &any));
  any = {};
  any.type = CU_GRAPH_NODE_TYPE_MEMCPY;
  any.memcpy.copyParams = copy_of(a.at, a.at + 1024);
  CHECK(own::cuGraphExecNodeSetParams(exec.handle, copying, &any) == CUDA_ERROR_INVALID_VALUE);
  any.memcpy.copyCtx = session.context;
  CHECK_OK(own::cuGraphExecNodeSetParams(exec.handle, copying, &any));
  any = {};
  any.type = CU_GRAPH_NODE_TYPE_MEMSET;
  any.memset = {b.at, 0, 0, 4, 16, 1, nullptr};
  CHECK_OK(own::cuGraphExecNodeSetParams(exec.handle, filling, &any));
  CHECK(named_by(exec.handle) == ascending({a.at, a.at + 1024, b.at, d.at + 4}));

  // Refused: nothing changes.
  any.memset.dst = 0;
  CHECK(own::cuGraphExecNodeSetParams(exec.handle, kernel, &any) != CUDA_SUCCESS);
  CHECK(own::cuGraphExecMemsetNodeSetParams(exec.handle, kernel, &set, session.context) !=
        CUDA_SUCCESS);
  CHECK(named_by(exec.handle) == ascending({a.at, a.at + 1024, b.at, d.at + 4}));
  CHECK(named_by(untouched.handle) == before);
}

TEST_CASE("an update takes everything over") {
  Session session;
  PoolMemory a(64 * kMiB), b(66 * kMiB), c(68 * kMiB), d(70 * kMiB);
  const CUfunction f = session.function("flex_fill");
  Graph graph, other, different;
  const CUgraphNode node = add_function(graph.handle, f, a.at);
  add_function(graph.handle, f, a.at);
  const CUgraphNode later = add_function(other.handle, f, b.at);
  add_function(other.handle, f, c.at);
  add_function(different.handle, f, d.at);
  Exec exec(graph.handle);
  CHECK(named_by(exec.handle) == ascending({a.at}));
  CUgraphExecUpdateResultInfo info = {};
  CHECK_OK(own::cuGraphExecUpdate_v2(exec.handle, other.handle, &info));
  CHECK(named_by(exec.handle) == ascending({b.at, c.at}));
  // The nodes are still those of the graph it was instantiated from.
  Fill fill(a.at);
  const auto params = fill.node(f);
  CHECK(own::cuGraphExecKernelNodeSetParams_v2(exec.handle, later, &params) ==
        CUDA_ERROR_INVALID_VALUE);
  CHECK(named_by(exec.handle) == ascending({b.at, c.at}));
  CHECK_OK(own::cuGraphExecKernelNodeSetParams_v2(exec.handle, node, &params));
  CHECK(named_by(exec.handle) == ascending({a.at, c.at}));
  CUgraphNode error = nullptr;
  CUgraphExecUpdateResult result = CU_GRAPH_EXEC_UPDATE_SUCCESS;
  CHECK_OK(own::cuGraphExecUpdate(exec.handle, other.handle, &error, &result));
  CHECK(named_by(exec.handle) == ascending({b.at, c.at}));
  // Refused half way, perhaps: it may touch either.
  CHECK(own::cuGraphExecUpdate(exec.handle, different.handle, &error, &result) ==
        CUDA_ERROR_GRAPH_EXEC_UPDATE_FAILURE);
  CHECK(named_by(exec.handle) == ascending({b.at, c.at, d.at}));
}

TEST_CASE("what was named stays with who asked") {
  Session session;
  PoolMemory a(64 * kMiB), b(66 * kMiB);
  Graph graph;
  const CUfunction f = session.function("flex_fill");
  const CUgraphNode node = add_function(graph.handle, f, a.at);
  Named before;
  {
    Exec exec(graph.handle);
    flexlom::heat::names(Entry::cuGraphLaunch_ptsz, before, exec.handle, CUstream{});
    Fill fill(b.at);
    const auto params = fill.node(f);
    CHECK_OK(own::cuGraphExecKernelNodeSetParams_v2(exec.handle, node, &params));
    CHECK(named_by(exec.handle) == ascending({b.at}));
    Named again;
    flexlom::heat::names(Entry::cuGraphLaunch, again, exec.handle, CUstream{});
    Named once_more;
    flexlom::heat::names(Entry::cuGraphLaunch, once_more, exec.handle, CUstream{});
    CHECK(again.graph == once_more.graph);  // made once for all launches
  }
  CHECK(words_of(before) == ascending({a.at}));
}

TEST_CASE("codes are the driver's, and hostile arguments are left to it", "[simulated]") {
  Session session;
  CHECK(own::cuGraphInstantiateWithFlags(nullptr, nullptr, 0) ==
        cuGraphInstantiateWithFlags(nullptr, nullptr, 0));
  CHECK(own::cuGraphInstantiateWithParams(nullptr, nullptr, nullptr) ==
        cuGraphInstantiateWithParams(nullptr, nullptr, nullptr));
  CHECK(own::cuGraphExecDestroy(nullptr) == cuGraphExecDestroy(nullptr));
  CHECK(own::cuGraphExecUpdate_v2(nullptr, nullptr, nullptr) ==
        cuGraphExecUpdate_v2(nullptr, nullptr, nullptr));
  CHECK(own::cuGraphExecNodeSetParams(nullptr, nullptr, nullptr) ==
        cuGraphExecNodeSetParams(nullptr, nullptr, nullptr));
  CHECK(own::cuGraphExecChildGraphNodeSetParams(nullptr, nullptr, nullptr) ==
        cuGraphExecChildGraphNodeSetParams(nullptr, nullptr, nullptr));
  CHECK(own::cuGraphAddNode_v2(nullptr, nullptr, nullptr, nullptr, 0, nullptr) ==
        cuGraphAddNode_v2(nullptr, nullptr, nullptr, nullptr, 0, nullptr));
  CHECK(own::cuGraphDestroy(nullptr) == cuGraphDestroy(nullptr));
  CHECK(own::cuGraphDestroyNode(nullptr) == cuGraphDestroyNode(nullptr));
}

TEST_CASE("a destruction that the driver refuses forgets nothing; a library at rest does nothing") {
  Session session;
  PoolMemory a(64 * kMiB);
  Graph graph;
  add_function(graph.handle, session.function("flex_fill"), a.at);
  Exec exec(graph.handle);
  {
    Replaced refusing(Entry::cuGraphExecDestroy, reinterpret_cast<void*>(+[](CUgraphExec) {
                        return CUDA_ERROR_INVALID_VALUE;
                      }));
    CHECK(own::cuGraphExecDestroy(exec.handle) == CUDA_ERROR_INVALID_VALUE);
  }
  CHECK(named_by(exec.handle) == ascending({a.at}));
  arm(false);
  CUgraphExec unseen = nullptr;
  CHECK_OK(own::cuGraphInstantiateWithFlags(&unseen, graph.handle, 0));
  arm(true);
  CHECK(named_by(unseen, false).empty());
  CHECK_OK(own::cuGraphExecDestroy(unseen));
}

// A driver with conditional nodes, made of the simulated one's empty nodes.
namespace {
CUgraph bodies[2] = {};
CUgraphNode conditional_node = nullptr;
CUresult add_conditional(CUgraphNode* node, CUgraph graph, const CUgraphNode* after,
                         const CUgraphEdgeData*, size_t count, CUgraphNodeParams* params) {
  const CUresult r = cuGraphAddEmptyNode(node, graph, after, count);
  for (CUgraph& body : bodies) cuGraphCreate(&body, 0);
  params->conditional.phGraph_out = bodies;
  conditional_node = *node;
  return r;
}
CUresult type_of(CUgraphNode node, CUgraphNodeType* type) {
  const CUresult r = cuGraphNodeGetType(node, type);
  if (node == conditional_node) *type = CU_GRAPH_NODE_TYPE_CONDITIONAL;
  return r;
}
}  // namespace

TEST_CASE("bodies of conditional nodes") {
  Session session;
  PoolMemory a(64 * kMiB), b(66 * kMiB);
  const CUfunction f = session.function("flex_fill");
  CUgraph graph = nullptr;
  REQUIRE_OK(cuGraphCreate(&graph, 0));
  CUgraphNode node = nullptr;
  CUgraphNodeParams params = {};
  params.type = CU_GRAPH_NODE_TYPE_CONDITIONAL;
  params.conditional.type = CU_GRAPH_COND_TYPE_IF;
  params.conditional.size = 2;
  Replaced type(Entry::cuGraphNodeGetType, reinterpret_cast<void*>(&type_of));
  {
    Replaced add(Entry::cuGraphAddNode_v2, reinterpret_cast<void*>(&add_conditional));
    REQUIRE_OK(own::cuGraphAddNode_v2(&node, graph, nullptr, nullptr, 0, &params));
  }
  // Filled after the node was made, as programs do.
  add_function(bodies[0], f, a.at);
  add_function(bodies[1], f, b.at);
  {
    Exec exec(graph);
    CHECK(named_by(exec.handle) == ascending({a.at, b.at}));
  }
  SECTION("a node that is gone") {
    flexlom::heat::node_destroying(node);
    Exec exec(graph);
    CHECK(named_by(exec.handle, false).empty());
  }
  SECTION("a graph that is gone") {
    flexlom::heat::graph_destroying(graph);
    Exec exec(graph);
    CHECK(named_by(exec.handle, false).empty());
  }
  SECTION("made where nobody looked") {
    arm(false);
    {
      Replaced add(Entry::cuGraphAddNode_v2, reinterpret_cast<void*>(&add_conditional));
      CUgraph old[2] = {bodies[0], bodies[1]};
      REQUIRE_OK(own::cuGraphAddNode_v2(&node, graph, nullptr, nullptr, 0, &params));
      for (const CUgraph g : old) cuGraphDestroy(g);
    }
    arm(true);
    Exec exec(graph);
    CHECK(named_by(exec.handle, false).empty());
  }
  CHECK_OK(own::cuGraphDestroy(graph));
  for (const CUgraph body : bodies) CHECK_OK(own::cuGraphDestroy(body));
  conditional_node = nullptr;
}

}  // namespace testing
