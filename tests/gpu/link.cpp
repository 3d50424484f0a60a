// Measures the link between host and device, and how fast pinned host memory can be made.
//
//   link [MIB]      bytes of each transfer (default 1024, a multiple of 64)
//
// Prints one line of JSON; rates are GB/s (10^9 bytes), each the median of the repetitions listed
// in "samples":
//   p         host to device, copy engine, pinned memory
//   p_back    device to host
//   duplex    both at once, bytes of both directions together
//   z         a kernel reading host-located VMM memory in place
//   device    the same kernel reading device memory
//   create    cuMemCreate of host-located handles of 64 MiB
//   create_4  the same by four threads at a time, all together
//   frames    one after the other, with mapping and access rights
// z, create, create_4 and frames are null where the driver has no host-located VMM memory.
#include <algorithm>
#include <chrono>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "kernels/testing.h"
#include "tests/gpu/driver.h"

namespace {

// clang-format off
#define LINK_FUNCTIONS(X) \
  X(cuMemHostAlloc) X(cuMemFreeHost) X(cuMemcpyHtoDAsync) X(cuMemcpyDtoHAsync) X(cuEventCreate) \
  X(cuEventRecord) X(cuEventSynchronize) X(cuEventElapsedTime) X(cuDeviceGetAttribute) \
  X(cuMemAddressReserve) X(cuMemCreate) X(cuMemMap) X(cuMemSetAccess) X(cuMemUnmap) \
  X(cuMemRelease) X(cuMemAddressFree)
// clang-format on

struct Functions {
#define X(name) decltype(&::name) name##_ = nullptr;
  LINK_FUNCTIONS(X)
#undef X

  Functions() {
    void* library = dlopen("libcuda.so.1", RTLD_NOW);
#define X(name)                                                                       \
  name##_ = reinterpret_cast<decltype(&::name)>(dlsym(library, DRIVER_STRING(name))); \
  if (name##_ == nullptr) driver::Driver::skip("the driver lacks", DRIVER_STRING(name));
    LINK_FUNCTIONS(X)
#undef X
  }
};

constexpr std::size_t kMiB = std::size_t{1} << 20, kHandleBytes = 64 * kMiB;
constexpr int kRepetitions = 7;
constexpr unsigned kBlocks = 132 * 8, kThreads = 256;

struct Rate {
  const char* name;
  std::vector<double> samples;  // GB/s; empty: not to be had here

  void add(std::size_t bytes, double seconds) {
    samples.push_back(static_cast<double>(bytes) / std::max(seconds, 1e-9) / 1e9);
  }
  double median() const {
    std::vector<double> sorted = samples;
    std::sort(sorted.begin(), sorted.end());
    return sorted[sorted.size() / 2];
  }
};

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

class Link {
 public:
  Link(const driver::Driver& cuda, CUdevice device, std::size_t bytes)
      : cuda_(cuda), device_(device), bytes_(bytes) {
    CUmodule module = nullptr;
    check(cuda_.cuModuleLoadData_(&module, flexlom_testing_fatbin), "cuModuleLoadData");
    sum_ = cuda_.kernel(module, "flex_sum");
    check(cuda_.cuMemAlloc_(&total_, 8), "cuMemAlloc");
    check(cuda_.cuMemAlloc_(&block_, bytes_), "cuMemAlloc");
    check(f_.cuMemHostAlloc_(&host_, bytes_, 0), "cuMemHostAlloc");
    std::memset(host_, 1, bytes_);
    for (CUstream& stream : streams_)
      check(cuda_.cuStreamCreate_(&stream, CU_STREAM_NON_BLOCKING), "cuStreamCreate");
    for (CUevent& event : events_)
      check(f_.cuEventCreate_(&event, CU_EVENT_DEFAULT), "cuEventCreate");
  }

