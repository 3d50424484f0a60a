// Stream-ordered allocation: cuMemAllocAsync, cuMemFreeAsync, and mixing them with cuMemAlloc.
#include <vector>

#include "tests/conformance/driver.hpp"

namespace flexlom::conformance {
namespace {

constexpr CUdeviceptr kSentinel = 0x5a5a5a5a5a5a5a5a;

CUstream make_stream(unsigned flags = CU_STREAM_NON_BLOCKING) {
  CUstream stream = nullptr;
  must(CU(cuStreamCreate)(&stream, flags), "cuStreamCreate");
  return stream;
}

CUdeviceptr allocate_async(uint64_t bytes, CUstream stream) {
  CUdeviceptr p = 0;
  must(CU(cuMemAllocAsync)(&p, bytes, stream), "cuMemAllocAsync");
  return p;
}

CONFORMANCE_GROUP(async_sizes, 120) {
  Gpu gpu;
  Kernels kernels;
  const CUstream stream = make_stream();
  for (uint64_t bytes : {uint64_t{1}, uint64_t{4}, uint64_t{511}, uint64_t{512}, uint64_t{513},
                         4 * kKiB, 100 * kKiB, kMiB, 2 * kMiB, 3 * kMiB + 4, 16 * kMiB, 31 * kMiB,
                         33 * kMiB, 64 * kMiB, 200 * kMiB, kGiB, 2 * kGiB + 4}) {
    row(size_name(bytes), [&]() -> std::string {
      if (bytes > capacity_bytes()) {
        return "skipped: capacity";
      }
      CUdeviceptr p = kSentinel;
      const CUresult result = CU(cuMemAllocAsync)(&p, bytes, stream);
      if (result != CUDA_SUCCESS) {
        return result_name(result);
      }
      CUdeviceptr base = 0;
      size_t size = 0;
      CU(cuMemGetAddressRange)(&base, &size, p);
      kernels.launch(stream, "flex_fill", p, bytes / 4, uint32_t{5});
      CU(cuStreamSynchronize)(stream);
      std::string text = fmt::format("aligned {}, range {} {}, contents {}",
                                     p % 512 == 0 ? "512" : "less", relation(base, p, bytes),
                                     reported_size(size, bytes), kernels.contents(p, bytes, 5));
      text += ", free " + result_name(CU(cuMemFreeAsync)(p, stream));
      return text + ", sync " + result_name(CU(cuStreamSynchronize)(stream));
    });
  }
}

CONFORMANCE_GROUP(async_bad, 60) {
  Gpu gpu;
  const CUstream stream = make_stream();
  for (uint64_t bytes : {uint64_t{0}, uint64_t{1} << 44, uint64_t{1} << 50, ~uint64_t{0}}) {
    row(fmt::format("size_{:#x}", bytes), [&] {
      CUdeviceptr p = kSentinel;
      const CUresult result = CU(cuMemAllocAsync)(&p, bytes, stream);
      return result_name(result) + (p == kSentinel ? " untouched" : p == 0 ? " null" : " changed");
    });
  }
  row("null_out", [&] { return CU(cuMemAllocAsync)(nullptr, 1000, stream); });
  row("null_out_zero", [&] { return CU(cuMemAllocAsync)(nullptr, 0, stream); });
  row("free_null", [&] { return CU(cuMemFreeAsync)(0, stream); });
  row("free_one", [&] { return CU(cuMemFreeAsync)(1, stream); });
  row("free_unused_address", [&] { return CU(cuMemFreeAsync)(0x600000000000, stream); });
  row("free_variable", [&] { return CU(cuMemFreeAsync)(device_address(&gpu), stream); });
  row("free_host_alloc", [&] {
    void* host = nullptr;
    must(CU(cuMemHostAlloc)(&host, kMiB, 0), "cuMemHostAlloc");
    return CU(cuMemFreeAsync)(device_address(host), stream);
  });
  row("free_managed", [&] {
    CUdeviceptr p = 0;
    must(CU(cuMemAllocManaged)(&p, kMiB, CU_MEM_ATTACH_GLOBAL), "cuMemAllocManaged");
    return CU(cuMemFreeAsync)(p, stream);
  });
  const CUdeviceptr p = allocate_async(3 * kMiB, stream);
  row("free_interior", [&] { return CU(cuMemFreeAsync)(p + 512, stream); });
  row("free_one_past", [&] { return CU(cuMemFreeAsync)(p + 3 * kMiB, stream); });
  row("free_right", [&] { return CU(cuMemFreeAsync)(p, stream); });
  row("free_twice", [&] { return CU(cuMemFreeAsync)(p, stream); });
  row("sync", [&] { return CU(cuStreamSynchronize)(stream); });
  row("free_twice_after_sync", [&] { return CU(cuMemFreeAsync)(p, stream); });
  row("still_works", [&] {
    const CUdeviceptr q = allocate_async(kMiB, stream);
    return CU(cuMemFreeAsync)(q, stream);
  });
}

// Each allocator's memory given to the other one's free. Freeing it a second time by the wrong call
// crashes some drivers: that is among the hostile rows.
CONFORMANCE_GROUP(async_free_of_plain, 60) {
  Gpu gpu;
  Kernels kernels;
  const CUstream stream = make_stream();
  for (uint64_t bytes : {uint64_t{1000}, 3 * kMiB, large_bytes()}) {
    const std::string size = bytes == large_bytes() ? "large" : size_name(bytes);
    const CUdeviceptr p = allocate(bytes);
    row(size + ".interior", [&] { return CU(cuMemFreeAsync)(p + bytes / 2, stream); });
    row(size + ".base", [&] { return CU(cuMemFreeAsync)(p, stream); });
    row(size + ".sync", [&] { return CU(cuStreamSynchronize)(stream); });
    row(size + ".known_after", [&] {
      CUdeviceptr base = 0;
      size_t size_bytes = 0;
      return CU(cuMemGetAddressRange)(&base, &size_bytes, p);
    });
  }
}

CONFORMANCE_GROUP(async_freed_plainly, 60) {
  Gpu gpu;
  Kernels kernels;
  const CUstream stream = make_stream();
  for (uint64_t bytes : {uint64_t{1000}, 3 * kMiB, large_bytes()}) {
    const std::string size = bytes == large_bytes() ? "large" : size_name(bytes);
    const CUdeviceptr p = allocate_async(bytes, stream);
    kernels.launch(stream, "flex_fill", p, bytes / 4, uint32_t{3});
    row(size + ".interior", [&] { return CU(cuMemFree)(p + bytes / 2); });
    row(size + ".base", [&] { return CU(cuMemFree)(p); });
    row(size + ".again", [&] { return CU(cuMemFree)(p); });
    row(size + ".sync", [&] { return CU(cuStreamSynchronize)(stream); });
    row(size + ".known_after", [&] {
      CUdeviceptr base = 0;
      size_t size_bytes = 0;
      return CU(cuMemGetAddressRange)(&base, &size_bytes, p);
    });
  }
}

// Work, free, allocate, work: all enqueued, nothing waited for.
CONFORMANCE_GROUP(async_order, 120) {
  Gpu gpu;
  Kernels kernels;
  const CUstream a = make_stream();
  const CUstream b = make_stream();
  const CUdeviceptr keep = allocate(64 * kKiB);
  row("same_stream_100_times", [&]() -> std::string {
    for (uint32_t i = 0; i < 100; ++i) {
      const uint64_t bytes = 64 * kKiB * (1 + i % 8);
      const CUdeviceptr p = allocate_async(bytes, a);
      kernels.launch(a, "flex_fill", p, bytes / 4, i);
      kernels.launch(a, "flex_copy", keep, p, 64 * kKiB / 4);
      must(CU(cuMemFreeAsync)(p, a), "cuMemFreeAsync");
    }
    must(CU(cuStreamSynchronize)(a), "cuStreamSynchronize");
    return kernels.contents(keep, 64 * kKiB, 99);
  });
  row("freed_on_another_stream", [&]() -> std::string {
    CUevent ready = nullptr;
    must(CU(cuEventCreate)(&ready, CU_EVENT_DISABLE_TIMING), "cuEventCreate");
    const CUdeviceptr p = allocate_async(kMiB, a);
    kernels.launch(a, "flex_spin_ns", uint64_t{10'000'000});
    kernels.launch(a, "flex_fill", p, kMiB / 4, uint32_t{8});
    kernels.launch(a, "flex_copy", keep, p, 64 * kKiB / 4);
    CU(cuEventRecord)(ready, a);
    CU(cuStreamWaitEvent)(b, ready, 0);
    const CUresult freed = CU(cuMemFreeAsync)(p, b);
    const CUdeviceptr q = allocate_async(kMiB, b);
    kernels.launch(b, "flex_fill", q, kMiB / 4, uint32_t{9});
    must(CU(cuCtxSynchronize)(), "cuCtxSynchronize");
    return in_order(
        {result_name(freed), kernels.contents(keep, 64 * kKiB, 8), kernels.contents(q, kMiB, 9)});
  });
  row("not_reused_under_running_work", [&]() -> std::string {
    for (uint32_t round = 0; round < 5; ++round) {
      const CUdeviceptr p = allocate_async(3 * kMiB, a);
      kernels.launch(a, "flex_spin_ns", uint64_t{10'000'000});
      kernels.launch(a, "flex_fill", p, 3 * kMiB / 4, uint32_t{8});
      must(CU(cuMemFreeAsync)(p, a), "cuMemFreeAsync");
      const CUdeviceptr q = allocate_async(3 * kMiB, b);
      kernels.launch(b, "flex_fill", q, 3 * kMiB / 4, round);
      must(CU(cuCtxSynchronize)(), "cuCtxSynchronize");
      const std::string seen = kernels.contents(q, 3 * kMiB, round);
      must(CU(cuMemFreeAsync)(q, b), "cuMemFreeAsync");
      if (seen != "right") {
        return fmt::format("round {}: {}", round, seen);
      }
    }
    return "right";
  });
  // cuMemFree of a stream-ordered pointer must not let cuMemAlloc reuse it early either.
  row("plain_alloc_after_async_free", [&]() -> std::string {
    const CUdeviceptr p = allocate_async(3 * kMiB, a);
    kernels.launch(a, "flex_spin_ns", uint64_t{20'000'000});
    kernels.launch(a, "flex_fill", p, 3 * kMiB / 4, uint32_t{8});
    must(CU(cuMemFreeAsync)(p, a), "cuMemFreeAsync");
    const CUdeviceptr q = allocate(3 * kMiB);
    kernels.launch(b, "flex_fill", q, 3 * kMiB / 4, uint32_t{77});
    must(CU(cuCtxSynchronize)(), "cuCtxSynchronize");
    return kernels.contents(q, 3 * kMiB, 77);
  });
}

// The per-thread default stream twins, by their own symbols, with every special stream.
CONFORMANCE_GROUP(async_twins, 60) {
  Gpu gpu;
  Kernels kernels;
  const struct {
    const char* name;
    CUstream stream;
  } streams[] = {{"null", nullptr},
                 {"legacy", CU_STREAM_LEGACY},
                 {"per_thread", CU_STREAM_PER_THREAD},
                 {"blocking", make_stream(0)},
                 {"non_blocking", make_stream()}};
  for (const auto& on : streams) {
    for (bool t : {false, true}) {
      row(fmt::format("{}{}", on.name, t ? "_ptsz" : ""), [&] {
        CUdeviceptr p = 0;
        return in_order({result_name(CU_TWIN(cuMemAllocAsync, t)(&p, 100'000, on.stream)),
                         result_name(CU_TWIN(cuMemsetD8Async, t)(p, 7, 100'000, on.stream)),
                         result_name(CU_TWIN(cuMemFreeAsync, t)(p, on.stream)),
                         result_name(CU_TWIN(cuStreamSynchronize, t)(on.stream))});
      });
    }
  }
}

}  // namespace
}  // namespace flexlom::conformance
