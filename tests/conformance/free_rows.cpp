// cuMemFree: what it accepts, what it refuses, and that refusing changes nothing.
#include <cstdlib>
#include <thread>
#include <vector>

#include "tests/conformance/driver.hpp"

namespace flexlom::conformance {
namespace {

CONFORMANCE_GROUP(free_plain, 60) {
  Gpu gpu;
  Kernels kernels;
  row("null", [] { return CU(cuMemFree)(0); });
  const uint64_t sizes[] = {16, 4 * kKiB, kMiB, 3 * kMiB, large_bytes()};
  const char* const names[] = {"16B", "4KiB", "1MiB", "3MiB", "large"};
  for (int i = 0; i < 5; ++i) {
    const uint64_t bytes = sizes[i];
    const std::string size = names[i];
    const CUdeviceptr p = allocate(bytes);
    kernels.fill(p, bytes, 3);
    row("interior_1_of_" + size, [&] { return CU(cuMemFree)(p + 1); });
    row("interior_half_of_" + size, [&] { return CU(cuMemFree)(p + bytes / 2); });
    row("last_byte_of_" + size, [&] { return CU(cuMemFree)(p + bytes - 1); });
    row("contents_after_of_" + size, [&] { return kernels.contents(p, bytes, 3); });
    row("right_of_" + size, [&] { return CU(cuMemFree)(p); });
    row("double_of_" + size, [&] { return CU(cuMemFree)(p); });
    row("double_interior_of_" + size, [&] { return CU(cuMemFree)(p + bytes / 2); });
  }
  row("still_works", [&] {
    const CUdeviceptr p = allocate(kMiB);
    kernels.fill(p, kMiB, 9);
    return in_order({kernels.contents(p, kMiB, 9), result_name(CU(cuMemFree)(p))});
  });
}

CONFORMANCE_GROUP(free_foreign, 60) {
  Gpu gpu;
  static int variable = 0;
  row("one", [] { return CU(cuMemFree)(1); });
  row("small_number", [] { return CU(cuMemFree)(4096); });
  row("all_ones", [] { return CU(cuMemFree)(~CUdeviceptr{0}); });
  row("canonical_hole", [] { return CU(cuMemFree)(CUdeviceptr{1} << 60); });
  row("unused_address", [] { return CU(cuMemFree)(0x600000000000); });
  row("variable", [] { return CU(cuMemFree)(device_address(&variable)); });
  row("malloc", [] {
    void* const host = std::malloc(kMiB);
    const CUresult result = CU(cuMemFree)(device_address(host));
    std::free(host);
    return result;
  });
  row("host_alloc", [] {
    void* host = nullptr;
    must(CU(cuMemHostAlloc)(&host, kMiB, 0), "cuMemHostAlloc");
    const CUresult result = CU(cuMemFree)(device_address(host));
    return result_name(result) + " " + result_name(CU(cuMemFreeHost)(host));
  });
  row("device_to_free_host", [] {
    const CUdeviceptr p = allocate(kMiB);
    const CUresult result = CU(cuMemFreeHost)(host_address(p));
    return result_name(result) + " " + result_name(CU(cuMemFree)(p));
  });
  row("free_host_null", [] { return CU(cuMemFreeHost)(nullptr); });
  row("managed", [] {
    CUdeviceptr p = 0;
    must(CU(cuMemAllocManaged)(&p, kMiB, CU_MEM_ATTACH_GLOBAL), "cuMemAllocManaged");
    const CUresult inside = CU(cuMemFree)(p + 4096);
    const CUresult right = CU(cuMemFree)(p);
    return result_name(inside) + " " + result_name(right) + " " + result_name(CU(cuMemFree)(p));
  });
  row("registered", [] {
    void* const host = std::aligned_alloc(4096, kMiB);
    must(CU(cuMemHostRegister)(host, kMiB, 0), "cuMemHostRegister");
    const CUresult result = CU(cuMemFree)(device_address(host));
    const std::string text = result_name(result) + " " + result_name(CU(cuMemHostUnregister)(host));
    std::free(host);
    return text;
  });
  row("reserved_range", [] {
    CUdeviceptr p = 0;
    must(CU(cuMemAddressReserve)(&p, 4 * kMiB, 0, 0, 0), "cuMemAddressReserve");
    const CUresult result = CU(cuMemFree)(p);
    return result_name(result) + " " + result_name(CU(cuMemAddressFree)(p, 4 * kMiB));
  });
  row("one_past_the_end", [] {
    const CUdeviceptr p = allocate(2 * kMiB);
    const CUresult past = CU(cuMemFree)(p + 2 * kMiB);
    return result_name(past) + " " + result_name(CU(cuMemFree)(p));
  });
}

// Memory belongs to its context, not to the thread that asked for it.
CONFORMANCE_GROUP(free_threads, 60) {
  Gpu gpu;
  const CUdeviceptr p = allocate(3 * kMiB);
  const CUdeviceptr q = allocate(3 * kMiB);
  const CUdeviceptr r = allocate(4096);
  std::string bare_thread;
  std::string with_context;
  std::thread([&] {
    bare_thread = in_order({result_name(CU(cuMemFree)(p)), result_name(CU(cuMemFree)(0))});
    CU(cuCtxSetCurrent)(gpu.context);
    with_context = in_order({result_name(CU(cuMemFree)(q)), result_name(CU(cuMemFree)(r))});
  }).join();
  say("thread_without_context", bare_thread);
  say("thread_with_context", with_context);
  row("again_p", [&] { return CU(cuMemFree)(p); });
  row("again_q", [&] { return CU(cuMemFree)(q); });
}

// A freed block is handed out again only after the work that was running when it was freed.
CONFORMANCE_GROUP(free_reuse, 120) {
  Gpu gpu;
  Kernels kernels;
  CUstream busy = nullptr;
  CUstream other = nullptr;
  must(CU(cuStreamCreate)(&busy, CU_STREAM_NON_BLOCKING), "cuStreamCreate");
  must(CU(cuStreamCreate)(&other, CU_STREAM_NON_BLOCKING), "cuStreamCreate");
  for (uint64_t bytes : {uint64_t{4096}, 256 * kKiB, 3 * kMiB, large_bytes()}) {
    row(bytes == large_bytes() ? "large" : size_name(bytes), [&]() -> std::string {
      for (uint32_t round = 0; round < 5; ++round) {
        const CUdeviceptr p = allocate(bytes);
        kernels.launch(busy, "flex_spin_ns", uint64_t{20'000'000});
        kernels.launch(busy, "flex_fill", p, bytes / 4, uint32_t{1});
        must(CU(cuMemFree)(p), "cuMemFree");
        const CUdeviceptr q = allocate(bytes);
        kernels.launch(other, "flex_fill", q, bytes / 4, 100 + round);
        must(CU(cuCtxSynchronize)(), "cuCtxSynchronize");
        const std::string seen = kernels.contents(q, bytes, 100 + round);
        must(CU(cuMemFree)(q), "cuMemFree");
        if (seen != "right") {
          return fmt::format("round {}: {}", round, seen);
        }
      }
      return "right";
    });
  }
}

// After cuMemFree of memory that is still in use, cuMemAlloc of everything else stays possible.
CONFORMANCE_GROUP(free_cycle, 120) {
  Gpu gpu;
  Kernels kernels;
  const uint64_t bytes = capacity_bytes() / 2;
  row("same_size_64_times", [&]() -> std::string {
    for (uint32_t i = 0; i < 64; ++i) {
      CUdeviceptr p = 0;
      const CUresult result = CU(cuMemAlloc)(&p, bytes);
      if (result != CUDA_SUCCESS) {
        return fmt::format("{} at {}", result_name(result), i);
      }
      kernels.launch(nullptr, "flex_fill", p, uint64_t{1024}, i);
      must(CU(cuMemFree)(p), "cuMemFree");
    }
    return "ok";
  });
  row("growing_sizes", [&]() -> std::string {
    for (uint64_t size = 4096; size <= bytes; size *= 2) {
      CUdeviceptr p = 0;
      const CUresult result = CU(cuMemAlloc)(&p, size);
      if (result != CUDA_SUCCESS) {
        return fmt::format("{} at {}", result_name(result), size);
      }
      must(kernels.fill(p, size, 5), "fill");
      must(CU(cuMemFree)(p), "cuMemFree");
    }
    return "ok";
  });
}

}  // namespace
}  // namespace flexlom::conformance
