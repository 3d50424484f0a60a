// Copies and memsets that must be refused, and memsets that must work.
#include <cstring>
#include <vector>

#include "tests/conformance/driver.hpp"

namespace flexlom::conformance {
namespace {

CONFORMANCE_GROUP(copy_bad, 60) {
  Gpu gpu;
  std::vector<char> host(8 * kMiB);
  for (uint64_t bytes : {uint64_t{4096}, 3 * kMiB}) {
    const std::string name = size_name(bytes) + ".";
    const CUdeviceptr p = allocate(bytes);
    row(name + "zero", [&] { return CU(cuMemcpyHtoD)(p, host.data(), 0); });
    row(name + "zero_null_host", [&] { return CU(cuMemcpyHtoD)(p, nullptr, 0); });
    row(name + "null_host", [&] { return CU(cuMemcpyHtoD)(p, nullptr, 16); });
    row(name + "null_device", [&] { return CU(cuMemcpyHtoD)(0, host.data(), 16); });
    row(name + "zero_null_device", [&] { return CU(cuMemcpyHtoD)(0, host.data(), 0); });
    row(name + "from_null_device", [&] { return CU(cuMemcpyDtoH)(host.data(), 0, 16); });
    row(name + "device_small_number", [&] { return CU(cuMemcpyHtoD)(64, host.data(), 16); });
    row(name + "unused_device", [&] { return CU(cuMemcpyHtoD)(0x600000000000, host.data(), 16); });
    row(name + "to_last_byte", [&] { return CU(cuMemcpyHtoD)(p + bytes - 1, host.data(), 1); });
    row(name + "length_overflows", [&] { return CU(cuMemcpyDtoD)(p, p, ~uint64_t{0}); });
    row(name + "far_too_long", [&] { return CU(cuMemcpyDtoD)(p, p, uint64_t{1} << 45); });
    row(name + "memset_far_too_long", [&] { return CU(cuMemsetD8)(p, 1, uint64_t{1} << 45); });
    row(name + "memset_zero", [&] { return CU(cuMemsetD8)(p, 1, 0); });
    row(name + "memset_null", [&] { return CU(cuMemsetD8)(0, 1, 16); });
    row(name + "memset_unused", [&] { return CU(cuMemsetD8)(0x600000000000, 1, 16); });
    row(name + "memset_d16_odd", [&] { return CU(cuMemsetD16)(p + 1, 1, 4); });
    row(name + "memset_d32_odd", [&] { return CU(cuMemsetD32)(p + 2, 1, 4); });
    row(name + "memset_2d_pitch_too_small", [&] { return CU(cuMemsetD2D8)(p, 8, 1, 16, 2); });
    row(name + "still_works", [&] { return CU(cuMemsetD8)(p, 1, bytes); });
  }
}

// Just past the end. The driver knows the end to the byte.
CONFORMANCE_GROUP(copy_past_end, 60) {
  Gpu gpu;
  std::vector<char> host(8 * kMiB);
  for (uint64_t bytes : {uint64_t{1000}, uint64_t{4096}, 3 * kMiB, 4 * kMiB}) {
    const std::string name = size_name(bytes) + ".";
    const CUdeviceptr p = allocate(bytes);
    for (uint64_t excess : {uint64_t{1}, uint64_t{512}, uint64_t{4096}, 3 * kMiB}) {
      const std::string over = "_by_" + size_name(excess);
      row(name + "to_device" + over,
          [&] { return CU(cuMemcpyHtoD)(p, host.data(), bytes + excess); });
      row(name + "to_host" + over,
          [&] { return CU(cuMemcpyDtoH)(host.data(), p, bytes + excess); });
      row(name + "on_device" + over, [&] { return CU(cuMemcpyDtoD)(p, p + excess, bytes); });
      row(name + "memset" + over, [&] { return CU(cuMemsetD8)(p, 0, bytes + excess); });
      row(name + "sync" + over, [&] { return CU(cuCtxSynchronize)(); });
    }
  }
}

struct Memset {
  const char* name;
  uint64_t unit;
  CUresult (*run)(CUdeviceptr p, size_t units, CUstream stream, bool per_thread);
};

const Memset kMemsets[] = {
    {"D8", 1,
     [](CUdeviceptr p, size_t n, CUstream, bool t) { return CU_TWIN(cuMemsetD8, t)(p, 0x5a, n); }},
    {"D16", 2,
     [](CUdeviceptr p, size_t n, CUstream, bool t) {
       return CU_TWIN(cuMemsetD16, t)(p, 0x5a5a, n);
     }},
    {"D32", 4,
     [](CUdeviceptr p, size_t n, CUstream, bool t) {
       return CU_TWIN(cuMemsetD32, t)(p, 0x5a5a5a5a, n);
     }},
    {"D8Async", 1,
     [](CUdeviceptr p, size_t n, CUstream s, bool t) {
       return CU_TWIN(cuMemsetD8Async, t)(p, 0x5a, n, s);
     }},
    {"D16Async", 2,
     [](CUdeviceptr p, size_t n, CUstream s, bool t) {
       return CU_TWIN(cuMemsetD16Async, t)(p, 0x5a5a, n, s);
     }},
    {"D32Async", 4,
     [](CUdeviceptr p, size_t n, CUstream s, bool t) {
       return CU_TWIN(cuMemsetD32Async, t)(p, 0x5a5a5a5a, n, s);
     }},
    {"D2D8", 1,
     [](CUdeviceptr p, size_t n, CUstream, bool t) {
       return CU_TWIN(cuMemsetD2D8, t)(p, n / 4, 0x5a, n / 4, 4);
     }},
    {"D2D16", 2,
     [](CUdeviceptr p, size_t n, CUstream, bool t) {
       return CU_TWIN(cuMemsetD2D16, t)(p, n / 2, 0x5a5a, n / 4, 4);
     }},
    {"D2D32", 4,
     [](CUdeviceptr p, size_t n, CUstream, bool t) {
       return CU_TWIN(cuMemsetD2D32, t)(p, n, 0x5a5a5a5a, n / 4, 4);
     }},
    {"D2D8Async", 1,
     [](CUdeviceptr p, size_t n, CUstream s, bool t) {
       return CU_TWIN(cuMemsetD2D8Async, t)(p, n / 4, 0x5a, n / 4, 4, s);
     }},
    {"D2D16Async", 2,
     [](CUdeviceptr p, size_t n, CUstream s, bool t) {
       return CU_TWIN(cuMemsetD2D16Async, t)(p, n / 2, 0x5a5a, n / 4, 4, s);
     }},
    {"D2D32Async", 4,
     [](CUdeviceptr p, size_t n, CUstream s, bool t) {
       return CU_TWIN(cuMemsetD2D32Async, t)(p, n, 0x5a5a5a5a, n / 4, 4, s);
     }},
};

// Every byte inside is set, the byte before and the byte after are not.
std::string one_memset(const Memset& memset, CUdeviceptr p, uint64_t bytes, CUstream stream,
                       bool per_thread) {
  must(CU(cuMemsetD8)(p, 0, bytes), "cuMemsetD8");
  must(CU(cuCtxSynchronize)(), "cuCtxSynchronize");
  const uint64_t margin = 64;
  const uint64_t inside = bytes - 2 * margin;
  const CUresult result = memset.run(p + margin, inside / memset.unit, stream, per_thread);
  must(CU(cuCtxSynchronize)(), "cuCtxSynchronize");
  if (result != CUDA_SUCCESS) {
    return result_name(result);
  }
  std::vector<unsigned char> host(bytes);
  must(CU(cuMemcpyDtoH)(host.data(), p, bytes), "cuMemcpyDtoH");
  uint64_t wrong = 0;
  for (uint64_t i = 0; i < bytes; ++i) {
    wrong += host[i] != (i >= margin && i < bytes - margin ? 0x5a : 0);
  }
  return wrong == 0 ? "right" : fmt::format("{} bytes wrong", wrong);
}

CONFORMANCE_GROUP(copy_memset, 120) {
  Gpu gpu;
  CUstream stream = nullptr;
  must(CU(cuStreamCreate)(&stream, CU_STREAM_NON_BLOCKING), "cuStreamCreate");
  for (uint64_t bytes : {uint64_t{4096}, 3 * kMiB, large_bytes()}) {
    const std::string size = bytes == large_bytes() ? "large" : size_name(bytes);
    const CUdeviceptr p = allocate(bytes);
    for (const Memset& memset : kMemsets) {
      for (bool per_thread : {false, true}) {
        row(fmt::format("{}.{}{}", size, memset.name, per_thread ? ".per_thread" : ""),
            [&] { return one_memset(memset, p, bytes, stream, per_thread); });
      }
    }
    must(CU(cuMemFree)(p), "cuMemFree");
  }
}

}  // namespace
}  // namespace flexlom::conformance
