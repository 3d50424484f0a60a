// Two devices in one process: copies between them with and without peer access, kernels that reach
// into the other's memory, questions and frees from the other's context, graphs, IPC handles opened
// on either device. Skipped where there is one device.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <optional>
#include <vector>

#include "tests/conformance/driver.hpp"

namespace flexlom::conformance {
namespace {

enum class Need { two, that_reach_each_other };

bool reach_each_other() {
  int can = 0;
  must(CU(cuDeviceCanAccessPeer)(&can, 0, 1), "cuDeviceCanAccessPeer");
  return can != 0;
}

void need_devices(Need need) {
  int count = 0;
  must(CU(cuDeviceGetCount)(&count), "cuDeviceGetCount");
  if (count < 2) throw GroupOver{"skipped: one device"};
  if (need == Need::that_reach_each_other && !reach_each_other())
    throw GroupOver{"skipped: no two devices that reach each other"};
}

// The first two devices, their primary contexts and kernels; device 0 is current at first.
class Pair {
 public:
  explicit Pair(Need need = Need::that_reach_each_other) {
    need_devices(need);
    must(CU(cuDevicePrimaryCtxRetain)(&contexts_[1], 1), "cuDevicePrimaryCtxRetain");
    contexts_[0] = gpu_.context;
    for (int device : {1, 0}) {
      at(device);
      kernels_[device].emplace();
    }
  }
  void at(int device) const { must(CU(cuCtxSetCurrent)(contexts_[device]), "cuCtxSetCurrent"); }
  // Makes the device current.
  const Kernels& kernels(int device) const {
    at(device);
    return *kernels_[device];
  }
  CUcontext context(int device) const { return contexts_[device]; }
  void enable() const {
    for (int device : {1, 0}) {
      at(device);
      must(CU(cuCtxEnablePeerAccess)(contexts_[1 - device], 0), "cuCtxEnablePeerAccess");
    }
  }

