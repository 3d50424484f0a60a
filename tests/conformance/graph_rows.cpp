// Graphs over allocated memory, and stream-ordered allocation inside a capture.
#include <vector>

#include "tests/conformance/driver.hpp"

namespace flexlom::conformance {
namespace {

struct Captured {
  CUgraph graph = nullptr;
  CUgraphExec exec = nullptr;
};

template <typename Work>
Captured capture(CUstream stream, Work&& work) {
  Captured captured;
  must(CU(cuStreamBeginCapture)(stream, CU_STREAM_CAPTURE_MODE_GLOBAL), "cuStreamBeginCapture");
  work();
  must(CU(cuStreamEndCapture)(stream, &captured.graph), "cuStreamEndCapture");
  must(CU(cuGraphInstantiate)(&captured.exec, captured.graph, 0), "cuGraphInstantiate");
  return captured;
}

CUstream make_stream() {
  CUstream stream = nullptr;
  must(CU(cuStreamCreate)(&stream, CU_STREAM_NON_BLOCKING), "cuStreamCreate");
  return stream;
}

CONFORMANCE_GROUP(graph_replay, 120) {
  Gpu gpu;
  Kernels kernels;
  const CUstream stream = make_stream();
  for (uint64_t bytes : {uint64_t{4096}, 3 * kMiB, large_bytes()}) {
    const std::string name = bytes == large_bytes() ? "large" : size_name(bytes);
    const CUdeviceptr p = allocate(bytes);
    const CUdeviceptr q = allocate(bytes);
    row(name + ".fill_copy_check", [&]() -> std::string {
      const Captured captured = capture(stream, [&] {
        kernels.launch(stream, "flex_fill", p, bytes / 4, uint32_t{2});
        CU(cuMemcpyDtoDAsync)(q, p, bytes, stream);
        CU(cuMemsetD8Async)(p, 0, bytes, stream);
      });
      size_t nodes = 0;
      CU(cuGraphGetNodes)(captured.graph, nullptr, &nodes);
      std::string text = fmt::format("{} nodes", nodes);
      for (int i = 0; i < 3; ++i) {
        clear(q, bytes);
        text += " " + result_name(CU(cuGraphLaunch)(captured.exec, stream));
        text += " " + result_name(CU(cuStreamSynchronize)(stream));
        text += " " + kernels.contents(q, bytes, 2);
      }
      // Allocation traffic between replays must not disturb the memory the graph holds.
      std::vector<CUdeviceptr> others;
      for (int i = 0; i < 8; ++i) {
        others.push_back(allocate(kMiB * (1 + i % 3)));
        CU(cuMemsetD8)(others.back(), 0xff, kMiB);
      }
      for (CUdeviceptr other : others) {
        CU(cuMemFree)(other);
      }
      text += " " + result_name(CU(cuGraphLaunch)(captured.exec, stream));
      CU(cuStreamSynchronize)(stream);
      return text + " " + kernels.contents(q, bytes, 2);
    });
    row(name + ".update_to_other_memory", [&]() -> std::string {
      const CUdeviceptr r = allocate(bytes);
      const auto fill = [&](CUdeviceptr to) {
        return capture(stream,
                       [&] { kernels.launch(stream, "flex_fill", to, bytes / 4, uint32_t{6}); });
      };
      const Captured first = fill(q);
      const Captured second = fill(r);
      clear(q, bytes);
      CUgraphExecUpdateResultInfo info = {};
      std::string text = result_name(CU(cuGraphExecUpdate)(first.exec, second.graph, &info));
      text += " " + result_name(CU(cuGraphLaunch)(first.exec, stream));
      CU(cuStreamSynchronize)(stream);
      text += " " + kernels.contents(r, bytes, 6);
      CU(cuMemFree)(r);
      return text;
    });
    row(name + ".free_after_launch", [&]() -> std::string {
      const CUdeviceptr r = allocate(bytes);
      const Captured captured = capture(stream, [&] {
        kernels.launch(stream, "flex_spin_ns", uint64_t{10'000'000});
        kernels.launch(stream, "flex_fill", r, bytes / 4, uint32_t{6});
      });
      must(CU(cuGraphLaunch)(captured.exec, stream), "cuGraphLaunch");
      must(CU(cuMemFree)(r), "cuMemFree");
      const CUdeviceptr s = allocate(bytes);
      kernels.launch(nullptr, "flex_fill", s, bytes / 4, uint32_t{60});
      must(CU(cuCtxSynchronize)(), "cuCtxSynchronize");
      const std::string text = kernels.contents(s, bytes, 60);
      CU(cuMemFree)(s);
      return text;
    });
    CU(cuMemFree)(p);
    CU(cuMemFree)(q);
  }
}

std::vector<int> node_types(CUgraph graph) {
  size_t count = 0;
  must(CU(cuGraphGetNodes)(graph, nullptr, &count), "cuGraphGetNodes");
  std::vector<CUgraphNode> nodes(count);
  CU(cuGraphGetNodes)(graph, nodes.data(), &count);
  std::vector<int> types;
  for (CUgraphNode node : nodes) {
    CUgraphNodeType type = CU_GRAPH_NODE_TYPE_EMPTY;
    CU(cuGraphNodeGetType)(node, &type);
    types.push_back(static_cast<int>(type));
  }
  std::sort(types.begin(), types.end());
  return types;
}

// cuMemAllocAsync and cuMemFreeAsync on the captured stream become nodes of the graph.
CONFORMANCE_GROUP(graph_memory_nodes, 120) {
  Gpu gpu;
  Kernels kernels;
  const CUstream stream = make_stream();
  const CUdeviceptr keep = allocate(kMiB);
  row("inside", [&]() -> std::string {
    CUresult allocated = CUDA_ERROR_UNKNOWN;
    CUresult freed = CUDA_ERROR_UNKNOWN;
    const Captured captured = capture(stream, [&] {
      CUdeviceptr p = 0;
      allocated = CU(cuMemAllocAsync)(&p, kMiB, stream);
      kernels.launch(stream, "flex_fill", p, kMiB / 4, uint32_t{13});
      kernels.launch(stream, "flex_copy", keep, p, kMiB / 4);
      freed = CU(cuMemFreeAsync)(p, stream);
    });
    std::string text = result_name(allocated) + " " + result_name(freed) + " types";
    for (int type : node_types(captured.graph)) {
      text += fmt::format(" {}", type);
    }
    for (int i = 0; i < 3; ++i) {
      clear(keep, kMiB);
      text += ", " + result_name(CU(cuGraphLaunch)(captured.exec, stream));
      text += " " + result_name(CU(cuStreamSynchronize)(stream));
      text += " " + kernels.contents(keep, kMiB, 13);
    }
    return text;
  });
  row("free_outside", [&]() -> std::string {
    CUdeviceptr p = 0;
    const Captured captured = capture(stream, [&] {
      CU(cuMemAllocAsync)(&p, kMiB, stream);
      kernels.launch(stream, "flex_fill", p, kMiB / 4, uint32_t{14});
    });
    std::string text = result_name(CU(cuGraphLaunch)(captured.exec, stream));
    CU(cuStreamSynchronize)(stream);
    text += " " + kernels.contents(p, kMiB, 14);
    text += ", relaunch " + result_name(CU(cuGraphLaunch)(captured.exec, stream));
    text += ", free " + result_name(CU(cuMemFreeAsync)(p, stream));
    text += ", launch " + result_name(CU(cuGraphLaunch)(captured.exec, stream));
    CU(cuStreamSynchronize)(stream);
    return text + ", free " + result_name(CU(cuMemFree)(p));
  });
  row("foreign_free_inside", [&]() -> std::string {
    CUdeviceptr p = 0;
    must(CU(cuMemAllocAsync)(&p, kMiB, stream), "cuMemAllocAsync");
    must(CU(cuStreamBeginCapture)(stream, CU_STREAM_CAPTURE_MODE_GLOBAL), "cuStreamBeginCapture");
    const CUresult freed = CU(cuMemFreeAsync)(p, stream);
    CUgraph graph = nullptr;
    const CUresult ended = CU(cuStreamEndCapture)(stream, &graph);
    std::string text = result_name(freed) + ", end " + result_name(ended);
    if (graph != nullptr) {
      CU(cuGraphDestroy)(graph);
    }
    return text + ", free " + result_name(CU(cuMemFreeAsync)(p, stream));
  });
  row("plain_pointer_freed_inside", [&]() -> std::string {
    const CUdeviceptr p = allocate(kMiB);
    must(CU(cuStreamBeginCapture)(stream, CU_STREAM_CAPTURE_MODE_GLOBAL), "cuStreamBeginCapture");
    const CUresult freed = CU(cuMemFreeAsync)(p, stream);
    CUgraph graph = nullptr;
    const CUresult ended = CU(cuStreamEndCapture)(stream, &graph);
    return result_name(freed) + ", end " + result_name(ended) + ", free " +
           result_name(CU(cuMemFree)(p));
  });
  for (int attribute = 0; attribute <= 4; ++attribute) {
    row(fmt::format("attribute_{}", attribute), [&] {
      uint64_t value = 0;
      return CU(cuDeviceGetGraphMemAttribute)(0, static_cast<CUgraphMem_attribute>(attribute),
                                              &value);
    });
  }
  row("trim", [&] { return CU(cuDeviceGraphMemTrim)(0); });
}

// A graph built node by node.
CONFORMANCE_GROUP(graph_explicit, 120) {
  Gpu gpu;
  Kernels kernels;
  const CUstream stream = make_stream();
  CUdeviceptr p = allocate(large_bytes());
  const CUdeviceptr q = allocate(large_bytes());
  row("memset_kernel_copy", [&]() -> std::string {
    CUgraph graph = nullptr;
    must(CU(cuGraphCreate)(&graph, 0), "cuGraphCreate");
    uint64_t words = large_bytes() / 4;
    uint32_t addend = 5;
    void* params[] = {&p, &words, &addend};
    CUDA_MEMSET_NODE_PARAMS memset = {};
    memset.dst = p;
    memset.value = 0x01010101;
    memset.elementSize = 4;
    memset.width = words;
    memset.height = 1;
    CUgraphNode nodes[3] = {};
    std::string text =
        result_name(CU(cuGraphAddMemsetNode)(&nodes[0], graph, nullptr, 0, &memset, gpu.context));
    CUDA_KERNEL_NODE_PARAMS kernel = {};
    kernel.func = kernels.function("flex_add");
    kernel.gridDimX = 100;
    kernel.blockDimX = 256;
    kernel.gridDimY = kernel.gridDimZ = kernel.blockDimY = kernel.blockDimZ = 1;
    kernel.kernelParams = params;
    text += " " + result_name(CU(cuGraphAddKernelNode)(&nodes[1], graph, &nodes[0], 1, &kernel));
    CUDA_MEMCPY3D copy = {};
    copy.srcMemoryType = copy.dstMemoryType = CU_MEMORYTYPE_DEVICE;
    copy.srcDevice = p;
    copy.dstDevice = q;
    copy.srcPitch = copy.dstPitch = copy.WidthInBytes = large_bytes();
    copy.srcHeight = copy.dstHeight = copy.Height = copy.Depth = 1;
    text += " " + result_name(
                      CU(cuGraphAddMemcpyNode)(&nodes[2], graph, &nodes[1], 1, &copy, gpu.context));
    CUgraphExec exec = nullptr;
    text += " " + result_name(CU(cuGraphInstantiate)(&exec, graph, 0));
    text += " " + result_name(CU(cuGraphLaunch)(exec, stream));
    text += " " + result_name(CU(cuStreamSynchronize)(stream));
    uint32_t last = 0;
    CU(cuMemcpyDtoH)(&last, q + large_bytes() - 4, 4);
    return text + fmt::format(" {:#x}", last);
  });
}

}  // namespace
}  // namespace flexlom::conformance
