// Without cuInit, without a context, with a dead one, with two, after a reset.
#include <functional>
#include <thread>
#include <vector>

#include "tests/conformance/driver.hpp"

namespace flexlom::conformance {
namespace {

struct Question {
  const char* name;
  std::function<CUresult()> ask;
};

// Every memory call in its simplest form. The pointer may be of a dead context.
std::vector<Question> memory_questions(CUdeviceptr p) {
  static CUdeviceptr out = 0;
  static size_t size = 0;
  static size_t pitch = 0;
  static void* host = nullptr;
  static unsigned word = 0;
  static char bytes[64];
  static CUmemoryPool pool = nullptr;
  static CUipcMemHandle handle;
  return {
      {"mem_get_info", [] { return CU(cuMemGetInfo)(&size, &pitch); }},
      {"mem_get_info_null", [] { return CU(cuMemGetInfo)(nullptr, nullptr); }},
      {"total_mem", [] { return CU(cuDeviceTotalMem)(&size, 0); }},
      {"alloc_zero", [] { return CU(cuMemAlloc)(&out, 0); }},
      {"alloc_null_out", [] { return CU(cuMemAlloc)(nullptr, 1000); }},
      {"alloc_pitch", [] { return CU(cuMemAllocPitch)(&out, &pitch, 100, 100, 4); }},
      {"alloc_async", [] { return CU(cuMemAllocAsync)(&out, 1000, nullptr); }},
      {"alloc_managed", [] { return CU(cuMemAllocManaged)(&out, 1000, CU_MEM_ATTACH_GLOBAL); }},
      {"host_alloc", [] { return CU(cuMemHostAlloc)(&host, 1000, 0); }},
      {"alloc_host", [] { return CU(cuMemAllocHost)(&host, 1000); }},
      {"free_null", [] { return CU(cuMemFree)(0); }},
      {"free_unknown", [] { return CU(cuMemFree)(0x600000000000); }},
      {"free_async_null", [] { return CU(cuMemFreeAsync)(0, nullptr); }},
      {"address_range", [p] { return CU(cuMemGetAddressRange)(&out, &size, p); }},
      {"memory_type",
       [p] { return CU(cuPointerGetAttribute)(&word, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, p); }},
      {"context_attribute",
       [p] { return CU(cuPointerGetAttribute)(bytes, CU_POINTER_ATTRIBUTE_CONTEXT, p); }},
      {"range_size",
       [p] { return CU(cuPointerGetAttribute)(bytes, CU_POINTER_ATTRIBUTE_RANGE_SIZE, p); }},
      {"attributes",
       [p] {
         CUpointer_attribute ids[] = {CU_POINTER_ATTRIBUTE_MEMORY_TYPE};
         void* data[] = {&word};
         return CU(cuPointerGetAttributes)(1, ids, data, p);
       }},
      {"set_attribute",
       [p] {
         word = 1;
         return CU(cuPointerSetAttribute)(&word, CU_POINTER_ATTRIBUTE_SYNC_MEMOPS, p);
       }},
      {"default_pool", [] { return CU(cuDeviceGetDefaultMemPool)(&pool, 0); }},
      {"current_pool", [] { return CU(cuDeviceGetMemPool)(&pool, 0); }},
      {"ipc_handle", [p] { return CU(cuIpcGetMemHandle)(&handle, p); }},
      {"copy_to", [p] { return CU(cuMemcpyHtoD)(p, bytes, 16); }},
      {"copy_from", [p] { return CU(cuMemcpyDtoH)(bytes, p, 16); }},
      {"memset", [p] { return CU(cuMemsetD8)(p, 0, 16); }},
      {"memset_async", [p] { return CU(cuMemsetD8Async)(p, 0, 16, nullptr); }},
      {"ctx_synchronize", [] { return CU(cuCtxSynchronize)(); }},
      {"stream_synchronize", [] { return CU(cuStreamSynchronize)(nullptr); }},
      {"reserve", [] { return CU(cuMemAddressReserve)(&out, 2 * kMiB, 0, 0, 0); }},
      {"graph_trim", [] { return CU(cuDeviceGraphMemTrim)(0); }},
      {"alloc", [] { return CU(cuMemAlloc)(&out, 1000); }},
      {"alloc_large", [] { return CU(cuMemAlloc)(&out, 3 * kMiB); }},
      {"free", [p] { return CU(cuMemFree)(p); }},
  };
}

void question_rows(const std::string& prefix, CUdeviceptr p) {
  for (const Question& question : memory_questions(p)) {
    row(prefix + question.name, [&] { return question.ask(); });
  }
}

CONFORMANCE_GROUP(context_before_init, 60) {
  question_rows("", 0x600000000000);
  row("init_flags_1", [] { return CU(cuInit)(1); });
  row("init", [] { return CU(cuInit)(0); });
  row("init_again", [] { return CU(cuInit)(0); });
}

CONFORMANCE_GROUP(context_none, 60) {
  must(CU(cuInit)(0), "cuInit");
  question_rows("", 0x600000000000);
}

CONFORMANCE_GROUP(context_popped, 60) {
  Gpu gpu;
  const CUdeviceptr p = allocate(3 * kMiB);
  must(CU(cuCtxSetCurrent)(nullptr), "cuCtxSetCurrent");
  question_rows("", p);
}

CONFORMANCE_GROUP(context_other_thread, 60) {
  Gpu gpu;
  const CUdeviceptr p = allocate(3 * kMiB);
  std::thread([&] { question_rows("", p); }).join();
}

// cuCtxDestroy takes the memory along.
CONFORMANCE_GROUP(context_destroyed, 60) {
  must(CU(cuInit)(0), "cuInit");
  CUcontext context = nullptr;
  must(CU(cuCtxCreate)(&context, nullptr, 0, 0), "cuCtxCreate");
  const CUdeviceptr p = allocate(3 * kMiB);
  row("destroy", [&] { return CU(cuCtxDestroy)(context); });
  question_rows("nothing_current.", p);
  Gpu gpu;
  row("free_from_primary", [&] { return CU(cuMemFree)(p); });
  row("attribute_from_primary", [&] {
    unsigned type = 0;
    return CU(cuPointerGetAttribute)(&type, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, p);
  });
  row("alloc_in_primary", [&] {
    CUdeviceptr q = 0;
    const CUresult result = CU(cuMemAlloc)(&q, 3 * kMiB);
    return in_order({result_name(result), result_name(CU(cuMemsetD8)(q, 1, 3 * kMiB)),
                     result_name(CU(cuMemFree)(q))});
  });
}

// Create, allocate half of what we may use, destroy: only works when the memory comes back.
CONFORMANCE_GROUP(context_cycle, 120) {
  must(CU(cuInit)(0), "cuInit");
  row("created", [&]() -> std::string {
    for (int i = 0; i < 6; ++i) {
      CUcontext context = nullptr;
      must(CU(cuCtxCreate)(&context, nullptr, 0, 0), "cuCtxCreate");
      CUdeviceptr p = 0;
      const CUresult result = CU(cuMemAlloc)(&p, capacity_bytes() / 2);
      if (result != CUDA_SUCCESS) {
        return fmt::format("{} in round {}", result_name(result), i);
      }
      must(CU(cuMemsetD8)(p, 1, capacity_bytes() / 2), "cuMemsetD8");
      must(CU(cuCtxDestroy)(context), "cuCtxDestroy");
    }
    return "ok";
  });
  row("primary", [&]() -> std::string {
    for (int i = 0; i < 6; ++i) {
      Gpu gpu;
      CUdeviceptr p = 0;
      const CUresult result = CU(cuMemAlloc)(&p, capacity_bytes() / 2);
      if (result != CUDA_SUCCESS) {
        return fmt::format("{} in round {}", result_name(result), i);
      }
      must(CU(cuMemsetD8)(p, 1, capacity_bytes() / 2), "cuMemsetD8");
      must(CU(cuDevicePrimaryCtxRelease)(0), "cuDevicePrimaryCtxRelease");
    }
    return "ok";
  });
}

CONFORMANCE_GROUP(context_reset, 60) {
  Gpu gpu;
  const CUdeviceptr small = allocate(1000);
  const CUdeviceptr large = allocate(3 * kMiB);
  CUdeviceptr async = 0;
  must(CU(cuMemAllocAsync)(&async, 3 * kMiB, nullptr), "cuMemAllocAsync");
  row("reset", [&] { return CU(cuDevicePrimaryCtxReset)(0); });
  row("state", [&] {
    unsigned flags = 0;
    int active = 7;
    const CUresult result = CU(cuDevicePrimaryCtxGetState)(0, &flags, &active);
    return result_and(result, active != 0 ? "active" : "inactive");
  });
  question_rows("stale_context.", large);
  row("retain", [&] { return CU(cuDevicePrimaryCtxRetain)(&gpu.context, 0); });
  row("set", [&] { return CU(cuCtxSetCurrent)(gpu.context); });
  row("free_small", [&] { return CU(cuMemFree)(small); });
  row("free_large", [&] { return CU(cuMemFree)(large); });
  row("free_async", [&] { return CU(cuMemFree)(async); });
  row("alloc", [&] {
    CUdeviceptr p = 0;
    const CUresult result = CU(cuMemAlloc)(&p, 3 * kMiB);
    return in_order({result_name(result), result_name(CU(cuMemsetD8)(p, 1, 3 * kMiB)),
                     result_name(CU(cuMemFree)(p))});
  });
}

// Two contexts of one device: whose memory is it, and who may use and free it.
CONFORMANCE_GROUP(context_two, 60) {
  Gpu gpu;
  const CUdeviceptr p = allocate(3 * kMiB);
  const CUdeviceptr small = allocate(1000);
  CUcontext second = nullptr;
  must(CU(cuCtxCreate)(&second, nullptr, 0, 0), "cuCtxCreate");
  const CUdeviceptr q = allocate(3 * kMiB);
  for (CUdeviceptr pointer : {p, small, q}) {
    const std::string name = pointer == q ? "own." : pointer == p ? "foreign." : "foreign_small.";
    row(name + "context", [&] {
      CUcontext owner = nullptr;
      const CUresult result =
          CU(cuPointerGetAttribute)(&owner, CU_POINTER_ATTRIBUTE_CONTEXT, pointer);
      return result_and(result, context_name(owner));
    });
    row(name + "memset", [&] {
      const CUresult result = CU(cuMemsetD8)(pointer, 3, 1000);
      return result_name(result) + " " + result_name(CU(cuCtxSynchronize)());
    });
    row(name + "kernel", [&] {
      Kernels kernels;
      kernels.fill(pointer, 1000, 5);
      return kernels.contents(pointer, 1000, 5);
    });
    row(name + "range", [&] {
      CUdeviceptr base = 0;
      size_t size = 0;
      const CUresult result = CU(cuMemGetAddressRange)(&base, &size, pointer);
      return result_and(result, fmt::format("{} {}", relation(base, pointer, 0), size));
    });
  }
  row("copy_between", [&] { return CU(cuMemcpyPeer)(q, second, p, gpu.context, 3 * kMiB); });
  row("peer_access", [&] { return CU(cuCtxEnablePeerAccess)(gpu.context, 0); });
  row("free_foreign", [&] { return CU(cuMemFree)(p); });
  row("free_foreign_small", [&] { return CU(cuMemFree)(small); });
  row("destroy_second", [&] { return CU(cuCtxDestroy)(second); });
  must(CU(cuCtxSetCurrent)(gpu.context), "cuCtxSetCurrent");
  row("free_of_dead", [&] { return CU(cuMemFree)(q); });
  row("free_again", [&] { return CU(cuMemFree)(p); });
  row("alloc", [&] { return CU(cuMemFree)(allocate(3 * kMiB)); });
}

CONFORMANCE_GROUP(context_create_versions, 60) {
  must(CU(cuInit)(0), "cuInit");
  using Old = CUresult (*)(CUcontext*, unsigned, CUdevice);
  for (const char* name : {"cuCtxCreate", "cuCtxCreate_v2"}) {
    row(name, [&] {
      CUcontext context = nullptr;
      const CUresult result = reinterpret_cast<Old>(driver_entry(name))(&context, 0, 0);
      if (result != CUDA_SUCCESS) {
        return result_name(result);
      }
      CUdeviceptr p = 0;
      const CUresult allocated = CU(cuMemAlloc)(&p, 3 * kMiB);
      return in_order({"SUCCESS", result_name(allocated), result_name(CU(cuMemFree)(p)),
                       result_name(CU(cuCtxDestroy)(context))});
    });
  }
  row("v3", [] {
    using V3 = CUresult (*)(CUcontext*, CUexecAffinityParam*, int, unsigned, CUdevice);
    CUcontext context = nullptr;
    const CUresult result =
        reinterpret_cast<V3>(driver_entry("cuCtxCreate_v3"))(&context, nullptr, 0, 0, 0);
    return result == CUDA_SUCCESS ? "SUCCESS " + result_name(CU(cuCtxDestroy)(context))
                                  : result_name(result);
  });
  row("bad_device", [] {
    CUcontext context = nullptr;
    return CU(cuCtxCreate)(&context, nullptr, 0, 99);
  });
  row("null_out", [] { return CU(cuCtxCreate)(nullptr, nullptr, 0, 0); });
}

// Many threads allocate, use and free at once.
CONFORMANCE_GROUP(context_threads, 120) {
  Gpu gpu;
  Kernels kernels;
  std::vector<std::string> answers(8);
  std::vector<std::thread> threads;
  for (uint32_t t = 0; t < answers.size(); ++t) {
    threads.emplace_back([&, t] {
      CU(cuCtxSetCurrent)(gpu.context);
      CUstream stream = nullptr;
      CU(cuStreamCreate)(&stream, CU_STREAM_NON_BLOCKING);
      const CUdeviceptr mark = allocate(8);
      uint64_t wrong = 0;
      for (uint32_t i = 0; i < 40; ++i) {
        const uint64_t bytes = i % 4 == 0 ? 2 * kMiB + 4 * i : 4096 * (1 + i % 9);
        CUdeviceptr p = 0;
        if (CU(cuMemAlloc)(&p, bytes) != CUDA_SUCCESS) {
          answers[t] = "allocation failed";
          return;
        }
        CU(cuMemsetD8Async)(mark, 0, 8, stream);
        kernels.launch(stream, "flex_fill", p, bytes / 4, t * 1000 + i);
        kernels.launch(stream, "flex_check", p, bytes / 4, t * 1000 + i, mark);
        uint64_t seen = 0;
        CU(cuMemcpyDtoHAsync)(&seen, mark, 8, stream);
        CU(cuStreamSynchronize)(stream);
        wrong += seen;
        CU(cuMemFree)(p);
      }
      answers[t] = wrong == 0 ? "right" : fmt::format("{} wrong", wrong);
    });
  }
  for (std::thread& thread : threads) {
    thread.join();
  }
  for (size_t t = 0; t < answers.size(); ++t) {
    row(fmt::format("thread_{}", t), answers[t]);
  }
}

}  // namespace
}  // namespace flexlom::conformance
