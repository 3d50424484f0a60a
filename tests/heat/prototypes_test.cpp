// Every submission of the list, called with addresses of the pool wherever its prototype has room
// for one: what names nothing is listed here, with the reason.
#include <algorithm>
#include <set>
#include <tuple>
#include <utility>

#include "tests/heat/testing.h"

namespace testing {
namespace {

constexpr CUdeviceptr kFirst = kPool + 64 * kMiB;

// Arguments of one call. Each address is another page, so that all of them are seen.
struct Arguments {
  CUdeviceptr next = kFirst;
  unsigned lists = 0;
  bool batched = false;
  Words given;
  CUdeviceptr address() {
    given.push_back(next);
    next += 4 * kMiB;
    return given.back();
  }

  CUdeviceptr list[2][3];
  CUdeviceptr param;
  void* params[1] = {&param};
  CUlaunchAttribute attribute{};
  CUlaunchConfig config{};
  CUDA_LAUNCH_PARAMS launches[3]{};
  CUdeviceptr launched[3];
  void* launch_params[3];
  CUDA_MEMCPY2D flat{};
  CUDA_MEMCPY3D deep{};
  CUDA_MEMCPY3D_PEER peer{};
  CUDA_MEMCPY3D_BATCH_OP batch[3]{};
  CUmemDecompressParams decompress[3]{};
  CUstreamBatchMemOpParams operations[3]{};

