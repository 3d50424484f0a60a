// Sequences of allocation calls with hostile arguments, through flexlom's doors, on the simulated driver.
//
// Each byte string is a program: an operation, then what it needs. Nothing here is a valid use; whatever
// the program does, flexlom must answer with a CUDA result, leave other allocations as they were, and give
// every byte back at the end.
#include <cstring>
#include <map>
#include <string>
#include <vector>

#include "tests/stress/driver.h"

namespace {

class Bytes {
 public:
  Bytes(const uint8_t* data, size_t size) : at_(data), end_(data + size) {}
  bool empty() const { return at_ == end_; }
  uint8_t one() { return empty() ? 0 : *at_++; }
  uint64_t wide() {
    uint64_t value = 0;
    for (int i = 0; i < 8; ++i) value = value << 8 | one();
    return value;
  }

 private:
  const uint8_t* at_;
  const uint8_t* end_;
};

#define EXPECT(condition)                                                      \
  do {                                                                         \
    if (!(condition)) {                                                        \
      std::fprintf(stderr, "broken: %s (line %d)\n", #condition, __LINE__);    \
      std::abort();                                                            \
    }                                                                          \
  } while (false)

// The addresses a fuzzed program works with: live ones, freed ones, and nonsense derived from them.
struct Program {
  Bytes bytes;
  std::map<CUdeviceptr, size_t> live;
  std::vector<CUdeviceptr> known{0, 1, 0x5000'0000'0000, ~CUdeviceptr{0}, 0x5000'0000'0000 + (CUdeviceptr{1} << 42)};
  CUstream streams[4] = {nullptr, CU_STREAM_LEGACY, CU_STREAM_PER_THREAD, nullptr};

  Program(const uint8_t* data, size_t size) : bytes(data, size) {}

  CUdeviceptr pointer() {
    const uint8_t how = bytes.one();
    const CUdeviceptr base = known[bytes.one() % known.size()];
    switch (how % 8) {
      case 0: return base + 1;
      case 1: return base + 512;
      case 2: return base - 1;
      case 3: return (base | ((CUdeviceptr{2} << 20) - 1));
      case 4: return base + bytes.wide() % (64u << 20);
      case 5: return how < 16 ? bytes.wide() : base;
      default: return base;
    }
  }
  size_t size() {
    const uint8_t how = bytes.one();
    switch (how % 6) {
      case 0: return how;
      case 1: return bytes.wide();
      case 2: return size_t{1} << (how / 4);
      case 3: return (size_t{1} << (how / 8)) - 1;
      default: return bytes.wide() % (6u << 20);
    }
  }
  CUstream stream() { return streams[bytes.one() % 4]; }
  void got(CUresult r, CUdeviceptr p, size_t asked) {
    if (r != CUDA_SUCCESS || asked == 0) return;
    const auto next = live.lower_bound(p);
    EXPECT(next == live.end() || p + asked <= next->first);
    EXPECT(next == live.begin() || std::prev(next)->first + std::prev(next)->second <= p);
    live[p] = asked;
    if (known.size() < 200) known.push_back(p);
  }
  void freed(CUresult r, CUdeviceptr p) {
    if (p == 0) return;
    EXPECT((r == CUDA_SUCCESS) == (live.count(p) == 1));
    live.erase(p);
  }
  // The live allocation that contains p.
  const std::pair<const CUdeviceptr, size_t>* owner(CUdeviceptr p) const {
    auto it = live.upper_bound(p);
    if (it == live.begin()) return nullptr;
    --it;
    return p - it->first < it->second ? &*it : nullptr;
  }

  void step();
  void ask();
  void end();
};

void Program::step() {
  CUdeviceptr p = 0;
  switch (bytes.one() % 12) {
    case 0:
    case 1: {
      const size_t n = size();
      got(CU(cuMemAlloc)(&p, n), p, n);
      break;
    }
    case 2: {
      const size_t n = size();
      got(CU(cuMemAllocAsync)(&p, n, stream()), p, n);
      break;
    }
    case 3: {
      size_t pitch = 0;
      const size_t width = size(), height = size();
      const CUresult r = CU(cuMemAllocPitch)(&p, &pitch, width, height, bytes.one());
      if (r == CUDA_SUCCESS) {
        EXPECT(pitch >= width);
        got(r, p, pitch * height);
      }
      break;
    }
    case 4:
    case 5:
      p = pointer();
      freed(CU(cuMemFree)(p), p);
      break;
    case 6: {
      p = pointer();
      freed(CU(cuMemFreeAsync)(p, stream()), p);
      break;
    }
    case 7:
    case 8: ask(); break;
    case 9: {
      const unsigned value = bytes.one();
      CU(cuPointerSetAttribute)(bytes.one() % 8 == 0 ? nullptr : &value,
                                static_cast<CUpointer_attribute>(bytes.one() % 26), pointer());
      break;
    }
    case 10: {
      CUmemoryPool pool = nullptr;
      MUST(cuDeviceGetDefaultMemPool, &pool, 0);
      CU(cuMemPoolTrimTo)(pool, size());
      break;
    }
    case 11:
      switch (bytes.one() % 8) {
        case 0: CU(cuMemAlloc)(nullptr, size()); break;
        case 1: CU(cuMemAllocAsync)(nullptr, size(), stream()); break;
        case 2: CU(cuMemAllocPitch)(nullptr, nullptr, size(), size(), bytes.one()); break;
        case 3: CU(cuMemGetInfo)(nullptr, nullptr); break;
        case 4: CU(cuMemAllocFromPoolAsync)(&p, size(), nullptr, stream()); break;
        case 5: CU(cuMemPoolTrimTo)(nullptr, size()); break;
        case 6: MUST(cuCtxSynchronize); break;
        case 7: {
          CUmemGenericAllocationHandle handle = 0;
          EXPECT(CU(cuMemRetainAllocationHandle)(&handle, reinterpret_cast<void*>(pointer())) != CUDA_SUCCESS);
          break;
        }
      }
      break;
  }
}

void Program::ask() {
  const CUdeviceptr p = pointer();
  const auto* inside = owner(p);
  CUdeviceptr base = 0;
  size_t size_bytes = 0;
  const CUresult r = CU(cuMemGetAddressRange)(&base, &size_bytes, p);
  if (inside != nullptr) EXPECT(r == CUDA_SUCCESS && base == inside->first && size_bytes == inside->second);
  // Where the driver itself chose the addresses there are those through which flexlom copies pages.
  const bool driver_chose = p >> 44 == 4;
  if (inside == nullptr && !driver_chose) EXPECT(r != CUDA_SUCCESS);
  // The largest attribute is a pair of 64-bit words; what is written beyond shows as a changed guard.
  uint64_t data[4] = {0, 0, 0x5AFE, 0x5AFE};
  const int attribute = bytes.one() % 28 - 1;
  CU(cuPointerGetAttribute)(bytes.one() % 16 == 0 ? nullptr : data, static_cast<CUpointer_attribute>(attribute), p);
  EXPECT(data[2] == 0x5AFE && data[3] == 0x5AFE);
  CUpointer_attribute list[3];
  uint64_t values[3][4] = {};
  void* out[3];
  for (int i = 0; i < 3; ++i) {
    list[i] = static_cast<CUpointer_attribute>(bytes.one() % 24);
    out[i] = values[i];
  }
  CU(cuPointerGetAttributes)(bytes.one() % 4, list, out, p);
  unsigned flags = 0;
  CU(cuMemHostGetFlags)(&flags, reinterpret_cast<void*>(p));
}

void Program::end() {
  // What the program still holds is untouched by all that was tried, and can be written.
  for (const auto& [p, n] : live) {
    CUdeviceptr base = 0;
    size_t size_bytes = 0;
    EXPECT(CU(cuMemGetAddressRange)(&base, &size_bytes, p + n - 1) == CUDA_SUCCESS && base == p && size_bytes == n);
    MUST(cuMemsetD8, p, 7, n < 4096 ? n : 4096);
  }
  MUST(cuCtxSynchronize);
  for (const auto& [p, n] : live) MUST(cuMemFree, p);
  MUST(cuCtxSynchronize);
}

}  // namespace

extern "C" int LLVMFuzzerInitialize(int*, char***) {
  setenv("SIMCUDA_MEMORY", "256M", 0);
  setenv("SIMCUDA_DELAY", "0", 0);
  setenv("FLEXLOM_DEVICE_LIMIT", "32M", 0);
  setenv("FLEXLOM_HOST_LIMIT", "64M", 0);
  // Out of memory is half of what happens here: the message is not for reading.
  static_cast<void>(std::freopen("/dev/null", "w", stdout));
  CUcontext context = nullptr;
  MUST(cuInit, 0);
  MUST(cuDevicePrimaryCtxRetain, &context, 0);
  MUST(cuCtxSetCurrent, context);
  CUdeviceptr p = 0;
  MUST(cuMemAlloc, &p, 1);
  EXPECT(SIM(simcuda_counters)("cuMemMap") > 0);  // or flexlom is not between us and the driver
  MUST(cuMemFree, p);
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Program program(data, size);
  for (int steps = 0; steps < 200 && !program.bytes.empty(); ++steps) program.step();
  program.end();
  return 0;
}
