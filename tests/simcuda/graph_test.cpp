#include "tests/simcuda/testing.hpp"

#include <algorithm>
#include <string>

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

namespace {
// Addresses whose memory can be changed.
class Pages {
 public:
  static constexpr size_t kBytes = 2 * kPage;
  Pages() {
    CUmemAllocationProp properties{};
    properties.type = CU_MEM_ALLOCATION_TYPE_PINNED;
    REQUIRE_OK(cuMemAddressReserve(&address, kBytes, kPage, 0, 0));
    for (size_t i = 0; i < 2; ++i) {
      properties.location = {CU_MEM_LOCATION_TYPE_DEVICE, 0};
      REQUIRE_OK(cuMemCreate(&device_[i], kPage, &properties, 0));
      properties.location = {CU_MEM_LOCATION_TYPE_HOST, 0};
      REQUIRE_OK(cuMemCreate(&host_[i], kPage, &properties, 0));
    }
  }
  ~Pages() {
    to("UU");
    for (const auto handle : {device_[0], device_[1], host_[0], host_[1]})
      CHECK_OK(cuMemRelease(handle));
    CHECK_OK(cuMemAddressFree(address, kBytes));
  }
  Pages(const Pages&) = delete;
  Pages& operator=(const Pages&) = delete;
  // For each page: D device, H host, U nothing.
  void to(const std::string& where) {
    const CUmemAccessDesc access{{CU_MEM_LOCATION_TYPE_DEVICE, 0},
                                 CU_MEM_ACCESS_FLAGS_PROT_READWRITE};
    for (size_t i = 0; i < 2; ++i) {
      if (at_[i] == where[i]) continue;
      if (at_[i] != 'U') CHECK_OK(cuMemUnmap(address + i * kPage, kPage));
      at_[i] = where[i];
      if (where[i] == 'U') continue;
      const auto handle = where[i] == 'D' ? device_[i] : host_[i];
      REQUIRE_OK(cuMemMap(address + i * kPage, kPage, 0, handle, 0));
      REQUIRE_OK(cuMemSetAccess(address + i * kPage, kPage, &access, 1));
    }
  }
  CUdeviceptr address = 0;

 private:
  CUmemGenericAllocationHandle device_[2] = {}, host_[2] = {};
  std::string at_ = "UU";
};

struct Copied {
  CUgraph graph = nullptr;
  CUgraphNode node = nullptr;
  CUDA_MEMCPY3D what{};
  Copied(const Session& session, CUdeviceptr from, CUdeviceptr into, bool captured) {
    what.srcMemoryType = what.dstMemoryType = CU_MEMORYTYPE_DEVICE;
    what.srcDevice = from + kPage / 2;
    what.dstDevice = into + kPage / 2;
    what.WidthInBytes = kPage;  // across both
    what.Height = what.Depth = 1;
    if (!captured) {
      REQUIRE_OK(cuGraphCreate(&graph, 0));
      REQUIRE_OK(cuGraphAddMemcpyNode(&node, graph, nullptr, 0, &what, session.context));
      return;
    }
    Stream stream;
    REQUIRE_OK(cuStreamBeginCapture(stream.handle, CU_STREAM_CAPTURE_MODE_GLOBAL));
    REQUIRE_OK(cuMemcpyDtoDAsync(what.dstDevice, what.srcDevice, what.WidthInBytes, stream.handle));
    REQUIRE_OK(cuStreamEndCapture(stream.handle, &graph));
    size_t count = 1;
    REQUIRE_OK(cuGraphGetNodes(graph, &node, &count));
  }
  ~Copied() { CHECK_OK(cuGraphDestroy(graph)); }
  Copied(const Copied&) = delete;
  Copied& operator=(const Copied&) = delete;
};

std::string sorted(std::string word) {
  std::sort(word.begin(), word.end());
  return word;
}
}  // namespace

TEST_CASE("an executable graph takes a copy whose operands were where those of its own were") {
  Session session;
  Pages a, b;
  const bool captured = GENERATE(false, true);
  const std::string first = GENERATE("DD", "DH", "HD", "HH");
  const std::string second = GENERATE("DD", "DH", "HD", "HH");
  const bool alike = sorted(first) == sorted(second);
  INFO(first << " then " << second);
  a.to(first);
  Copied old(session, a.address, a.address, captured);
  a.to("DD");  // only where it was when the node was made counts
  CUgraphExec exec = nullptr;
  REQUIRE_OK(cuGraphInstantiate(&exec, old.graph, 0));
  CUgraphExecUpdateResultInfo info{};
  b.to(second);
  Copied next(session, b.address, b.address, captured);
  SECTION("a change of one node") {
    CHECK(cuGraphExecMemcpyNodeSetParams(exec, old.node, &next.what, session.context) ==
          (alike ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE));
    CUDA_MEMCPY3D unified = next.what;
    unified.srcMemoryType = CU_MEMORYTYPE_UNIFIED;
    CHECK(cuGraphExecMemcpyNodeSetParams(exec, old.node, &unified, session.context) ==
          CUDA_ERROR_INVALID_VALUE);
  }
  SECTION("an update") {
    b.to(first);
    const CUresult result = cuGraphExecUpdate(exec, next.graph, &info);
    CHECK(result == (alike ? CUDA_SUCCESS : CUDA_ERROR_GRAPH_EXEC_UPDATE_FAILURE));
    if (!alike) {
      CHECK(info.result == CU_GRAPH_EXEC_UPDATE_ERROR_PARAMETERS_CHANGED);
      CHECK(info.errorNode == next.node);
    }
    // The same parameters again make the node look again.
    CHECK_OK(cuGraphMemcpyNodeSetParams(next.node, &next.what));
    CHECK_OK(cuGraphExecUpdate(exec, next.graph, &info));
  }
  SECTION("the same copy is taken wherever its operands were") {
    a.to(second);
    Copied again(session, a.address, a.address, captured);
    CHECK_OK(cuGraphExecUpdate(exec, again.graph, &info));
  }
  CHECK_OK(cuGraphExecDestroy(exec));
}

