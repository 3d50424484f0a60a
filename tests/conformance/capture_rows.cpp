// Stream capture: what each call answers while a capture is open, in each mode, from the capturing
// thread and from another one, and what is left of the capture afterwards.
#include <cstdlib>
#include <functional>
#include <thread>

#include "kernels/testing.h"
#include "tests/conformance/driver.hpp"

namespace flexlom::conformance {
namespace {

// What the actions work on; made before the capture begins.
struct Stage {
  Gpu gpu;
  Kernels kernels;
  CUstream captured = nullptr;
  CUstream other = nullptr;
  CUdeviceptr scratch = 0;       // 3 MiB that stays
  CUdeviceptr victim = 0;        // 3 MiB to free
  CUdeviceptr async_victim = 0;  // 1 MiB, stream-ordered, to free
  CUevent event = nullptr;
  void* host = nullptr;

  Stage() {
    must(CU(cuStreamCreate)(&other, CU_STREAM_NON_BLOCKING), "cuStreamCreate");
    must(CU(cuEventCreate)(&event, CU_EVENT_DISABLE_TIMING), "cuEventCreate");
    must(CU(cuEventRecord)(event, other), "cuEventRecord");
    scratch = allocate(3 * kMiB);
    must(CU(cuMemHostAlloc)(&host, kMiB, 0), "cuMemHostAlloc");
  }
  void refill() {
    must(CU(cuStreamCreate)(&captured, CU_STREAM_NON_BLOCKING), "cuStreamCreate");
    victim = allocate(3 * kMiB);
    must(CU(cuMemAllocAsync)(&async_victim, kMiB, other), "cuMemAllocAsync");
    must(CU(cuStreamSynchronize)(other), "cuStreamSynchronize");
  }
};

struct Action {
  const char* name;
  std::function<CUresult(Stage&)> run;
};

std::vector<Action> memory_actions() {
  return {
      {"alloc",
       [](Stage&) {
         CUdeviceptr p = 0;
         return CU(cuMemAlloc)(&p, 3 * kMiB);
       }},
      {"alloc_small",
       [](Stage&) {
         CUdeviceptr p = 0;
         return CU(cuMemAlloc)(&p, 1000);
       }},
      {"alloc_zero",
       [](Stage&) {
         CUdeviceptr p = 0;
         return CU(cuMemAlloc)(&p, 0);
       }},
      {"alloc_huge",
       [](Stage&) {
         CUdeviceptr p = 0;
         return CU(cuMemAlloc)(&p, uint64_t{1} << 50);
       }},
      {"alloc_pitch",
       [](Stage&) {
         CUdeviceptr p = 0;
         size_t pitch = 0;
         return CU(cuMemAllocPitch)(&p, &pitch, 1000, 1000, 4);
       }},
      {"free", [](Stage& stage) { return CU(cuMemFree)(stage.victim); }},
      {"free_null", [](Stage&) { return CU(cuMemFree)(0); }},
      {"free_unknown", [](Stage&) { return CU(cuMemFree)(0x600000000000); }},
      {"alloc_managed",
       [](Stage&) {
         CUdeviceptr p = 0;
         return CU(cuMemAllocManaged)(&p, 5000, CU_MEM_ATTACH_GLOBAL);
       }},
      {"host_alloc",
       [](Stage&) {
         void* p = nullptr;
         return CU(cuMemHostAlloc)(&p, 5000, 0);
       }},
      {"host_register",
       [](Stage&) { return CU(cuMemHostRegister)(std::aligned_alloc(4096, 8192), 8192, 0); }},
      {"alloc_async_other",
       [](Stage& stage) {
         CUdeviceptr p = 0;
         return CU(cuMemAllocAsync)(&p, kMiB, stage.other);
       }},
      {"alloc_async_legacy",
       [](Stage&) {
         CUdeviceptr p = 0;
         return CU(cuMemAllocAsync)(&p, kMiB, nullptr);
       }},
      {"free_async_other",
       [](Stage& stage) { return CU(cuMemFreeAsync)(stage.async_victim, stage.other); }},
      {"meminfo",
       [](Stage&) {
         size_t free_bytes = 0;
         size_t total = 0;
         return CU(cuMemGetInfo)(&free_bytes, &total);
       }},
      {"address_range",
       [](Stage& stage) {
         CUdeviceptr base = 0;
         size_t size = 0;
         return CU(cuMemGetAddressRange)(&base, &size, stage.scratch);
       }},
      {"attribute",
       [](Stage& stage) {
         unsigned type = 0;
         return CU(cuPointerGetAttribute)(&type, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, stage.scratch);
       }},
      {"set_sync_memops",
       [](Stage& stage) {
         unsigned on = 1;
         return CU(cuPointerSetAttribute)(&on, CU_POINTER_ATTRIBUTE_SYNC_MEMOPS, stage.scratch);
       }},
      {"ipc_handle",
       [](Stage& stage) {
         CUipcMemHandle handle;
         return CU(cuIpcGetMemHandle)(&handle, stage.scratch);
       }},
      {"pool_trim",
       [](Stage&) {
         CUmemoryPool pool = nullptr;
         CU(cuDeviceGetDefaultMemPool)(&pool, 0);
         return CU(cuMemPoolTrimTo)(pool, 0);
       }},
  };
}

std::vector<Action> work_actions() {
  return {
      {"copy_to_device",
       [](Stage& stage) { return CU(cuMemcpyHtoD)(stage.scratch, stage.host, 4096); }},
      {"copy_from_device",
       [](Stage& stage) { return CU(cuMemcpyDtoH)(stage.host, stage.scratch, 4096); }},
      {"memset", [](Stage& stage) { return CU(cuMemsetD8)(stage.scratch, 1, 4096); }},
      {"memset_other",
       [](Stage& stage) { return CU(cuMemsetD8Async)(stage.scratch, 1, 4096, stage.other); }},
      {"memset_legacy_async",
       [](Stage& stage) { return CU(cuMemsetD8Async)(stage.scratch, 1, 4096, nullptr); }},
      {"launch_other",
       [](Stage& stage) { return stage.kernels.launch(stage.other, "flex_empty"); }},
      {"launch_legacy", [](Stage& stage) { return stage.kernels.launch(nullptr, "flex_empty"); }},
      {"ctx_synchronize", [](Stage&) { return CU(cuCtxSynchronize)(); }},
      {"sync_other", [](Stage& stage) { return CU(cuStreamSynchronize)(stage.other); }},
      {"sync_captured", [](Stage& stage) { return CU(cuStreamSynchronize)(stage.captured); }},
      {"query_other", [](Stage& stage) { return CU(cuStreamQuery)(stage.other); }},
      {"query_captured", [](Stage& stage) { return CU(cuStreamQuery)(stage.captured); }},
      {"event_query", [](Stage& stage) { return CU(cuEventQuery)(stage.event); }},
      {"event_synchronize", [](Stage& stage) { return CU(cuEventSynchronize)(stage.event); }},
      {"event_record_other",
       [](Stage& stage) { return CU(cuEventRecord)(stage.event, stage.other); }},
      {"ctx_record_event",
       [](Stage& stage) { return CU(cuCtxRecordEvent)(stage.gpu.context, stage.event); }},
      {"module_load",
       [](Stage&) {
         CUmodule module = nullptr;
         return CU(cuModuleLoadData)(&module, flexlom_testing_fatbin);
       }},
      {"stream_create",
       [](Stage&) {
         CUstream stream = nullptr;
         return CU(cuStreamCreate)(&stream, CU_STREAM_NON_BLOCKING);
       }},
      {"set_limit", [](Stage&) { return CU(cuCtxSetLimit)(CU_LIMIT_PRINTF_FIFO_SIZE, kMiB); }},
  };
}

const char* status_name(CUstreamCaptureStatus status) {
  return status == CU_STREAM_CAPTURE_STATUS_NONE     ? "none"
         : status == CU_STREAM_CAPTURE_STATUS_ACTIVE ? "active"
                                                     : "invalidated";
}

// One capture with one action in it: the action's result, the state afterwards, what ends it.
std::string one_capture(Stage& stage, const Action& action, CUstreamCaptureMode mode,
                        bool other_thread) {
  stage.refill();
  CUresult result = CU(cuStreamBeginCapture)(stage.captured, mode);
  if (result != CUDA_SUCCESS) {
    return "begin " + result_name(result);
  }
  stage.kernels.launch(stage.captured, "flex_fill", stage.scratch, uint64_t{1000}, uint32_t{1});
  if (other_thread) {
    std::thread([&] {
      CU(cuCtxSetCurrent)(stage.gpu.context);
      result = action.run(stage);
    }).join();
  } else {
    result = action.run(stage);
  }
  CUstreamCaptureStatus status = CU_STREAM_CAPTURE_STATUS_NONE;
  CU(cuStreamIsCapturing)(stage.captured, &status);
  CUgraph graph = nullptr;
  const CUresult ended = CU(cuStreamEndCapture)(stage.captured, &graph);
  size_t nodes = 0;
  if (graph != nullptr) {
    CU(cuGraphGetNodes)(graph, nullptr, &nodes);
    CU(cuGraphDestroy)(graph);
  }
  CU(cuStreamDestroy)(stage.captured);
  CU(cuMemFree)(stage.victim);
  CU(cuMemFreeAsync)(stage.async_victim, stage.other);
  return fmt::format("{}, {}, end {}, {}", result_name(result), status_name(status),
                     result_name(ended),
                     graph == nullptr ? "no graph" : fmt::format("{} nodes", nodes));
}

void mode_rows(const std::vector<Action>& actions) {
  Stage stage;
  const struct {
    const char* name;
    CUstreamCaptureMode mode;
  } modes[] = {{"global", CU_STREAM_CAPTURE_MODE_GLOBAL},
               {"thread_local", CU_STREAM_CAPTURE_MODE_THREAD_LOCAL},
               {"relaxed", CU_STREAM_CAPTURE_MODE_RELAXED}};
  for (const auto& mode : modes) {
    for (const Action& action : actions) {
      for (bool other_thread : {false, true}) {
        row(fmt::format("{}.{}.{}", mode.name, action.name, other_thread ? "other" : "same"),
            [&] { return one_capture(stage, action, mode.mode, other_thread); });
      }
    }
  }
}

CONFORMANCE_GROUP(capture_memory, 120) { mode_rows(memory_actions()); }
CONFORMANCE_GROUP(capture_work, 120) { mode_rows(work_actions()); }

// A thread that switched itself to the relaxed mode may allocate beside a global capture.
CONFORMANCE_GROUP(capture_exchange, 60) {
  Stage stage;
  row("alloc_in_relaxed_thread", [&] {
    const Action action = {"", [](Stage&) {
                             CUstreamCaptureMode mode = CU_STREAM_CAPTURE_MODE_RELAXED;
                             CU(cuThreadExchangeStreamCaptureMode)(&mode);
                             CUdeviceptr p = 0;
                             const CUresult result = CU(cuMemAlloc)(&p, 3 * kMiB);
                             CU(cuThreadExchangeStreamCaptureMode)(&mode);
                             return result;
                           }};
    return one_capture(stage, action, CU_STREAM_CAPTURE_MODE_GLOBAL, false) + "; " +
           one_capture(stage, action, CU_STREAM_CAPTURE_MODE_GLOBAL, true);
  });
  row("mode_after_alloc", [&] {
    CUdeviceptr p = 0;
    CU(cuMemAlloc)(&p, 5 * kMiB);
    CUstreamCaptureMode mode = CU_STREAM_CAPTURE_MODE_RELAXED;
    CU(cuThreadExchangeStreamCaptureMode)(&mode);
    return fmt::format("{}", static_cast<int>(mode));
  });
}

}  // namespace
}  // namespace flexlom::conformance
