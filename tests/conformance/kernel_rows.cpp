// Kernels on allocated memory: every launch call, parameters by both routes, pointers in memory.
#include <cstring>

#include "kernels/testing.h"
#include "tests/conformance/driver.hpp"

namespace flexlom::conformance {
namespace {

CONFORMANCE_GROUP(kernel_launch, 120) {
  Gpu gpu;
  Kernels kernels;
  CUstream stream = nullptr;
  must(CU(cuStreamCreate)(&stream, CU_STREAM_NON_BLOCKING), "cuStreamCreate");
  for (uint64_t bytes : {uint64_t{4096}, 3 * kMiB, large_bytes()}) {
    const std::string name = (bytes == large_bytes() ? "large" : size_name(bytes)) + ".";
    const CUdeviceptr p = allocate(bytes);
    uint64_t words = bytes / 4;
    uint32_t seed = 0;
    CUdeviceptr target = p;
    void* params[] = {&target, &words, &seed};
    const CUfunction fill = kernels.function("flex_fill");
    const auto check = [&](CUresult result) {
      const CUresult waited = CU(cuCtxSynchronize)();
      return result_name(result) + " " + result_name(waited) + " " +
             kernels.contents(p, bytes, seed);
    };
    for (const char* twin : {"", "_ptsz"}) {
      ++seed;
      row(name + "launch" + twin, [&] {
        return check(CU_AS(cuLaunchKernel, (std::string("cuLaunchKernel") + twin).c_str())(
            fill, 100, 1, 1, 256, 1, 1, 0, stream, params, nullptr));
      });
      ++seed;
      row(name + "launch_ex" + twin, [&] {
        CUlaunchConfig config = {};
        config.gridDimX = 100;
        config.blockDimX = 256;
        config.gridDimY = config.gridDimZ = config.blockDimY = config.blockDimZ = 1;
        config.hStream = stream;
        return check(CU_AS(cuLaunchKernelEx, (std::string("cuLaunchKernelEx") + twin).c_str())(
            &config, fill, params, nullptr));
      });
      ++seed;
      row(name + "cooperative" + twin, [&] {
        return check(CU_AS(cuLaunchCooperativeKernel,
                           (std::string("cuLaunchCooperativeKernel") + twin).c_str())(
            fill, 16, 1, 1, 256, 1, 1, 0, stream, params));
      });
    }
    ++seed;
    row(name + "extra_buffer", [&] {
      struct {
        CUdeviceptr target;
        uint64_t words;
        uint32_t seed;
      } packed = {p, words, seed};
      size_t size = 20;
      void* extra[] = {CU_LAUNCH_PARAM_BUFFER_POINTER, &packed, CU_LAUNCH_PARAM_BUFFER_SIZE, &size,
                       CU_LAUNCH_PARAM_END};
      return check(CU(cuLaunchKernel)(fill, 100, 1, 1, 256, 1, 1, 0, stream, nullptr, extra));
    });
    row(name + "interior", [&] {
      must(CU(cuMemsetD8)(p, 0, bytes), "cuMemsetD8");
      kernels.launch(nullptr, "flex_fill", p + bytes / 2, words / 2, uint32_t{9});
      return kernels.contents(p + bytes / 2, bytes / 2, 9);
    });
    must(CU(cuMemFree)(p), "cuMemFree");
  }
}

// A chain of pointers through several allocations, known to the device only.
CONFORMANCE_GROUP(kernel_pointers_in_memory, 60) {
  Gpu gpu;
  Kernels kernels;
  const uint64_t sizes[] = {4096, 3 * kMiB, large_bytes(), 1000};
  CUdeviceptr link[4];
  for (int i = 0; i < 4; ++i) {
    link[i] = allocate(sizes[i]) + sizes[i] / 2 / 8 * 8;
  }
  for (int i = 0; i < 4; ++i) {
    must(CU(cuMemcpyHtoD)(link[i], &link[(i + 1) % 4], sizeof link[0]), "cuMemcpyHtoD");
  }
  const CUdeviceptr last = allocate(8);
  for (uint64_t steps : {1, 2, 4, 1001}) {
    row(fmt::format("steps_{}", steps), [&] {
      kernels.launch(nullptr, "flex_chase", link[0], steps, last);
      CUdeviceptr seen = 0;
      const CUresult result = CU(cuMemcpyDtoH)(&seen, last, sizeof seen);
      return result_and(result, seen == link[steps % 4] ? "arrived" : "lost");
    });
  }
}

// Memory of every other kind as an argument.
CONFORMANCE_GROUP(kernel_other_memory, 60) {
  Gpu gpu;
  Kernels kernels;
  const auto check = [&](CUdeviceptr p) {
    const CUresult filled = kernels.fill(p, kMiB, 3);
    return result_name(filled) + " " + kernels.contents(p, kMiB, 3);
  };
  CUdeviceptr p = 0;
  row("managed", [&] {
    must(CU(cuMemAllocManaged)(&p, kMiB, CU_MEM_ATTACH_GLOBAL), "cuMemAllocManaged");
    return check(p);
  });
  void* host = nullptr;
  row("host_alloc", [&] {
    must(CU(cuMemHostAlloc)(&host, kMiB, CU_MEMHOSTALLOC_DEVICEMAP), "cuMemHostAlloc");
    must(CU(cuMemHostGetDevicePointer)(&p, host, 0), "cuMemHostGetDevicePointer");
    return check(p);
  });
  row("async", [&] {
    must(CU(cuMemAllocAsync)(&p, kMiB, nullptr), "cuMemAllocAsync");
    return check(p);
  });
  row("sum_of_host_by_device_counter", [&] {
    const CUdeviceptr total = allocate(8);
    must(CU(cuMemsetD8)(total, 0, 8), "cuMemsetD8");
    must(CU(cuMemsetD32)(p, 3, kMiB / 4), "cuMemsetD32");
    kernels.launch(nullptr, "flex_sum", p, kMiB / 4, total);
    uint64_t seen = 0;
    const CUresult result = CU(cuMemcpyDtoH)(&seen, total, 8);
    return result_and(result, fmt::format("{}", seen));
  });
}

CONFORMANCE_GROUP(kernel_bad, 60) {
  Gpu gpu;
  Kernels kernels;
  const CUfunction empty = kernels.function("flex_empty");
  const auto launch = [&](unsigned grid, unsigned block, unsigned shared) {
    return CU(cuLaunchKernel)(empty, grid, 1, 1, block, 1, 1, shared, nullptr, nullptr, nullptr);
  };
  row("plain", [&] { return launch(1, 1, 0); });
  row("grid_0", [&] { return launch(0, 1, 0); });
  row("block_0", [&] { return launch(1, 0, 0); });
  row("block_2048", [&] { return launch(1, 2048, 0); });
  row("shared_huge", [&] { return launch(1, 1, 1 << 30); });
  row("sync", [&] { return CU(cuCtxSynchronize)(); });
  row("no_such_kernel", [&] {
    CUmodule module = nullptr;
    must(CU(cuModuleLoadData)(&module, flexlom_testing_fatbin), "cuModuleLoadData");
    CUfunction function = nullptr;
    return CU(cuModuleGetFunction)(&function, module, "flex_none");
  });
}

CONFORMANCE_GROUP(kernel_queries, 60) {
  Gpu gpu;
  Kernels kernels;
  const CUfunction fill = kernels.function("flex_fill");
  for (size_t i = 0; i < 5; ++i) {
    row(fmt::format("param_{}", i), [&] {
      size_t offset = 77;
      size_t size = 77;
      const CUresult result = CU(cuFuncGetParamInfo)(fill, i, &offset, &size);
      return result_and(result, fmt::format("offset {} size {}", offset, size));
    });
  }
  row("name", [&] {
    const char* name = nullptr;
    const CUresult result = CU(cuFuncGetName)(&name, fill);
    return result_and(result, name == nullptr ? "null" : name);
  });
  row("occupancy", [&] {
    int blocks = 0;
    const CUresult result = CU(cuOccupancyMaxActiveBlocksPerMultiprocessor)(&blocks, fill, 256, 0);
    return result_and(result, blocks > 0 ? "some" : "none");
  });
  row("occupancy_null",
      [&] { return CU(cuOccupancyMaxActiveBlocksPerMultiprocessor)(nullptr, fill, 256, 0); });
  row("library_kernel", [&] {
    CUlibrary library = nullptr;
    must(CU(cuLibraryLoadData)(&library, flexlom_testing_fatbin, nullptr, nullptr, 0, nullptr,
                               nullptr, 0),
         "cuLibraryLoadData");
    CUkernel kernel = nullptr;
    must(CU(cuLibraryGetKernel)(&kernel, library, "flex_fill"), "cuLibraryGetKernel");
    size_t offset = 0;
    size_t size = 0;
    std::string text = result_name(CU(cuKernelGetParamInfo)(kernel, 1, &offset, &size));
    CUdeviceptr p = allocate(kMiB);
    uint64_t words = kMiB / 4;
    uint32_t seed = 4;
    void* params[] = {&p, &words, &seed};
    text += " " + result_name(CU(cuLaunchKernel)(reinterpret_cast<CUfunction>(kernel), 100, 1, 1,
                                                 256, 1, 1, 0, nullptr, params, nullptr));
    return text + " " + kernels.contents(p, kMiB, 4);
  });
}

}  // namespace
}  // namespace flexlom::conformance
