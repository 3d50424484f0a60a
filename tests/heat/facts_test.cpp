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

  // What a node says about the handle it was given, and about attributes.
  CUgraph graph = nullptr;
  REQUIRE_OK(cuGraphCreate(&graph, 0));
  for (const CUfunction f : {session.function("flex_empty"), session.kernel("flex_empty")}) {
    CUDA_KERNEL_NODE_PARAMS_v2 p = {f, 1, 1, 1, 1, 1, 1, 0, nullptr, nullptr, nullptr, nullptr};
    CUgraphNode node = nullptr;
    REQUIRE_OK(cuGraphAddKernelNode_v2(&node, graph, nullptr, 0, &p));
    p = {};
    const CUresult got = cuGraphKernelNodeGetParams_v2(node, &p);
    CUlaunchAttributeValue value = {};
    const CUresult attribute = cuGraphKernelNodeGetAttribute(
        node, CU_LAUNCH_ATTRIBUTE_DEVICE_UPDATABLE_KERNEL_NODE, &value);
    std::printf("node: %s func %s kern %s; device-updatable %s %d\n", code(got),
                p.func == f         ? "as given"
                : p.func == nullptr ? "null"
                                    : "another",
                p.kern == nullptr ? "null" : "set", code(attribute),
                value.deviceUpdatableKernelNode.deviceUpdatable);
  }
  CHECK_OK(cuGraphDestroy(graph));
}

}  // namespace testing
