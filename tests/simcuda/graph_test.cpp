#include "tests/simcuda/testing.hpp"

#include "kernels/testing_host.h"

using namespace testing;

namespace {
struct FillNode {
  CUdeviceptr address;
  uint64_t words;
  uint32_t seed;
  void* list[3] = {&address, &words, &seed};
  CUDA_KERNEL_NODE_PARAMS params{};
  FillNode(const Session& session, CUdeviceptr a, uint64_t w, uint32_t s)
      : address(a), words(w), seed(s) {
    params.func = session.function("flex_fill");
    params.gridDimX = params.gridDimY = params.gridDimZ = 1;
    params.blockDimX = params.blockDimY = params.blockDimZ = 1;
    params.kernelParams = list;
  }
};
uint32_t first_word(CUdeviceptr from) {
  uint32_t value = 0;
  REQUIRE_OK(cuMemcpyDtoH(&value, from, 4));
  return value;
}
}  // namespace

TEST_CASE("a graph of kernel, copy, memset, host and empty nodes") {
  Session session;
  Memory a(4096), b(4096);
  CUgraph graph = nullptr;
  REQUIRE_OK(cuGraphCreate(&graph, 0));
  CUgraphNode fill = nullptr, copy = nullptr, set = nullptr, host = nullptr, empty = nullptr;
  FillNode params(session, a.address, 1024, 11);
  CHECK_OK(cuGraphAddEmptyNode(&empty, graph, nullptr, 0));
  CHECK_OK(cuGraphAddKernelNode(&fill, graph, &empty, 1, &params.params));
  CUDA_MEMCPY3D what{};
  what.srcMemoryType = what.dstMemoryType = CU_MEMORYTYPE_DEVICE;
  what.srcDevice = a.address;
  what.dstDevice = b.address;
  what.WidthInBytes = 4096;
  what.Height = what.Depth = 1;
  CHECK_OK(cuGraphAddMemcpyNode(&copy, graph, &fill, 1, &what, session.context));
  CUDA_MEMSET_NODE_PARAMS value{a.address, 0, 5, 4, 1, 1};
  CHECK_OK(cuGraphAddMemsetNode(&set, graph, &copy, 1, &value, session.context));
  int called = 0;
  CUDA_HOST_NODE_PARAMS call{[](void* data) { ++*static_cast<int*>(data); }, &called};
  CHECK_OK(cuGraphAddHostNode(&host, graph, &set, 1, &call));

  CUgraphNodeType type{};
  CHECK_OK(cuGraphNodeGetType(copy, &type));
  CHECK(type == CU_GRAPH_NODE_TYPE_MEMCPY);
  size_t count = 0;
  CHECK_OK(cuGraphGetRootNodes(graph, nullptr, &count));
  CHECK(count == 1);
  CHECK_OK(cuGraphGetEdges(graph, nullptr, nullptr, nullptr, &count));
  CHECK(count == 4);
  CUgraphNode nodes[8] = {};
  count = 8;
  CHECK_OK(cuGraphGetNodes(graph, nodes, &count));
  CHECK(count == 5);
  CHECK(nodes[1] == fill);
  CUDA_KERNEL_NODE_PARAMS got{};
  CHECK_OK(cuGraphKernelNodeGetParams(fill, &got));
  CHECK(got.func == params.params.func);
  CHECK(*static_cast<CUdeviceptr*>(got.kernelParams[0]) == a.address);
  CHECK(*static_cast<uint32_t*>(got.kernelParams[2]) == 11);
  CHECK(cuGraphKernelNodeGetParams(copy, &got) == CUDA_ERROR_INVALID_VALUE);

  CUgraphExec exec = nullptr;
  REQUIRE_OK(cuGraphInstantiate(&exec, graph, 0));
  CHECK_OK(cuGraphLaunch(exec, nullptr));
  CHECK_OK(cuStreamSynchronize(nullptr));
  CHECK(first_word(b.address) == flexlom_testing_hash(11, 0));
  CHECK(first_word(a.address) == 5);
  CHECK(called == 1);

  SECTION("parameters of the executable graph change alone") {
    FillNode other(session, a.address, 1024, 12);
    CHECK_OK(cuGraphExecKernelNodeSetParams(exec, fill, &other.params));
    CHECK_OK(cuGraphNodeSetEnabled(exec, set, 0));
    CHECK_OK(cuGraphLaunch(exec, nullptr));
    CHECK(first_word(b.address) == flexlom_testing_hash(12, 0));
    CHECK(first_word(a.address) == flexlom_testing_hash(12, 0));
    CHECK_OK(cuGraphKernelNodeGetParams(fill, &got));
    CHECK(*static_cast<uint32_t*>(got.kernelParams[2]) == 11);
  }
  SECTION("an update with the same shape is taken, another is refused") {
    CUgraph clone = nullptr;
    CUgraphNode twin = nullptr;
    REQUIRE_OK(cuGraphClone(&clone, graph));
    CHECK_OK(cuGraphNodeFindInClone(&twin, fill, clone));
    FillNode other(session, a.address, 1024, 13);
    CHECK_OK(cuGraphKernelNodeSetParams(twin, &other.params));
    CUgraphExecUpdateResultInfo info{};
    CHECK_OK(cuGraphExecUpdate(exec, clone, &info));
    CHECK_OK(cuGraphLaunch(exec, nullptr));
    CHECK(first_word(b.address) == flexlom_testing_hash(13, 0));
    CHECK_OK(cuGraphAddEmptyNode(&empty, clone, nullptr, 0));
    CHECK(cuGraphExecUpdate(exec, clone, &info) == CUDA_ERROR_GRAPH_EXEC_UPDATE_FAILURE);
    CHECK(info.result == CU_GRAPH_EXEC_UPDATE_ERROR_TOPOLOGY_CHANGED);
    CHECK_OK(cuGraphDestroy(clone));
  }
  SECTION("as a child of another graph") {
    CUgraph outer = nullptr;
    CUgraphNode child = nullptr;
    CUgraphExec both = nullptr;
    REQUIRE_OK(cuGraphCreate(&outer, 0));
    CHECK_OK(cuGraphAddChildGraphNode(&child, outer, nullptr, 0, graph));
    REQUIRE_OK(cuGraphInstantiate(&both, outer, 0));
    CHECK_OK(cuGraphLaunch(both, nullptr));
    CHECK_OK(cuStreamSynchronize(nullptr));
    CHECK(called == 2);
    CHECK_OK(cuGraphExecDestroy(both));
    CHECK_OK(cuGraphDestroy(outer));
  }
  CHECK_OK(cuGraphExecDestroy(exec));
  CHECK(cuGraphLaunch(exec, nullptr) == CUDA_ERROR_INVALID_VALUE);
  CHECK_OK(cuGraphDestroy(graph));
  CHECK(cuGraphDestroy(graph) == CUDA_ERROR_INVALID_VALUE);
  CHECK_OK(cuCtxSynchronize());
}

