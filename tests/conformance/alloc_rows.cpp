// cuMemAlloc, cuMemAllocPitch: what they return, how the memory is aligned, that it holds data.
#include <algorithm>
#include <vector>

#include "tests/conformance/driver.hpp"

namespace flexlom::conformance {
namespace {

constexpr CUdeviceptr kSentinel = 0x5a5a5a5a5a5a5a5a;

// One allocation of this size: result, alignment, range, contents, free.
std::string one_allocation(const Kernels& kernels, uint64_t bytes) {
  CUdeviceptr p = kSentinel;
  const CUresult result = CU(cuMemAlloc)(&p, bytes);
  if (result != CUDA_SUCCESS) {
    return result_name(result) + (p == kSentinel ? " untouched" : " changed");
  }
  CUdeviceptr base = 0;
  size_t size = 0;
  const CUresult ranged = CU(cuMemGetAddressRange)(&base, &size, p);
  std::string text =
      fmt::format("aligned {}, range {} {} {}", p % 512 == 0 ? "512" : "less", result_name(ranged),
                  relation(base, p, bytes), reported_size(size, bytes));
  if (bytes >= 4) {
    must(kernels.fill(p, bytes, 7), "fill");
    text += ", contents " + kernels.contents(p, bytes, 7);
  }
  return text + ", free " + result_name(CU(cuMemFree)(p));
}

CONFORMANCE_GROUP(alloc_sizes, 120) {
  Gpu gpu;
  Kernels kernels;
  for (uint64_t bytes :
       {uint64_t{1},   uint64_t{2},   uint64_t{3},   uint64_t{4},   uint64_t{8},   uint64_t{255},
        uint64_t{256}, uint64_t{257}, uint64_t{511}, uint64_t{512}, uint64_t{513}, uint64_t{1000},
        4 * kKiB - 1,  4 * kKiB,      4 * kKiB + 1,  64 * kKiB,     100 * kKiB,    512 * kKiB,
        kMiB - 1,      kMiB,          kMiB + 1,      2 * kMiB - 1,  2 * kMiB,      2 * kMiB + 1,
        3 * kMiB,      10 * kMiB,     16 * kMiB,     20 * kMiB,     32 * kMiB,     33 * kMiB,
        63 * kMiB,     64 * kMiB,     64 * kMiB + 1, 128 * kMiB,    200 * kMiB,    500 * kMiB,
        kGiB,          kGiB + 4,      2 * kGiB,      4 * kGiB - 4,  4 * kGiB,      4 * kGiB + 4}) {
    const std::string name = fmt::format("{}", size_name(bytes));
    if (bytes > capacity_bytes()) {
      say(name, "skipped: capacity");
      continue;
    }
    row(name, [&] { return one_allocation(kernels, bytes); });
  }
}

CONFORMANCE_GROUP(alloc_bad, 60) {
  Gpu gpu;
  const uint64_t sizes[] = {0,
                            uint64_t{1} << 44,
                            uint64_t{1} << 47,
                            uint64_t{1} << 50,
                            uint64_t{1} << 63,
                            ~uint64_t{0},
                            ~uint64_t{0} - 511,
                            ~uint64_t{0} - 2 * kMiB};
  for (uint64_t bytes : sizes) {
    row(fmt::format("{:#x}", bytes), [&] {
      CUdeviceptr p = kSentinel;
      const CUresult result = CU(cuMemAlloc)(&p, bytes);
      return result_name(result) + (p == kSentinel ? " untouched" : p == 0 ? " null" : " changed");
    });
  }
  row("null_out", [] { return CU(cuMemAlloc)(nullptr, 1024); });
  row("null_out_zero", [] { return CU(cuMemAlloc)(nullptr, 0); });
  row("null_out_huge", [] { return CU(cuMemAlloc)(nullptr, uint64_t{1} << 50); });
  row("still_works", [] {
    CUdeviceptr p = 0;
    const CUresult result = CU(cuMemAlloc)(&p, 1024);
    return result_name(result) + " " + result_name(CU(cuMemFree)(p));
  });
}

// Live allocations never overlap, whatever mix of sizes.
CONFORMANCE_GROUP(alloc_many, 120) {
  Gpu gpu;
  Kernels kernels;
  struct Live {
    CUdeviceptr p;
    uint64_t bytes;
    uint32_t seed;
  };
  std::vector<Live> live;
  const uint64_t budget = capacity_bytes() / 2;
  uint64_t used = 0;
  uint32_t state = 12345;
  std::string failure;
  for (uint32_t i = 0; i < 600; ++i) {
    state = state * 1664525u + 1013904223u;
    const uint64_t most_words = i % 50 == 0 ? kMiB : i % 7 == 0 ? 100'000 : 700;
    const uint64_t bytes = 4 * (1 + (state >> 8) % most_words);
    if (used + bytes > budget) {
      continue;
    }
    Live one = {0, bytes, i};
    const CUresult result = CU(cuMemAlloc)(&one.p, bytes);
    if (result != CUDA_SUCCESS) {
      failure = fmt::format("{} at {}", result_name(result), i);
      break;
    }
    used += bytes;
    kernels.fill(one.p, bytes, i);
    live.push_back(one);
    if (i % 3 == 0) {
      const size_t victim = state % live.size();
      CU(cuMemFree)(live[victim].p);
      used -= live[victim].bytes;
      live.erase(live.begin() + static_cast<std::ptrdiff_t>(victim));
    }
  }
  say("failure", failure.empty() ? "none" : failure);
  std::sort(live.begin(), live.end(), [](const Live& a, const Live& b) { return a.p < b.p; });
  bool apart = true;
  for (size_t i = 1; i < live.size(); ++i) {
    apart = apart && live[i - 1].p + live[i - 1].bytes <= live[i].p;
  }
  say("apart", apart ? "yes" : "no");
  uint64_t wrong = 0;
  uint64_t bad_frees = 0;
  for (const Live& one : live) {
    wrong += kernels.contents(one.p, one.bytes, one.seed) != "right";
    bad_frees += CU(cuMemFree)(one.p) != CUDA_SUCCESS;
  }
  say("wrong", fmt::format("{}", wrong));
  say("bad_frees", fmt::format("{}", bad_frees));
}

// Fresh memory of a new process: the driver hands out zeroes, programs lean on it without knowing.
CONFORMANCE_GROUP(alloc_fresh_zero, 60) {
  Gpu gpu;
  for (uint64_t bytes : {uint64_t{4096}, 3 * kMiB, large_bytes()}) {
    row(bytes == large_bytes() ? "large" : size_name(bytes), [&]() -> std::string {
      CUdeviceptr p = 0;
      must(CU(cuMemAlloc)(&p, bytes), "cuMemAlloc");
      std::vector<uint8_t> host(bytes, 0xee);
      must(CU(cuMemcpyDtoH)(host.data(), p, bytes), "cuMemcpyDtoH");
      const bool zero = std::all_of(host.begin(), host.end(), [](uint8_t b) { return b == 0; });
      return zero ? "zero" : "not zero";
    });
  }
}

std::string one_pitch(uint64_t width, uint64_t height, unsigned element) {
  CUdeviceptr p = kSentinel;
  size_t pitch = 77;
  const CUresult result = CU(cuMemAllocPitch)(&p, &pitch, width, height, element);
  if (result != CUDA_SUCCESS) {
    return fmt::format("{} {}", result_name(result),
                       p == kSentinel ? "untouched"
                       : p == 0       ? "null"
                                      : "changed");
  }
  CUdeviceptr base = 0;
  size_t size = 0;
  CU(cuMemGetAddressRange)(&base, &size, p);
  std::string text = fmt::format("pitch {}, aligned {}, range {} {}", pitch,
                                 p % 512 == 0 ? "512" : "less", relation(base, p, 0), size);
  const CUresult set = CU(cuMemsetD2D8)(p, pitch, 0x3c, width, height);
  return text + ", memset " + result_name(set) + ", free " + result_name(CU(cuMemFree)(p));
}

CONFORMANCE_GROUP(alloc_pitch, 120) {
  Gpu gpu;
  for (unsigned element : {4u, 8u, 16u}) {
    for (uint64_t width :
         {uint64_t{1}, uint64_t{4}, uint64_t{31}, uint64_t{32}, uint64_t{64}, uint64_t{127},
          uint64_t{256}, uint64_t{400}, uint64_t{511}, uint64_t{512}, uint64_t{513}, uint64_t{1000},
          uint64_t{1024}, uint64_t{4097}, uint64_t{65535}, uint64_t{65536}}) {
      for (uint64_t height : {1, 2, 37, 1000}) {
        row(fmt::format("w{}_h{}_e{}", width, height, element), [&]() -> std::string {
          return width * height > capacity_bytes() / 2 ? "skipped: capacity"
                                                       : one_pitch(width, height, element);
        });
      }
    }
  }
}

CONFORMANCE_GROUP(alloc_pitch_bad, 60) {
  Gpu gpu;
  for (unsigned element : {0u, 1u, 2u, 3u, 5u, 12u, 32u, ~0u}) {
    row(fmt::format("element_{}", element), [&] { return one_pitch(100, 10, element); });
  }
  row("width_0", [] { return one_pitch(0, 10, 4); });
  row("height_0", [] { return one_pitch(100, 0, 4); });
  row("both_0", [] { return one_pitch(0, 0, 4); });
  row("width_huge", [] { return one_pitch(uint64_t{1} << 50, 1, 4); });
  row("height_huge", [] { return one_pitch(512, uint64_t{1} << 45, 4); });
  row("product_overflows", [] { return one_pitch(uint64_t{1} << 40, uint64_t{1} << 40, 4); });
  row("width_all_ones", [] { return one_pitch(~uint64_t{0}, 2, 4); });
  row("null_pointer", [] {
    size_t pitch = 0;
    return CU(cuMemAllocPitch)(nullptr, &pitch, 100, 10, 4);
  });
  row("null_pitch", [] {
    CUdeviceptr p = 0;
    return CU(cuMemAllocPitch)(&p, nullptr, 100, 10, 4);
  });
}

}  // namespace
}  // namespace flexlom::conformance