  template <class Copy>
  const Copy* copy(Copy& c) {
    c.srcMemoryType = CU_MEMORYTYPE_DEVICE;
    c.srcDevice = address();
    c.dstMemoryType = CU_MEMORYTYPE_UNIFIED;
    c.dstDevice = address();
    return &c;
  }
};

template <class T>
T argument(Arguments&) {
  return T{};
}
template <>
size_t argument(Arguments&) {
  return 3;
}
template <>
unsigned argument(Arguments&) {
  return 3;
}
// Flags of a batch have the type of an address.
template <>
CUdeviceptr argument(Arguments& a) {
  return a.batched ? 0 : a.address();
}
template <>
void* argument(Arguments& a) {
  return reinterpret_cast<void*>(a.address());
}
template <>
const void* argument(Arguments& a) {
  return reinterpret_cast<const void*>(a.address());
}
template <>
CUfunction argument(Arguments&) {
  return reinterpret_cast<CUfunction>(uintptr_t{0x7000});
}
// kernelParams; when there is a second it is `extra`.
template <>
void** argument(Arguments& a) {
  if (a.lists++ > 0) return nullptr;
  a.param = a.address();
  return a.params;
}
template <>
const CUlaunchConfig* argument(Arguments& a) {
  a.config = {1, 1, 1, 32, 1, 1, 0, nullptr, &a.attribute, 1};
  a.attribute.id = CU_LAUNCH_ATTRIBUTE_ACCESS_POLICY_WINDOW;
  a.attribute.value.accessPolicyWindow.base_ptr = reinterpret_cast<void*>(a.address());
  return &a.config;
}
template <>
CUDA_LAUNCH_PARAMS* argument(Arguments& a) {
  for (int i = 0; i < 3; ++i) {
    a.launched[i] = a.address();
    a.launch_params[i] = &a.launched[i];
    a.launches[i] = {argument<CUfunction>(a), 1, 1, 1, 32, 1, 1, 0, nullptr, &a.launch_params[i]};
  }
  return a.launches;
}
template <>
CUdeviceptr* argument(Arguments& a) {
  a.batched = true;
  CUdeviceptr* list = a.list[a.lists++];
  for (int i = 0; i < 3; ++i) list[i] = a.address();
  return list;
}
template <>
const CUDA_MEMCPY2D* argument(Arguments& a) {
  return a.copy(a.flat);
}
template <>
const CUDA_MEMCPY3D* argument(Arguments& a) {
  return a.copy(a.deep);
}
template <>
const CUDA_MEMCPY3D_PEER* argument(Arguments& a) {
  return a.copy(a.peer);
}
template <>
CUDA_MEMCPY3D_BATCH_OP* argument(Arguments& a) {
  a.batched = true;
  for (auto& op : a.batch) {
    for (CUmemcpy3DOperand* side : {&op.src, &op.dst}) {
      side->type = CU_MEMCPY_OPERAND_TYPE_POINTER;
      side->op.ptr.ptr = a.address();
    }
  }
  return a.batch;
}
template <>
CUmemDecompressParams* argument(Arguments& a) {
  for (auto& p : a.decompress) {
    p.src = reinterpret_cast<void*>(a.address());
    p.dst = reinterpret_cast<void*>(a.address());
    p.dstActBytes = reinterpret_cast<cuuint32_t*>(a.address());
  }
  return a.decompress;
}
template <>
CUstreamBatchMemOpParams* argument(Arguments& a) {
  const CUstreamBatchMemOpType types[3] = {CU_STREAM_MEM_OP_WAIT_VALUE_32,
                                           CU_STREAM_MEM_OP_WRITE_VALUE_64,
                                           CU_STREAM_MEM_OP_FLUSH_REMOTE_WRITES};
  for (int i = 0; i < 3; ++i) a.operations[i].operation = types[i];
  a.operations[0].waitValue.address = a.address();
  a.operations[1].writeValue.address = a.address();
  return a.operations;
}

struct Outcome {
  Words given, found;
  bool unknown;
  const void* function;
};
template <Entry E, class F>
struct Call;
template <Entry E, class... A>
struct Call<E, CUresult (*)(A...)> {
  static Outcome run() {
    Arguments a;
    const std::tuple<A...> values{argument<A>(a)...};
    Named named;
    std::apply([&](const A&... v) { flexlom::heat::names(E, named, v...); }, values);
    Words found = words_of(named);
    std::sort(found.begin(), found.end());
    return {a.given, found, named.unknown, named.function};
  }
};

struct Row {
  const char* symbol;
  Outcome (*run)();
};
#define ROW_pass(symbol, prototype)
#define ROW_own(symbol, prototype)
#define ROW_look(symbol, prototype)
#define ROW_room(symbol, prototype)
#define ROW_gate(symbol, prototype) {#symbol, &Call<Entry::symbol, decltype(&::prototype)>::run},
const Row rows[] = {
#define FLEXLOM_ENTRY(symbol, prototype, door) ROW_##door(symbol, prototype)
#include "entries.inc"
#undef FLEXLOM_ENTRY
};

std::string without_twin(std::string name) {
  for (const char* twin : {"_ptsz", "_ptds"}) {
    const size_t at = name.rfind(twin);
    if (at != std::string::npos) return name.substr(0, at);
  }
  return name;
}

}  // namespace

TEST_CASE("every submission names what its prototype can name") {
  note_pool();
  FakeKernels kernels;
  kernels.function(0x7000, {{0, 8}});
  // Addresses of 32 bits, as the first versions of these had: no pool is down there.
  const std::set<std::string> narrow = {
      "cuMemcpy2D",        "cuMemcpy2DAsync", "cuMemcpy2DUnaligned", "cuMemcpy3D",
      "cuMemcpy3DAsync",   "cuMemcpyAtoD",    "cuMemcpyAtoH",        "cuMemcpyAtoHAsync",
      "cuMemcpyDtoA",      "cuMemcpyDtoD",    "cuMemcpyDtoDAsync",   "cuMemcpyDtoH",
      "cuMemcpyDtoHAsync", "cuMemcpyHtoA",    "cuMemcpyHtoAAsync",   "cuMemcpyHtoD",
      "cuMemcpyHtoDAsync", "cuMemsetD16",     "cuMemsetD2D16",       "cuMemsetD2D32",
      "cuMemsetD2D8",      "cuMemsetD32",     "cuMemsetD8"};
  // From array to array; no memory at all; other people's memory; results.
  const std::set<std::string> none = {"cuMemcpyAtoA",
                                      "cuMemcpyAtoA_v2",
                                      "cuCtxRecordEvent",
                                      "cuCtxWaitEvent",
                                      "cuEventRecord",
                                      "cuEventRecordWithFlags",
                                      "cuFlushGPUDirectRDMAWrites",
                                      "cuGraphUpload",
                                      "cuGreenCtxRecordEvent",
                                      "cuGreenCtxWaitEvent",
                                      "cuLaunchHostFunc",
                                      "cuMemMapArrayAsync",
                                      "cuSignalExternalSemaphoresAsync",
                                      "cuWaitExternalSemaphoresAsync",
                                      "cuStreamAddCallback",
                                      "cuStreamGetCaptureInfo",
                                      "cuStreamGetCaptureInfo_v2",
                                      "cuStreamGetCaptureInfo_v3",
                                      "cuStreamIsCapturing",
                                      "cuStreamUpdateCaptureDependencies",
                                      "cuStreamUpdateCaptureDependencies_v2",
                                      "cuStreamWaitEvent",
                                      "cuMemAddressReserve"};
  // Parameters set before; a graph nobody saw.
  const std::set<std::string> unknown = {"cuLaunch", "cuLaunchGrid", "cuLaunchGridAsync",
                                         "cuGraphLaunch"};
  unsigned naming = 0;
  for (const Row& row : rows) {
    INFO(row.symbol);
    Outcome o = row.run();
    const std::string name = without_twin(row.symbol);
    const bool graphics = name.rfind("cuGraphics", 0) == 0 || name.rfind("cuGL", 0) == 0 ||
                          name.rfind("cuEGL", 0) == 0;
    CHECK(o.unknown == unknown.contains(name));
    if (narrow.contains(name) || none.contains(name) || unknown.contains(name) || graphics) {
      CHECK(o.found.empty());
      continue;
    }
    ++naming;
    CHECK(o.function != nullptr);
    std::sort(o.given.begin(), o.given.end());
    CHECK(!o.given.empty());
    CHECK(o.found == o.given);
  }
  CHECK(naming >= 116);
}

}  // namespace testing