TEST_CASE("fills in graphs ask only that their memory is there") {
  Session session;
  Pages a, b;
  a.to("DD");
  b.to("HH");
  const auto fill = [&](CUdeviceptr at, CUgraph* graph) {
    CUgraphNode node = nullptr;
    const CUDA_MEMSET_NODE_PARAMS what{at, 0, 7, 4, kPage / 2, 1};
    REQUIRE_OK(cuGraphCreate(graph, 0));
    REQUIRE_OK(cuGraphAddMemsetNode(&node, *graph, nullptr, 0, &what, session.context));
  };
  CUgraph one = nullptr, two = nullptr;
  CUgraphExec exec = nullptr;
  fill(a.address, &one);
  fill(b.address, &two);
  REQUIRE_OK(cuGraphInstantiate(&exec, one, 0));
  CUgraphExecUpdateResultInfo info{};
  CHECK_OK(cuGraphExecUpdate(exec, two, &info));
  b.to("DH");
  CHECK_OK(cuGraphExecUpdate(exec, one, &info));
  b.to("UH");
  CHECK(cuGraphExecUpdate(exec, two, &info) == CUDA_ERROR_GRAPH_EXEC_UPDATE_FAILURE);
  CHECK(info.result == CU_GRAPH_EXEC_UPDATE_ERROR);
  CHECK_OK(cuGraphExecDestroy(exec));
  CHECK(cuGraphInstantiate(&exec, two, 0) == CUDA_ERROR_INVALID_VALUE);
  CHECK_OK(cuGraphDestroy(one));
  CHECK_OK(cuGraphDestroy(two));
}

TEST_CASE("after an update the nodes are still those of the graph instantiated from") {
  Session session;
  Memory a(4096), b(4096), c(4096);
  const FillNode first(session, a.address, 4, 1), second(session, b.address, 4, 2),
      third(session, c.address, 4, 3);
  CUgraph graph = nullptr, other = nullptr;
  CUgraphNode node = nullptr, later = nullptr;
  REQUIRE_OK(cuGraphCreate(&graph, 0));
  REQUIRE_OK(cuGraphCreate(&other, 0));
  REQUIRE_OK(cuGraphAddKernelNode(&node, graph, nullptr, 0, &first.params));
  REQUIRE_OK(cuGraphAddKernelNode(&later, other, nullptr, 0, &second.params));
  CUgraphExec exec = nullptr;
  REQUIRE_OK(cuGraphInstantiate(&exec, graph, 0));
  CUgraphExecUpdateResultInfo info{};
  CHECK_OK(cuGraphExecUpdate(exec, other, &info));
  CHECK(cuGraphExecKernelNodeSetParams(exec, later, &third.params) == CUDA_ERROR_INVALID_VALUE);
  CHECK_OK(cuGraphExecKernelNodeSetParams(exec, node, &third.params));
  CHECK_OK(cuGraphLaunch(exec, nullptr));
  CHECK(first_word(c.address) == flexlom_testing_hash(3, 0));
  CHECK_OK(cuGraphExecDestroy(exec));
  CHECK_OK(cuGraphDestroy(graph));
  CHECK_OK(cuGraphDestroy(other));
}

TEST_CASE("a kernel node tells a CUkernel from a CUfunction") {
  Session session;
  Memory a(4096);
  CUlibrary library = nullptr;
  CUkernel kernel = nullptr;
  REQUIRE_OK(cuLibraryLoadData(&library, "image", nullptr, nullptr, 0, nullptr, nullptr, 0));
  REQUIRE_OK(cuLibraryGetKernel(&kernel, library, "flex_fill"));
  FillNode fill(session, a.address, 4, 1);
  CUgraph graph = nullptr;
  CUgraphNode node = nullptr;
  REQUIRE_OK(cuGraphCreate(&graph, 0));
  const CUfunction function = fill.params.func;
  fill.params.func = reinterpret_cast<CUfunction>(kernel);
  CHECK(cuGraphAddKernelNode(&node, graph, nullptr, 0, &fill.params) == CUDA_ERROR_INVALID_HANDLE);
  fill.params.func = nullptr;
  fill.params.kern = reinterpret_cast<CUkernel>(function);
  CHECK(cuGraphAddKernelNode(&node, graph, nullptr, 0, &fill.params) == CUDA_ERROR_INVALID_HANDLE);
  fill.params.kern = kernel;
  REQUIRE_OK(cuGraphAddKernelNode(&node, graph, nullptr, 0, &fill.params));
  CUDA_KERNEL_NODE_PARAMS got{};
  CHECK_OK(cuGraphKernelNodeGetParams(node, &got));
  CHECK(got.func == nullptr);
  CHECK(got.kern == kernel);
  CHECK_OK(cuGraphKernelNodeSetParams(node, &got));
  CHECK_OK(cuGraphDestroy(graph));
  CHECK_OK(cuLibraryUnload(library));
}
