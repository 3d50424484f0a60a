// Stream memory operations, host functions, events and legacy-stream order on allocated memory.
#include <atomic>
#include <cstring>

#include "tests/conformance/driver.hpp"

namespace flexlom::conformance {
namespace {

std::string word_at(CUdeviceptr p) {
  uint64_t value = 0;
  const CUresult result = CU(cuMemcpyDtoH)(&value, p, sizeof value);
  return result_and(result, fmt::format("{:#x}", value));
}

// Writes a value through the stream, waits for it on the stream, for every symbol there is.
CONFORMANCE_GROUP(stream_memops, 60) {
  Gpu gpu;
  CUstream stream = nullptr;
  must(CU(cuStreamCreate)(&stream, CU_STREAM_NON_BLOCKING), "cuStreamCreate");
  for (uint64_t bytes : {uint64_t{4096}, 3 * kMiB, large_bytes()}) {
    const CUdeviceptr base = allocate(bytes);
    const CUdeviceptr p = base + bytes - 64;
    const std::string size = bytes == large_bytes() ? "large" : size_name(bytes);
    uint32_t value = 0x1111;
    for (const char* twin : {"_v2", "_v2_ptsz"}) {
      value += 0x1111;
      const auto name = [&](const char* call) { return std::string(call) + twin; };
      row(size + ".write_wait_32" + twin, [&] {
        clear(base, bytes);
        must(CU(cuCtxSynchronize)(), "cuCtxSynchronize");
        std::string text = result_name(
            CU_AS(cuStreamWriteValue32, name("cuStreamWriteValue32").c_str())(stream, p, value, 0));
        text += " " + result_name(CU_AS(cuStreamWaitValue32, name("cuStreamWaitValue32").c_str())(
                          stream, p, value, CU_STREAM_WAIT_VALUE_EQ));
        text += " " + result_name(CU(cuStreamSynchronize)(stream));
        return text + " " + word_at(p);
      });
      row(size + ".write_wait_64" + twin, [&] {
        const uint64_t wide = uint64_t{value} << 32 | 5;
        std::string text = result_name(
            CU_AS(cuStreamWriteValue64, name("cuStreamWriteValue64").c_str())(stream, p, wide, 0));
        text += " " + result_name(CU_AS(cuStreamWaitValue64, name("cuStreamWaitValue64").c_str())(
                          stream, p, wide, CU_STREAM_WAIT_VALUE_GEQ));
        text += " " + result_name(CU(cuStreamSynchronize)(stream));
        return text + " " + word_at(p);
      });
      row(size + ".batch" + twin, [&] {
        CUstreamBatchMemOpParams ops[2] = {};
        ops[0].writeValue.operation = CU_STREAM_MEM_OP_WRITE_VALUE_32;
        ops[0].writeValue.address = p;
        ops[0].writeValue.value = value + 1;
        ops[1].waitValue.operation = CU_STREAM_MEM_OP_WAIT_VALUE_32;
        ops[1].waitValue.address = p;
        ops[1].waitValue.value = value + 1;
        ops[1].waitValue.flags = CU_STREAM_WAIT_VALUE_EQ;
        std::string text = result_name(
            CU_AS(cuStreamBatchMemOp, name("cuStreamBatchMemOp").c_str())(stream, 2, ops, 0));
        return in_order({text, result_name(CU(cuStreamSynchronize)(stream)), word_at(p)});
      });
    }
    row(size + ".write_odd", [&] { return CU(cuStreamWriteValue32)(stream, p + 2, 1, 0); });
    row(size + ".free", [&] { return CU(cuMemFree)(base); });
  }
  row("write_null", [&] { return CU(cuStreamWriteValue32)(stream, 0, 1, 0); });
}

// A wait in one stream, satisfied by a write in another: nothing in between may hold the two apart.
CONFORMANCE_GROUP(stream_wait_across, 20) {
  Gpu gpu;
  Kernels kernels;
  CUstream a = nullptr;
  CUstream b = nullptr;
  must(CU(cuStreamCreate)(&a, CU_STREAM_NON_BLOCKING), "cuStreamCreate");
  must(CU(cuStreamCreate)(&b, CU_STREAM_NON_BLOCKING), "cuStreamCreate");
  const CUdeviceptr flag = allocate(4096);
  const CUdeviceptr data = allocate(3 * kMiB);
  CUdeviceptr p = 0;
  CUdeviceptr fresh = 0;
  clear(flag, 4096);
  row("wait", [&] { return CU(cuStreamWaitValue32)(a, flag, 7, CU_STREAM_WAIT_VALUE_EQ); });
  row("fill", [&] { return kernels.launch(a, "flex_fill", data, 3 * kMiB / 4, uint32_t{2}); });
  row("alloc_async", [&] { return CU(cuMemAllocAsync)(&p, kMiB, b); });
  row("free_async", [&] { return CU(cuMemFreeAsync)(p, b); });
  row("alloc", [&] { return CU(cuMemAlloc)(&fresh, 5 * kMiB); });
  row("query", [&] { return CU(cuStreamQuery)(a); });
  row("write", [&] { return CU(cuStreamWriteValue32)(b, flag, 7, 0); });
  row("sync", [&] { return CU(cuStreamSynchronize)(a); });
  row("free", [&] { return CU(cuMemFree)(fresh); });
  row("contents", [&] { return kernels.contents(data, 3 * kMiB, 2); });
}

// cuMemAlloc does not wait for running work; the kernel is released only afterwards.
CONFORMANCE_GROUP(stream_spin, 60) {
  Gpu gpu;
  Kernels kernels;
  CUstream stream = nullptr;
  must(CU(cuStreamCreate)(&stream, CU_STREAM_NON_BLOCKING), "cuStreamCreate");
  void* host = nullptr;
  must(CU(cuMemHostAlloc)(&host, 4096, CU_MEMHOSTALLOC_DEVICEMAP), "cuMemHostAlloc");
  std::memset(host, 0, 4096);
  auto* const flag = static_cast<std::atomic<uint32_t>*>(host);
  CUdeviceptr on_device = 0;
  must(CU(cuMemHostGetDevicePointer)(&on_device, host, 0), "cuMemHostGetDevicePointer");
  // The kernel's code is loaded before anything spins.
  *flag = 1;
  kernels.launch(stream, "flex_spin_until", on_device, uint32_t{1});
  must(CU(cuStreamSynchronize)(stream), "cuStreamSynchronize");
  *flag = 0;
  kernels.launch(stream, "flex_spin_until", on_device, uint32_t{1});
  CUdeviceptr small = 0;
  CUdeviceptr large = 0;
  CUdeviceptr base = 0;
  size_t size = 0;
  row("running", [&] { return CU(cuStreamQuery)(stream); });
  row("alloc_small", [&] { return CU(cuMemAlloc)(&small, 1000); });
  row("alloc_large", [&] { return CU(cuMemAlloc)(&large, 3 * kMiB); });
  row("range", [&] { return CU(cuMemGetAddressRange)(&base, &size, large); });
  row("still_running", [&] { return CU(cuStreamQuery)(stream); });
  *flag = 1;
  row("sync", [&] { return CU(cuStreamSynchronize)(stream); });
  row("free_small", [&] { return CU(cuMemFree)(small); });
  row("free_large", [&] { return CU(cuMemFree)(large); });
}

// Callbacks run on a driver thread, after the work before them.
CONFORMANCE_GROUP(stream_callbacks, 60) {
  Gpu gpu;
  static std::atomic<int> called{0};
  CUstream stream = nullptr;
  must(CU(cuStreamCreate)(&stream, CU_STREAM_NON_BLOCKING), "cuStreamCreate");
  for (const char* twin : {"", "_ptsz"}) {
    row(std::string("host_func") + twin, [&] {
      called = 0;
      const CUhostFn function = [](void* user) { called += *static_cast<char*>(user); };
      char seven = 7;
      const CUresult result =
          CU_AS(cuLaunchHostFunc, (std::string("cuLaunchHostFunc") + twin).c_str())(
              stream, function, &seven);
      CU(cuStreamSynchronize)(stream);
      return result_and(result, fmt::format("{}", called.load()));
    });
    row(std::string("callback") + twin, [&] {
      called = 0;
      const CUstreamCallback function = [](CUstream, CUresult status, void*) {
        CUdeviceptr p = 0;
        called = static_cast<int>(status) * 1000 + static_cast<int>(CU(cuMemAlloc)(&p, 1000));
      };
      const CUresult result =
          CU_AS(cuStreamAddCallback, (std::string("cuStreamAddCallback") + twin).c_str())(
              stream, function, nullptr, 0);
      CU(cuStreamSynchronize)(stream);
      return result_and(result, fmt::format("alloc inside {}", called.load()));
    });
  }
}

// The 32-bit calls of the first ABI are still exported.
CONFORMANCE_GROUP(stream_first_abi, 60) {
  Gpu gpu;
  using Alloc = CUresult (*)(unsigned*, unsigned);
  using Free = CUresult (*)(unsigned);
  using Range = CUresult (*)(unsigned*, unsigned*, unsigned);
  using Total = CUresult (*)(unsigned*, CUdevice);
  using Pitch = CUresult (*)(unsigned*, unsigned*, unsigned, unsigned, unsigned);
  unsigned p = 0;
  unsigned size = 0;
  row("alloc", [&] { return reinterpret_cast<Alloc>(driver_entry("cuMemAlloc"))(&p, 1000); });
  row("alloc_zero", [&] {
    unsigned q = 0;
    return reinterpret_cast<Alloc>(driver_entry("cuMemAlloc"))(&q, 0);
  });
  row("range", [&] {
    unsigned base = 0;
    const auto range = reinterpret_cast<Range>(driver_entry("cuMemGetAddressRange"));
    return range(&base, &size, p);
  });
  row("free", [&] { return reinterpret_cast<Free>(driver_entry("cuMemFree"))(p); });
  row("free_null", [&] { return reinterpret_cast<Free>(driver_entry("cuMemFree"))(0); });
  row("total", [&] { return reinterpret_cast<Total>(driver_entry("cuDeviceTotalMem"))(&size, 0); });
  row("pitch", [&] {
    unsigned q = 0;
    const auto pitch = reinterpret_cast<Pitch>(driver_entry("cuMemAllocPitch"));
    return pitch(&q, &size, 100, 100, 4);
  });
}

}  // namespace
}  // namespace flexlom::conformance
