// Memory that the program freed is there for what the driver takes for itself: most of the device
// is allocated and freed, then half of it is asked for in another way.
#include <cuda.h>
#include <unistd.h>

#include <functional>
#include <string_view>

#include "tests/preload/session.hpp"

using namespace preload;

namespace {

void* driver = nullptr;

#define CU(name) look_up<decltype(&::name)>(driver, #name)

constexpr size_t kMiB = size_t{1} << 20;

void sleep_a_little(void*) { usleep(200'000); }

// Takes three quarters of the current device and gives them back; what is free then.
size_t use_and_free(bool behind_work) {
  size_t available = 0, total = 0;
  CHECK_OK(CU(cuMemGetInfo_v2)(&available, &total));
  CUdeviceptr p = 0;
  CHECK_OK(CU(cuMemAlloc_v2)(&p, available / 4 * 3));
  if (behind_work) CHECK_OK(CU(cuLaunchHostFunc)(nullptr, &sleep_a_little, nullptr));
  CHECK_OK(CU(cuMemFree_v2)(p));
  CHECK_OK(CU(cuMemGetInfo_v2)(&available, &total));
  return available;
}

CUresult flat_array(size_t bytes) {
  CUarray array = nullptr;
  const CUDA_ARRAY_DESCRIPTOR shape{8192, bytes / 32768, CU_AD_FORMAT_FLOAT, 1};
  return CU(cuArrayCreate_v2)(&array, &shape);
}

CUresult deep_array(size_t bytes) {
  CUarray array = nullptr;
  const CUDA_ARRAY3D_DESCRIPTOR shape{8192, bytes / 65536, 2, CU_AD_FORMAT_FLOAT, 1, 0};
  return CU(cuArray3DCreate_v2)(&array, &shape);
}

CUresult exportable_pool(size_t bytes) {
  CUmemPoolProps props{};
  props.allocType = CU_MEM_ALLOCATION_TYPE_PINNED;
  props.handleTypes = CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR;
  props.location = {CU_MEM_LOCATION_TYPE_DEVICE, 0};
  CUmemoryPool pool = nullptr;
  CHECK_OK(CU(cuMemPoolCreate)(&pool, &props));
  CUdeviceptr p = 0;
  return CU(cuMemAllocFromPoolAsync)(&p, bytes, pool, nullptr);
}

CUresult graph_memory(size_t bytes) {
  CUgraph graph = nullptr;
  CHECK_OK(CU(cuGraphCreate)(&graph, 0));
  CUDA_MEM_ALLOC_NODE_PARAMS params{};
  params.poolProps.allocType = CU_MEM_ALLOCATION_TYPE_PINNED;
  params.poolProps.location = {CU_MEM_LOCATION_TYPE_DEVICE, 0};
  params.bytesize = bytes;
  CUgraphNode node = nullptr;
  return CU(cuGraphAddMemAllocNode)(&node, graph, nullptr, 0, &params);
}

// Frames of device 0, asked for with device 1 current.
CUresult other_frames(size_t bytes) {
  CUcontext other = nullptr;
  CHECK_OK(CU(cuDevicePrimaryCtxRetain)(&other, 1));
  CHECK_OK(CU(cuCtxSetCurrent)(other));
  CUmemAllocationProp prop{};
  prop.type = CU_MEM_ALLOCATION_TYPE_PINNED;
  prop.location = {CU_MEM_LOCATION_TYPE_DEVICE, 0};
  CUmemGenericAllocationHandle handle = 0;
  return CU(cuMemCreate)(&handle, bytes / (2 * kMiB) * (2 * kMiB), &prop, 0);
}

CUgraph empty_graph() {
  CUgraph graph = nullptr;
  CUgraphNode node = nullptr;
  CHECK_OK(CU(cuGraphCreate)(&graph, 0));
  CHECK_OK(CU(cuGraphAddEmptyNode)(&node, graph, nullptr, 0));
  return graph;
}

CUresult with_flags(size_t) {
  CUgraphExec exec = nullptr;
  return CU(cuGraphInstantiateWithFlags)(&exec, empty_graph(), 0);
}

CUresult with_upload(size_t) {
  CUgraphExec exec = nullptr;
  CUDA_GRAPH_INSTANTIATE_PARAMS params{};
  params.flags = CUDA_GRAPH_INSTANTIATE_FLAG_UPLOAD;
  return CU(cuGraphInstantiateWithParams)(&exec, empty_graph(), &params);
}

CUresult upload(size_t) {
  CUgraphExec exec = nullptr;
  CHECK_OK(CU(cuGraphInstantiateWithFlags)(&exec, empty_graph(), 0));
  return CU(cuGraphUpload)(exec, nullptr);
}

CUresult module(size_t) {
  CUmodule loaded = nullptr;
  return CU(cuModuleLoadData)(&loaded, "any image");
}

}  // namespace

// driver_memory WHAT [behind]: with "behind", the memory is freed behind running work
int main(int count, char** words) {
  if (count < 2) return 2;
  driver = open_driver();
  const Cuda cuda(driver);
  cuda.start();
  const struct {
    std::string_view name;
    std::function<CUresult(size_t)> ask;
  } rows[] = {{"array", flat_array},   {"array3d", deep_array},  {"pool", exportable_pool},
              {"graph", graph_memory}, {"frames", other_frames}, {"instantiate", with_flags},
              {"params", with_upload}, {"upload", upload},       {"module", module}};
  for (const auto& row : rows) {
    if (row.name != words[1]) continue;
    const size_t available = use_and_free(count > 2);
    const CUresult r = row.ask(available / 2);
    if (r != CUDA_SUCCESS) std::fprintf(stderr, "%s: code %d\n", words[1], static_cast<int>(r));
    CHECK(r == CUDA_SUCCESS);
    return verdict();
  }
  return 2;
}