 private:
  Gpu gpu_;
  CUcontext contexts_[2] = {};
  std::optional<Kernels> kernels_[2];
};

struct Memory {
  std::string name;
  uint64_t bytes = 0;
  CUdeviceptr of[2] = {};  // the same on either device
};

std::vector<Memory> memory_of(const Pair& pair) {
  std::vector<Memory> all = {
      {"small", 1000, {}}, {"middle", 4 * kMiB, {}}, {"large", large_bytes(), {}}};
  for (Memory& memory : all) {
    for (int device : {0, 1}) {
      pair.at(device);
      memory.of[device] = allocate(memory.bytes);
    }
  }
  Memory ordered{"ordered", 4 * kMiB, {}};
  for (int device : {0, 1}) {
    pair.at(device);
    must(CU(cuMemAllocAsync)(&ordered.of[device], ordered.bytes, nullptr), "cuMemAllocAsync");
    must(CU(cuStreamSynchronize)(nullptr), "cuStreamSynchronize");
  }
  all.push_back(ordered);
  return all;
}

struct Copy {
  CUdeviceptr to, from;
  CUcontext there, here;
  uint64_t bytes;
};

struct Way {
  const char* name;
  bool flat;  // one dimension, one copy: what flexlom can do without access
  std::function<CUresult(const Copy&)> run;
};

CUDA_MEMCPY3D_PEER volume(const Copy& c) {
  CUDA_MEMCPY3D_PEER copy = {};
  copy.srcMemoryType = copy.dstMemoryType = CU_MEMORYTYPE_DEVICE;
  copy.srcDevice = c.from;
  copy.dstDevice = c.to;
  copy.srcContext = c.here;
  copy.dstContext = c.there;
  copy.WidthInBytes = copy.srcPitch = copy.dstPitch = c.bytes / 4;
  copy.Height = copy.srcHeight = copy.dstHeight = 2;
  copy.Depth = 2;
  return copy;
}

CUDA_MEMCPY2D plane(const Copy& c, CUmemorytype type) {
  CUDA_MEMCPY2D copy = {};
  copy.srcMemoryType = copy.dstMemoryType = type;
  copy.srcDevice = c.from;
  copy.dstDevice = c.to;
  copy.WidthInBytes = copy.srcPitch = copy.dstPitch = c.bytes / 4;
  copy.Height = 4;
  return copy;
}

std::vector<Way> ways() {
  return {
      {"Peer", true,
       [](const Copy& c) { return CU(cuMemcpyPeer)(c.to, c.there, c.from, c.here, c.bytes); }},
      {"PeerAsync", true,
       [](const Copy& c) {
         return CU(cuMemcpyPeerAsync)(c.to, c.there, c.from, c.here, c.bytes, nullptr);
       }},
      {"DtoD", true, [](const Copy& c) { return CU(cuMemcpyDtoD)(c.to, c.from, c.bytes); }},
      {"DtoDAsync", true,
       [](const Copy& c) { return CU(cuMemcpyDtoDAsync)(c.to, c.from, c.bytes, nullptr); }},
      {"unified", true, [](const Copy& c) { return CU(cuMemcpy)(c.to, c.from, c.bytes); }},
      {"unifiedAsync", true,
       [](const Copy& c) { return CU(cuMemcpyAsync)(c.to, c.from, c.bytes, nullptr); }},
      {"2D", false,
       [](const Copy& c) {
         const CUDA_MEMCPY2D copy = plane(c, CU_MEMORYTYPE_DEVICE);
         return CU(cuMemcpy2D)(&copy);
       }},
      {"2DAsyncUnified", false,
       [](const Copy& c) {
         const CUDA_MEMCPY2D copy = plane(c, CU_MEMORYTYPE_UNIFIED);
         return CU(cuMemcpy2DAsync)(&copy, nullptr);
       }},
      {"3DPeer", true,
       [](const Copy& c) {
         const CUDA_MEMCPY3D_PEER copy = volume(c);
         return CU(cuMemcpy3DPeer)(&copy);
       }},
      {"3DPeerAsync", true,
       [](const Copy& c) {
         const CUDA_MEMCPY3D_PEER copy = volume(c);
         return CU(cuMemcpy3DPeerAsync)(&copy, nullptr);
       }},
      {"batch", false,
       [](const Copy& c) {
         CUdeviceptr to[] = {c.to, c.to + c.bytes / 2}, from[] = {c.from, c.from + c.bytes / 2};
         size_t sizes[] = {c.bytes / 2, c.bytes / 2};
         CUmemcpyAttributes how = {};
         how.srcAccessOrder = CU_MEMCPY_SRC_ACCESS_ORDER_STREAM;
         size_t first = 0;
         CUstream stream = nullptr;
         must(CU(cuStreamCreate)(&stream, CU_STREAM_NON_BLOCKING), "cuStreamCreate");
         const CUresult result =
             CU(cuMemcpyBatchAsync)(to, from, sizes, 2, &how, &first, 1, stream);
         const CUresult done = CU(cuStreamSynchronize)(stream);
         CU(cuStreamDestroy)(stream);
         return result != CUDA_SUCCESS ? result : done;
       }},
  };
}

void copy_rows(const Pair& pair) {
  const bool reach = reach_each_other();
  uint32_t seed = 40;
  for (const Memory& memory : memory_of(pair)) {
    for (int source : {0, 1}) {
      const int target = 1 - source;
      for (int current : {0, 1}) {
        for (const Way& way : ways()) {
          if (!way.flat && !reach) continue;
          const uint64_t bytes = memory.bytes / 16 * 16;
          row(fmt::format("{}.{}to{}.in{}.{}", memory.name, source, target, current, way.name),
              [&] {
                must(pair.kernels(source).fill(memory.of[source], bytes, ++seed), "fill");
                pair.at(target);
                clear(memory.of[target], bytes);
                pair.at(current);
                const CUresult result =
                    way.run({memory.of[target], memory.of[source], pair.context(target),
                             pair.context(source), bytes});
                const CUresult done = CU(cuCtxSynchronize)();
                return in_order({result_name(result), result_name(done),
                                 pair.kernels(target).contents(memory.of[target], bytes, seed)});
              });
        }
      }
    }
  }
}

CONFORMANCE_GROUP(peer_copies, 240) { copy_rows(Pair{Need::two}); }

CONFORMANCE_GROUP(peer_copies_enabled, 240) {
  const Pair pair;
  pair.enable();
  copy_rows(pair);
}

// Kernels and memsets of one device on the other's memory, from before and after access was given.
void reach_rows(const Pair& pair, const std::string& when, const std::vector<Memory>& all) {
  for (const Memory& memory : all) {
    for (int owner : {0, 1}) {
      const int other = 1 - owner;
      const CUdeviceptr p = memory.of[owner];
      const std::string name = fmt::format("{}{}.of{}.", when, memory.name, owner);
      row(name + "read", [&] {
        must(pair.kernels(owner).fill(p, memory.bytes, 51), "fill");
        return pair.kernels(other).contents(p, memory.bytes, 51);
      });
      row(name + "range", [&] {
        CUdeviceptr base = 0;
        size_t bytes = 0;
        pair.at(other);
        return CU(cuMemGetAddressRange)(&base, &bytes, p);
      });
      row(name + "write", [&] {
        return in_order({result_name(pair.kernels(other).fill(p, memory.bytes, 52)),
                         pair.kernels(owner).contents(p, memory.bytes, 52)});
      });
      row(name + "memset", [&] {
        pair.at(other);
        const CUresult result = CU(cuMemsetD32)(p, 0, memory.bytes / 4);
        const CUresult done = CU(cuCtxSynchronize)();
        uint32_t word = 1;
        pair.at(owner);
        must(CU(cuMemcpyDtoH)(&word, p, sizeof word), "cuMemcpyDtoH");
        return in_order({result_name(result), result_name(done), fmt::format("{}", word)});
      });
    }
  }
}

CONFORMANCE_GROUP(peer_kernels, 240) {
  const Pair pair;
  std::vector<Memory> before = memory_of(pair);
  for (int device : {0, 1}) {  // stream-ordered memory has a switch of its own
    pair.at(device);
    CUmemoryPool pool = nullptr;
    must(CU(cuDeviceGetDefaultMemPool)(&pool, device), "cuDeviceGetDefaultMemPool");
    const CUmemAccessDesc access = {device_location(1 - device),
                                    CU_MEM_ACCESS_FLAGS_PROT_READWRITE};
    row(fmt::format("pool_access.{}", device),
        [&] { return CU(cuMemPoolSetAccess)(pool, &access, 1); });
    row(fmt::format("pool_access_is.{}", device), [&] {
      CUmemLocation location = device_location(1 - device);
      CUmemAccess_flags flags = CU_MEM_ACCESS_FLAGS_PROT_NONE;
      const CUresult result = CU(cuMemPoolGetAccess)(&flags, pool, &location);
      return result_and(result, fmt::format("{}", static_cast<int>(flags)));
    });
  }
  reach_rows(pair, "ordered_only.", {before.back()});
  pair.at(0);
  row("enable", [&] { return CU(cuCtxEnablePeerAccess)(pair.context(1), 0); });
  row("enable_again", [&] { return CU(cuCtxEnablePeerAccess)(pair.context(1), 0); });
  row("enable_flags", [&] { return CU(cuCtxEnablePeerAccess)(pair.context(1), 1); });
  row("enable_self", [&] { return CU(cuCtxEnablePeerAccess)(pair.context(0), 0); });
  pair.at(1);
  row("enable_back", [&] { return CU(cuCtxEnablePeerAccess)(pair.context(0), 0); });
  reach_rows(pair, "before.", before);
  reach_rows(pair, "after.", memory_of(pair));
  pair.at(1);
  row("disable", [&] { return CU(cuCtxDisablePeerAccess)(pair.context(0)); });
  row("disable_again", [&] { return CU(cuCtxDisablePeerAccess)(pair.context(0)); });
  row("enable_once_more", [&] { return CU(cuCtxEnablePeerAccess)(pair.context(0), 0); });
  reach_rows(pair, "once_more.", before);
}

CONFORMANCE_GROUP(peer_questions, 120) {
  const Pair pair{Need::two};
  for (const Memory& memory : memory_of(pair)) {
    for (int owner : {0, 1}) {
      const CUdeviceptr p = memory.of[owner];
      const std::string name = fmt::format("{}.of{}.", memory.name, owner);
      pair.at(owner);
      clear(p, memory.bytes);
      pair.at(1 - owner);
      row(name + "device", [&] {
        int ordinal = -1;
        const CUresult result =
            CU(cuPointerGetAttribute)(&ordinal, CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL, p);
        return result_and(result, fmt::format("{}", ordinal));
      });
      row(name + "context", [&] {
        CUcontext context = nullptr;
        const CUresult result =
            CU(cuPointerGetAttribute)(&context, CU_POINTER_ATTRIBUTE_CONTEXT, p);
        return result_and(result, context == nullptr               ? "null"
                                  : context == pair.context(owner) ? "owner"
                                                                   : "other");
      });
      row(name + "range", [&] {
        CUdeviceptr base = 0;
        size_t bytes = 0;
        const CUresult result = CU(cuMemGetAddressRange)(&base, &bytes, p + 100);
        return result_and(result, fmt::format("{} {}", relation(base, p, bytes), bytes));
      });
      row(name + "memset", [&] {
        const CUresult result = CU(cuMemsetD8)(p, 5, memory.bytes);
        const CUresult done = CU(cuCtxSynchronize)();
        return in_order({result_name(result), result_name(done)});
      });
      row(name + "to_host", [&] {
        unsigned char byte = 0;
        const CUresult result = CU(cuMemcpyDtoH)(&byte, p + 100, 1);
        return result_and(result, fmt::format("{}", byte));
      });
      row(name + "from_host", [&] {
        const unsigned char byte = 9;
        unsigned char back = 0;
        const CUresult result = CU(cuMemcpyHtoD)(p + 200, &byte, 1);
        pair.at(owner);
        CU(cuMemcpyDtoH)(&back, p + 200, 1);
        pair.at(1 - owner);
        return result_and(result, fmt::format("{}", back));
      });
      row(name + "free", [&] { return CU(cuMemFree)(p); });
      row(name + "free_again", [&] { return CU(cuMemFree)(p); });
    }
  }
  for (int device : {0, 1}) {
    row(fmt::format("free_memory.{}", device), [&] {
      size_t before[2], after[2], total = 0;
      for (int i : {0, 1}) {
        pair.at(i);
        must(CU(cuMemGetInfo)(&before[i], &total), "cuMemGetInfo");
      }
      pair.at(device);
      allocate(large_bytes() / 2);
      for (int i : {0, 1}) {
        pair.at(i);
        must(CU(cuMemGetInfo)(&after[i], &total), "cuMemGetInfo");
      }
      return in_order({after[device] < before[device] ? "less" : "not less",
                       after[1 - device] == before[1 - device] ? "same" : "other"});
    });
  }
}

// Copies to and from the host on a stream of the other device.
CONFORMANCE_GROUP(peer_host_async, 120) {
  const Pair pair;
  for (const Memory& memory : memory_of(pair)) {
    for (int owner : {0, 1}) {
      const CUdeviceptr p = memory.of[owner];
      pair.at(owner);
      clear(p, memory.bytes);
      pair.at(1 - owner);
      row(fmt::format("{}.of{}", memory.name, owner), [&] {
        const unsigned char byte = 9;
        unsigned char back = 0;
        const CUresult to = CU(cuMemcpyHtoDAsync)(p + 100, &byte, 1, nullptr);
        const CUresult from = CU(cuMemcpyDtoHAsync)(&back, p + 100, 1, nullptr);
        const CUresult done = CU(cuStreamSynchronize)(nullptr);
        return in_order(
            {result_name(to), result_name(from), result_name(done), fmt::format("{}", back)});
      });
    }
  }
}

CONFORMANCE_GROUP(peer_graphs, 120) {
  const Pair pair;
  pair.enable();
  for (const Memory& memory : memory_of(pair)) {
    row(memory.name, [&] {
      const uint64_t bytes = memory.bytes;
      pair.at(0);
      CUstream stream = nullptr;
      must(CU(cuStreamCreate)(&stream, CU_STREAM_NON_BLOCKING), "cuStreamCreate");
      must(CU(cuStreamBeginCapture)(stream, CU_STREAM_CAPTURE_MODE_GLOBAL), "begin");
      const CUresult copied = CU(cuMemcpyAsync)(memory.of[1], memory.of[0], bytes, stream);
      CUgraph graph = nullptr;
      const CUresult ended = CU(cuStreamEndCapture)(stream, &graph);
      CUgraphExec exec = nullptr;
      const CUresult made = CU(cuGraphInstantiate)(&exec, graph, 0);
      std::string found;
      for (uint32_t seed : {61u, 62u}) {
        must(pair.kernels(0).fill(memory.of[0], bytes, seed), "fill");
        must(CU(cuGraphLaunch)(exec, stream), "cuGraphLaunch");
        must(CU(cuStreamSynchronize)(stream), "cuStreamSynchronize");
        found += " " + pair.kernels(1).contents(memory.of[1], bytes, seed);
      }
      return in_order({result_name(copied), result_name(ended), result_name(made)}) + found;
    });
  }
}

// args: handle, bytes, the devices it is opened on, one digit each. Looks for seed 71, writes 72.
CONFORMANCE_HELPER(peer_ipc_open) {
  const Pair pair;
  CUipcMemHandle handle;
  for (size_t i = 0; i < sizeof handle; ++i) {
    reinterpret_cast<unsigned char*>(&handle)[i] =
        static_cast<unsigned char>(std::strtoul(args[0].substr(2 * i, 2).c_str(), nullptr, 16));
  }
  const uint64_t bytes = std::strtoull(args[1].c_str(), nullptr, 10);
  std::vector<CUdeviceptr> opened;
  for (const char digit : args[2]) {
    const int device = digit - '0';
    CUdeviceptr p = 0;
    pair.at(device);
    const CUresult result = CU(cuIpcOpenMemHandle)(&p, handle, CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS);
    std::printf("open%d %s", device, result_name(result).c_str());
    if (result == CUDA_SUCCESS) {
      std::printf(" %s,", pair.kernels(device).contents(p, bytes, 71).c_str());
      opened.push_back(p);
    }
  }
  if (opened.size() == args[2].size()) {
    const int last = args[2].back() - '0';
    std::printf(" write %s,",
                result_name(pair.kernels(last).fill(opened.back(), bytes, 72)).c_str());
  }
  for (size_t i = 0; i < opened.size(); ++i) {
    pair.at(args[2][i] - '0');
    std::printf(" close %s", result_name(CU(cuIpcCloseMemHandle)(opened[i])).c_str());
  }
  std::printf("\n");
  return 0;
}

CONFORMANCE_GROUP(peer_ipc, 240) {
  const Pair pair;
  for (const Memory& memory : memory_of(pair)) {
    if (memory.name == "ordered") continue;
    for (int owner : {0, 1}) {
      const std::string name = fmt::format("{}.of{}.", memory.name, owner);
      pair.at(owner);
      CUipcMemHandle handle = {};
      const CUresult got = CU(cuIpcGetMemHandle)(&handle, memory.of[owner]);
      row(name + "get", got);
      if (got != CUDA_SUCCESS) continue;
      std::string hex;
      for (size_t i = 0; i < sizeof handle; ++i)
        hex += fmt::format("{:02x}", reinterpret_cast<const unsigned char*>(&handle)[i]);
      for (const char* devices : {"0", "1", "01", "10"}) {
        row(name + "opened_on_" + devices, [&] {
          must(pair.kernels(owner).fill(memory.of[owner], memory.bytes, 71), "fill");
          const std::string answer =
              ask_helper({"peer_ipc_open", hex, fmt::format("{}", memory.bytes), devices});
          return answer + "; here " +
                 pair.kernels(owner).contents(memory.of[owner], memory.bytes, 72);
        });
      }
    }
  }
}

}  // namespace
}  // namespace flexlom::conformance
