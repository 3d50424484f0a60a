// cuMemGetInfo, cuDeviceTotalMem, cuMemGetAddressRange.
#include <algorithm>

#include "tests/conformance/driver.hpp"

namespace flexlom::conformance {
namespace {

constexpr size_t kUntouched = 0x77;

struct MemoryInfo {
  size_t free_bytes = kUntouched;
  size_t total_bytes = kUntouched;
};

MemoryInfo memory_info() {
  MemoryInfo info;
  must(CU(cuMemGetInfo)(&info.free_bytes, &info.total_bytes), "cuMemGetInfo");
  return info;
}

CONFORMANCE_GROUP(query_meminfo, 60) {
  Gpu gpu;
  const MemoryInfo first = memory_info();
  say("free_at_most_total", first.free_bytes <= first.total_bytes ? "yes" : "no");
  say("free_not_zero", first.free_bytes > 0 ? "yes" : "no");
  row("both_null", [] { return CU(cuMemGetInfo)(nullptr, nullptr); });
  row("free_null", [&] {
    size_t total = kUntouched;
    const CUresult result = CU(cuMemGetInfo)(nullptr, &total);
    return result_name(result) + (total == first.total_bytes ? " same total" : " other total");
  });
  row("total_null", [&] {
    size_t free_bytes = kUntouched;
    const CUresult result = CU(cuMemGetInfo)(&free_bytes, nullptr);
    return result_name(result) + (free_bytes == kUntouched ? " untouched" : " given");
  });
  row("v1", [] {
    using Old = CUresult (*)(unsigned*, unsigned*);
    unsigned free_bytes = 1;
    unsigned total = 0;
    const auto old = reinterpret_cast<Old>(driver_entry("cuMemGetInfo"));
    const CUresult result = old(&free_bytes, &total);
    return result_name(result) + (free_bytes <= total ? " in order" : " not in order");
  });
  const uint64_t bytes = capacity_bytes() / 2;
  CUdeviceptr p = 0;
  must(CU(cuMemAlloc)(&p, bytes), "cuMemAlloc");
  const MemoryInfo during = memory_info();
  say("total_is_stable", during.total_bytes == first.total_bytes ? "yes" : "no");
  say("drops_by_the_size", first.free_bytes - during.free_bytes >= bytes ? "yes" : "no");
  must(CU(cuMemFree)(p), "cuMemFree");
  const MemoryInfo after = memory_info();
  say("comes_back", after.free_bytes + 4 * kMiB >= first.free_bytes ? "yes" : "no");
}

CONFORMANCE_GROUP(query_total, 60) {
  Gpu gpu;
  size_t total = 0;
  row("result", [&] { return CU(cuDeviceTotalMem)(&total, gpu.device); });
  const MemoryInfo info = memory_info();
  say("agrees_with_meminfo", total == info.total_bytes  ? "equal"
                             : total > info.total_bytes ? "device total is larger"
                                                        : "device total is smaller");
  row("null_out", [&] { return CU(cuDeviceTotalMem)(nullptr, gpu.device); });
  row("no_such_device", [&] { return CU(cuDeviceTotalMem)(&total, 999); });
  row("device_minus_1", [&] { return CU(cuDeviceTotalMem)(&total, -1); });
}

void range_rows(const std::string& kind, CUdeviceptr p, uint64_t bytes) {
  const auto ask = [&](const std::string& where, CUdeviceptr at) {
    row(kind + "_" + where, [&] {
      CUdeviceptr base = kUntouched;
      size_t size = kUntouched;
      const CUresult result = CU(cuMemGetAddressRange)(&base, &size, at);
      if (result != CUDA_SUCCESS) {
        return result_name(result) + (base == kUntouched && size == kUntouched ? "" : " changed");
      }
      return relation(base, p, bytes) + " " + reported_size(size, bytes);
    });
  };
  ask("base", p);
  ask("plus_1", p + 1);
  ask("middle", p + bytes / 2);
  ask("last", p + bytes - 1);
  row(kind + "_null_base", [&] {
    size_t size = 0;
    const CUresult result = CU(cuMemGetAddressRange)(nullptr, &size, p);
    return result_name(result) + " " + reported_size(size, bytes);
  });
  row(kind + "_null_size", [&] {
    CUdeviceptr base = 0;
    const CUresult result = CU(cuMemGetAddressRange)(&base, nullptr, p);
    return fmt::format("{} {}", result_name(result), relation(base, p, bytes));
  });
  row(kind + "_null_both", [&] { return CU(cuMemGetAddressRange)(nullptr, nullptr, p); });
}

CONFORMANCE_GROUP(query_range, 60) {
  Gpu gpu;
  const uint64_t large = large_bytes();
  struct Kind {
    const char* name;
    uint64_t bytes;
  };
  for (const Kind& kind : {Kind{"10B", 10}, Kind{"1000B", 1000}, Kind{"1MiB", kMiB},
                           Kind{"3MiB_1", 3 * kMiB + 1}, Kind{"large", large}}) {
    CUdeviceptr p = 0;
    must(CU(cuMemAlloc)(&p, kind.bytes), "cuMemAlloc");
    range_rows(kind.name, p, kind.bytes);
    must(CU(cuMemFree)(p), "cuMemFree");
    row(std::string(kind.name) + "_after_free", [&] {
      CUdeviceptr base = 0;
      size_t size = 0;
      return CU(cuMemGetAddressRange)(&base, &size, p);
    });
  }
  CUdeviceptr p = 0;
  size_t pitch = 0;
  must(CU(cuMemAllocPitch)(&p, &pitch, 1000, 30, 4), "cuMemAllocPitch");
  range_rows("pitch", p, pitch * 30);
  must(CU(cuMemAllocAsync)(&p, 5000, nullptr), "cuMemAllocAsync");
  range_rows("async", p, 5000);
  must(CU(cuMemAllocAsync)(&p, 3 * kMiB + 100, nullptr), "cuMemAllocAsync");
  range_rows("async_large", p, 3 * kMiB + 100);
  must(CU(cuMemAllocManaged)(&p, 5000, CU_MEM_ATTACH_GLOBAL), "cuMemAllocManaged");
  range_rows("managed", p, 5000);
  void* host = nullptr;
  must(CU(cuMemHostAlloc)(&host, 5000, CU_MEMHOSTALLOC_DEVICEMAP), "cuMemHostAlloc");
  range_rows("host", device_address(host), 5000);
  CUdeviceptr base = 0;
  size_t size = 0;
  row("of_null", [&] { return CU(cuMemGetAddressRange)(&base, &size, 0); });
  row("of_variable", [&] { return CU(cuMemGetAddressRange)(&base, &size, device_address(&size)); });
  row("of_unused", [&] { return CU(cuMemGetAddressRange)(&base, &size, 0x600000000000); });
}

// One past the end of an allocation that no other one follows closely: unknown to the driver.
CONFORMANCE_GROUP(query_range_past_end, 60) {
  Gpu gpu;
  CUdeviceptr base = 0;
  size_t size = 0;
  CUdeviceptr p = 0;
  must(CU(cuMemAlloc)(&p, 1000), "cuMemAlloc");
  row("1000B_plus_1000", [&] { return CU(cuMemGetAddressRange)(&base, &size, p + 1000); });
  row("1000B_plus_1024", [&] { return CU(cuMemGetAddressRange)(&base, &size, p + 1024); });
  must(CU(cuMemAlloc)(&p, 3 * kMiB), "cuMemAlloc");
  row("3MiB_plus_3MiB", [&] { return CU(cuMemGetAddressRange)(&base, &size, p + 3 * kMiB); });
}

}  // namespace
}  // namespace flexlom::conformance