  void copies() {
    for (int i = 0; i <= kRepetitions; ++i) {
      const double up = timed([&] { to_device(0, bytes_, streams_[0]); });
      const double down = timed([&] { to_host(0, bytes_, streams_[0]); });
      if (i == 0) continue;  // the first copy of a process is not like the others
      p_.add(bytes_, up);
      p_back_.add(bytes_, down);
    }
    // Several pieces each way, so that neither direction runs alone for long.
    constexpr std::size_t kPieces = 8;
    const std::size_t half = bytes_ / 2, piece = half / kPieces;
    for (int i = 0; i < kRepetitions; ++i) {
      check(cuda_.cuCtxSynchronize_(), "cuCtxSynchronize");
      const double begin = now();
      for (std::size_t at = 0; at < half; at += piece) {
        to_device(at, piece, streams_[0]);
        to_host(half + at, piece, streams_[1]);
      }
      check(cuda_.cuCtxSynchronize_(), "cuCtxSynchronize");
      duplex_.add(2 * half, now() - begin);
    }
  }

  void device_reads() { reads(block_, &device_rate_); }

  // Makes host frames as the pool does, one handle after the other, and reads them in place.
  bool host_frames() {
    CUmemAllocationProp prop{};
    prop.type = CU_MEM_ALLOCATION_TYPE_PINNED;
    CUdeviceptr base = 0;
    check(f_.cuMemAddressReserve_(&base, bytes_, kHandleBytes, 0, 0), "cuMemAddressReserve");
    CUmemAccessDesc access{};
    access.location.type = CU_MEM_LOCATION_TYPE_DEVICE;
    access.location.id = device_;
    access.flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE;
    std::vector<CUmemGenericAllocationHandle> handles;
    bool possible = true;
    while (possible && handles.size() * kHandleBytes < bytes_) {
      CUmemGenericAllocationHandle handle = 0;
      const double begin = now();
      possible = create(&handle, &prop, handles.empty());
      if (!possible) break;
      create_.add(kHandleBytes, now() - begin);
      const CUdeviceptr address = base + handles.size() * kHandleBytes;
      handles.push_back(handle);
      check(f_.cuMemMap_(address, kHandleBytes, 0, handle, 0), "cuMemMap");
      check(f_.cuMemSetAccess_(address, kHandleBytes, &access, 1), "cuMemSetAccess");
      frames_.add(kHandleBytes, now() - begin);
    }
    if (possible) {
      check(cuda_.cuMemsetD8_(base, 1, bytes_), "cuMemsetD8");
      reads(base, &z_);
      for (int i = 0; i < 3; ++i) create_together(prop);
    }
    for (std::size_t i = 0; i < handles.size(); ++i) {
      check(f_.cuMemUnmap_(base + i * kHandleBytes, kHandleBytes), "cuMemUnmap");
      check(f_.cuMemRelease_(handles[i]), "cuMemRelease");
    }
    check(f_.cuMemAddressFree_(base, bytes_), "cuMemAddressFree");
    if (!possible) {
      create_.samples.clear();
      frames_.samples.clear();
    }
    return possible;
  }

  void print() const {
    char name[128];
    int version = 0;
    check(cuda_.cuDeviceGetName_(name, sizeof name, device_), "cuDeviceGetName");
    check(cuda_.cuDriverGetVersion_(&version), "cuDriverGetVersion");
    std::string rates, samples;
    for (const Rate* rate :
         {&p_, &p_back_, &duplex_, &z_, &device_rate_, &create_, &create_together_, &frames_}) {
      const std::string key = std::string(", \"") + rate->name + "\": ";
      rates += key + (rate->samples.empty() ? "null" : number(rate->median()));
      samples += key + "[";
      for (std::size_t i = 0; i < rate->samples.size(); ++i)
        samples += (i == 0 ? "" : ", ") + number(rate->samples[i]);
      samples += "]";
    }
    std::printf("{\"gpu\": \"%s\", \"driver\": %d, \"bytes\": %zu, \"host_location\": \"%s\"%s, ",
                name, version, bytes_, location_, rates.c_str());
    std::printf("\"samples\": {%s}}\n", samples.c_str() + 2);
  }

 private:
  void check(CUresult result, const char* what) const { cuda_.check(result, what); }

  static std::string number(double value) {
    char text[32];
    std::snprintf(text, sizeof text, "%.3f", value);
    return text;
  }

  void to_device(std::size_t at, std::size_t bytes, CUstream stream) {
    check(f_.cuMemcpyHtoDAsync_(block_ + at, static_cast<char*>(host_) + at, bytes, stream),
          "cuMemcpyHtoDAsync");
  }

  void to_host(std::size_t at, std::size_t bytes, CUstream stream) {
    check(f_.cuMemcpyDtoHAsync_(static_cast<char*>(host_) + at, block_ + at, bytes, stream),
          "cuMemcpyDtoHAsync");
  }