TEST_CASE("edges can be added and removed, cycles cannot run") {
  Session session;
  CUgraph graph = nullptr;
  CUgraphNode a = nullptr, b = nullptr;
  REQUIRE_OK(cuGraphCreate(&graph, 0));
  CHECK_OK(cuGraphAddEmptyNode(&a, graph, nullptr, 0));
  CHECK_OK(cuGraphAddEmptyNode(&b, graph, &a, 1));
  CHECK_OK(cuGraphAddDependencies(graph, &b, &a, nullptr, 1));
  CUgraphExec exec = nullptr;
  CHECK(cuGraphInstantiate(&exec, graph, 0) == CUDA_ERROR_INVALID_VALUE);
  CHECK_OK(cuGraphRemoveDependencies(graph, &b, &a, nullptr, 1));
  CHECK(cuGraphRemoveDependencies(graph, &b, &a, nullptr, 1) == CUDA_ERROR_INVALID_VALUE);
  CHECK_OK(cuGraphInstantiate(&exec, graph, 0));
  CHECK_OK(cuGraphExecDestroy(exec));
  CHECK_OK(cuGraphDestroyNode(a));
  CHECK(cuGraphDestroyNode(a) == CUDA_ERROR_INVALID_VALUE);
  size_t count = 9;
  CHECK_OK(cuGraphNodeGetDependencies(b, nullptr, nullptr, &count));
  CHECK(count == 0);
  CHECK_OK(cuGraphDestroy(graph));
}

TEST_CASE("memory nodes keep their memory as long as a graph holds them") {
  Session session;
  CUgraph graph = nullptr;
  REQUIRE_OK(cuGraphCreate(&graph, 0));
  CUDA_MEM_ALLOC_NODE_PARAMS params{};
  params.poolProps.allocType = CU_MEM_ALLOCATION_TYPE_PINNED;
  params.poolProps.location = {CU_MEM_LOCATION_TYPE_DEVICE, 0};
  params.bytesize = 4u << 20;
  CUgraphNode alloc = nullptr, free_node = nullptr;
  REQUIRE_OK(cuGraphAddMemAllocNode(&alloc, graph, nullptr, 0, &params));
  CHECK(params.dptr != 0);
  CHECK_OK(cuGraphAddMemFreeNode(&free_node, graph, &alloc, 1, params.dptr));
  CHECK(simcuda_device_bytes(0) == 4u << 20);
  CUgraphExec exec = nullptr;
  REQUIRE_OK(cuGraphInstantiate(&exec, graph, 0));
  CHECK_OK(cuGraphDestroy(graph));
  CHECK_OK(cuGraphLaunch(exec, nullptr));
  CHECK_OK(cuStreamSynchronize(nullptr));
  CHECK(simcuda_device_bytes(0) == 4u << 20);
  CHECK_OK(cuGraphExecDestroy(exec));
  CHECK_OK(cuCtxSynchronize());
  CHECK(simcuda_device_bytes(0) == 0);
}

TEST_CASE("memory that a graph leaves allocated is freed by the program before the next launch") {
  Session session;
  Stream stream;
  CUdeviceptr p = 0;
  CUgraph graph = nullptr;
  CUgraphExec exec = nullptr;
  REQUIRE_OK(cuStreamBeginCapture(stream.handle, CU_STREAM_CAPTURE_MODE_GLOBAL));
  CHECK_OK(cuMemAllocAsync(&p, 1u << 20, stream.handle));
  REQUIRE_OK(cuStreamEndCapture(stream.handle, &graph));
  REQUIRE_OK(cuGraphInstantiate(&exec, graph, 0));
  CHECK_OK(cuGraphDestroy(graph));
  CHECK(cuMemFreeAsync(p, stream.handle) == CUDA_ERROR_INVALID_VALUE);
  CHECK_OK(cuGraphLaunch(exec, stream.handle));
  CHECK(cuGraphLaunch(exec, stream.handle) == CUDA_ERROR_INVALID_VALUE);
  CHECK_OK(cuMemFreeAsync(p, stream.handle));
  CHECK_OK(cuGraphLaunch(exec, stream.handle));
  CHECK_OK(cuStreamSynchronize(stream.handle));
  CHECK_OK(cuGraphExecDestroy(exec));
  CHECK(simcuda_device_bytes(0) == kPage);
  CHECK_OK(cuMemFree(p));
  CHECK(simcuda_device_bytes(0) == 0);
}
