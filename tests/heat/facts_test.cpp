// What the room believes about a driver, printed: `heat_unit [facts]`. The simulated one answers as
// an H200 did; on_gpu shows what the driver at hand says.
#include <cstdio>

#include "tests/heat/testing.h"

namespace testing {
namespace {

const char* code(CUresult r) {
  const char* name = "?";
  cuGetErrorName(r, &name);
  return name;
}

void show_questions(const char* what, CUfunction f) {
  size_t offset = 0;
  size_t bytes = 0;
  std::printf("%s:", what);
  for (const size_t i : {size_t{0}, size_t{9}}) {
    std::printf(" function[%zu] %s", i, code(cuFuncGetParamInfo(f, i, &offset, &bytes)));
    std::printf(" kernel[%zu] %s", i,
                code(cuKernelGetParamInfo(reinterpret_cast<CUkernel>(f), i, &offset, &bytes)));
  }
  std::printf("\n");
}

// What both forms of the question say.
void show_node(CUgraphNode node, CUfunction function, CUfunction kernel) {
  const auto handle = [&](const void* p) {
    return p == nullptr ? "null" : p == function ? "function" : p == kernel ? "kernel" : "another";
  };
  CUDA_KERNEL_NODE_PARAMS_v1 old = {};
  CUDA_KERNEL_NODE_PARAMS_v2 p = {};
  const CUresult got_old = cuGraphKernelNodeGetParams(node, &old);
  const CUresult got = cuGraphKernelNodeGetParams_v2(node, &p);
  CUlaunchAttributeValue value = {};
  const CUresult attribute =
      cuGraphKernelNodeGetAttribute(node, CU_LAUNCH_ATTRIBUTE_DEVICE_UPDATABLE_KERNEL_NODE, &value);
  std::printf("node: %s func %s; %s func %s kern %s; device-updatable %s %d\n", code(got_old),
              handle(old.func), code(got), handle(p.func), handle(p.kern), code(attribute),
              value.deviceUpdatableKernelNode.deviceUpdatable);
}

}  // namespace

TEST_CASE("facts about the driver", "[.][facts]") {
  Session session;
  for (const char* name : {"flex_copy", "flex_empty"}) {
    show_questions("CUfunction", session.function(name));
    show_questions("CUkernel", session.kernel(name));
  }
  REQUIRE_OK(cuCtxSetCurrent(nullptr));
  show_questions("CUkernel without a context", session.kernel("flex_copy"));
  REQUIRE_OK(cuCtxSetCurrent(session.context));

  // What a node takes, and what it says about the handle and about attributes. An H200 takes no
  // CUkernel for a function.
  CUgraph graph = nullptr;
  REQUIRE_OK(cuGraphCreate(&graph, 0));
  const CUfunction function = session.function("flex_empty"), kernel = session.kernel("flex_empty");
  for (const CUfunction f : {function, kernel}) {
    const char* const kind = f == function ? "CUfunction" : "CUkernel";
    CUgraphNode node = nullptr;
    if (f == function) {  // the driver of an H200 dies of a CUkernel here
      const CUDA_KERNEL_NODE_PARAMS_v1 old = {f, 1, 1, 1, 1, 1, 1, 0, nullptr, nullptr};
      std::printf("node of the old form from a %s: %s\n", kind,
                  code(cuGraphAddKernelNode(&node, graph, nullptr, 0, &old)));
    }
    CUDA_KERNEL_NODE_PARAMS_v2 p = {f, 1, 1, 1, 1, 1, 1, 0, nullptr, nullptr, nullptr, nullptr};
    const CUresult added = cuGraphAddKernelNode_v2(&node, graph, nullptr, 0, &p);
    std::printf("node from a %s: %s\n", kind, code(added));
    if (added == CUDA_SUCCESS) show_node(node, function, kernel);
    p.func = nullptr;
    p.kern = reinterpret_cast<CUkernel>(f);
    const CUresult given = cuGraphAddKernelNode_v2(&node, graph, nullptr, 0, &p);
    std::printf("node from a %s as kern: %s\n", kind, code(given));
    if (given == CUDA_SUCCESS) show_node(node, function, kernel);
  }
  CUstream stream = nullptr;
  REQUIRE_OK(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
  REQUIRE_OK(cuStreamBeginCapture_v2(stream, CU_STREAM_CAPTURE_MODE_RELAXED));
  REQUIRE_OK(cuLaunchKernel(kernel, 1, 1, 1, 1, 1, 1, 0, stream, nullptr, nullptr));
  CUgraph captured = nullptr;
  REQUIRE_OK(cuStreamEndCapture(stream, &captured));
  CUgraphNode node = nullptr;
  size_t count = 1;
  REQUIRE_OK(cuGraphGetNodes(captured, &node, &count));
  std::printf("node of a captured CUkernel\n");
  show_node(node, function, kernel);
  CHECK_OK(cuGraphDestroy(captured));
  CHECK_OK(cuStreamDestroy_v2(stream));
  CHECK_OK(cuGraphDestroy(graph));
}

}  // namespace testing