  // Seconds on the device that the work `submit` gives to the first stream takes.
  template <typename Submit>
  double timed(Submit submit) {
    check(f_.cuEventRecord_(events_[0], streams_[0]), "cuEventRecord");
    submit();
    check(f_.cuEventRecord_(events_[1], streams_[0]), "cuEventRecord");
    check(f_.cuEventSynchronize_(events_[1]), "cuEventSynchronize");
    float milliseconds = 0;
    check(f_.cuEventElapsedTime_(&milliseconds, events_[0], events_[1]), "cuEventElapsedTime");
    return milliseconds / 1e3;
  }

  void reads(CUdeviceptr from, Rate* rate) {
    const std::uint64_t words = bytes_ / sizeof(std::uint32_t);
    for (int i = 0; i <= kRepetitions; ++i) {
      const double seconds =
          timed([&] { cuda_.launch(sum_, kBlocks, kThreads, streams_[0], from, words, total_); });
      if (i > 0) rate->add(bytes_, seconds);
    }
  }

  // One host-located handle; `first`: find out on which location the driver grants it.
  bool create(CUmemGenericAllocationHandle* handle, CUmemAllocationProp* prop, bool first) {
    if (!first) {
      check(f_.cuMemCreate_(handle, kHandleBytes, prop, 0), "cuMemCreate");
      return true;
    }
    int node = -1;
    f_.cuDeviceGetAttribute_(&node, CU_DEVICE_ATTRIBUTE_HOST_NUMA_ID, device_);
    location_ = "HOST_NUMA";
    prop->location.type = CU_MEM_LOCATION_TYPE_HOST_NUMA;
    prop->location.id = node;
    if (node >= 0 && f_.cuMemCreate_(handle, kHandleBytes, prop, 0) == CUDA_SUCCESS) return true;
    location_ = "HOST";
    prop->location.type = CU_MEM_LOCATION_TYPE_HOST;
    prop->location.id = 0;
    if (f_.cuMemCreate_(handle, kHandleBytes, prop, 0) == CUDA_SUCCESS) return true;
    location_ = "none";
    return false;
  }

  void create_together(const CUmemAllocationProp& prop) {
    constexpr std::size_t kMakers = 4;
    std::vector<CUmemGenericAllocationHandle> handles(bytes_ / kHandleBytes);
    std::vector<std::thread> threads;
    const double begin = now();
    for (std::size_t t = 0; t < kMakers; ++t)
      threads.emplace_back([&, t] {
        for (std::size_t i = t; i < handles.size(); i += kMakers)
          check(f_.cuMemCreate_(&handles[i], kHandleBytes, &prop, 0), "cuMemCreate");
      });
    for (std::thread& thread : threads) thread.join();
    create_together_.add(bytes_, now() - begin);
    for (const CUmemGenericAllocationHandle handle : handles)
      check(f_.cuMemRelease_(handle), "cuMemRelease");
  }

  const driver::Driver& cuda_;
  const Functions f_;
  const CUdevice device_;
  const std::size_t bytes_;
  CUfunction sum_ = nullptr;
  CUdeviceptr total_ = 0, block_ = 0;
  void* host_ = nullptr;
  CUstream streams_[2] = {};
  CUevent events_[2] = {};
  const char* location_ = "none";
  Rate p_{"p", {}}, p_back_{"p_back", {}}, duplex_{"duplex", {}}, z_{"z", {}};
  Rate device_rate_{"device", {}}, create_{"create", {}}, create_together_{"create_4", {}},
      frames_{"frames", {}};
};

}  // namespace

int main(int argc, char** argv) {
  char* end = nullptr;
  const std::size_t mib = argc == 2 ? std::strtoull(argv[1], &end, 10) : 1024;
  if (argc > 2 || mib == 0 || mib % 64 != 0 || (end != nullptr && *end != '\0')) {
    std::fprintf(stderr, "usage: link [MIB]   (a multiple of 64)\n");
    return 2;
  }
  const driver::Driver cuda = driver::Driver::load();
  const CUdevice device = cuda.use_first_device();
  Link link(cuda, device, mib * kMiB);
  link.copies();
  link.device_reads();
  link.host_frames();
  link.print();
  return 0;
}
