// Kernel launches: every form of parameters, and what may not be read.
#include <sys/mman.h>
#include <unistd.h>

#include <cstring>

#include "tests/heat/testing.h"

namespace testing {
namespace {

constexpr CUdeviceptr kA = kPool + 64 * kMiB;
constexpr CUdeviceptr kB = kPool + 128 * kMiB + 24;

Words launched(CUfunction f, void** params, void** extra = nullptr) {
  return words(Entry::cuLaunchKernel, f, 4u, 2u, 1u, 64u, 1u, 1u, 0u, CUstream{}, params, extra);
}

// Memory that ends where nothing is mapped.
class Edge {
 public:
  Edge()
      : page_(static_cast<size_t>(sysconf(_SC_PAGESIZE))),
        at_(static_cast<char*>(
            mmap(nullptr, 2 * page_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0))) {
    mprotect(at_ + page_, page_, PROT_NONE);
  }
  ~Edge() { munmap(at_, 2 * page_); }
  Edge(const Edge&) = delete;
  // The last bytes before the end.
  void* last(size_t bytes) { return at_ + page_ - bytes; }

 private:
  const size_t page_;
  char* const at_;
};

}  // namespace

TEST_CASE("a word counts when a pool owns it, its end included") {
  note_pool();
  FakeKernels kernels;
  const CUfunction f = kernels.function(0x1000, {{0, 8}});
  const auto of = [&](CUdeviceptr w) {
    void* params[] = {&w};
    return launched(f, params);
  };
  CHECK(of(kPool) == Words{kPool});
  CHECK(of(kA) == Words{kA});
  CHECK(of(kPool + kPoolBytes) == Words{kPool + kPoolBytes});
  CHECK(of(kPool - 1).empty());
  CHECK(of(kPool + kPoolBytes + 1).empty());
  CHECK(of(0).empty());
  CHECK(of(~CUdeviceptr{0}).empty());
}

TEST_CASE("kernelParams: pointers, numbers, structures and tensor maps by value") {
  note_pool();
  FakeKernels kernels;
  struct Operand {
    uint32_t rank, unused;  // no padding: whatever lay on the stack might be an address
    CUdeviceptr data;
    uint32_t strides[4];
    CUdeviceptr more[2];
  };
  struct alignas(64) TensorMap {
    CUdeviceptr words[16];
  };
  const CUfunction f = kernels.kernel(
      0x2000, {{0, 8}, {8, 4}, {16, sizeof(Operand)}, {128, sizeof(TensorMap)}, {256, 8}});
  CUdeviceptr pointer = kA;
  uint32_t number = 7;
  Operand operand = {4, 0, kB, {1, 2, 3, 0}, {kA + 1, 99}};
  TensorMap map = {};
  map.words[0] = kB + 512;
  map.words[9] = kPool - 1;
  double value = 3.5;
  void* params[] = {&pointer, &number, &operand, &map, &value};
  CHECK(launched(f, params) == Words{kA, kB, kA + 1, kB + 512});
  CHECK(words(Entry::cuLaunchCooperativeKernel_ptsz, f, 1u, 1u, 1u, 1u, 1u, 1u, 0u, CUstream{},
              static_cast<void**>(params)) == Words{kA, kB, kA + 1, kB + 512});
}

TEST_CASE("a structure of thousands of bytes is scanned to its end") {
  note_pool();
  FakeKernels kernels;
  const CUfunction f = kernels.function(0x3000, {{0, 4096}});
  std::vector<CUdeviceptr> block(512, 1);
  Words given;
  for (const size_t i : {size_t{0}, size_t{7}, size_t{8}, size_t{63}, size_t{64}, size_t{511}}) {
    block[i] = kA + i * kMiB;
    given.push_back(block[i]);
  }
  // The ends, and what lies just outside them.
  block[300] = kPool;
  block[301] = kPool - 1;
  block[302] = kPool + kPoolBytes;
  block[303] = kPool + kPoolBytes + 1;
  block[304] = ~CUdeviceptr{0};
  given.insert(given.end() - 1, {kPool, kPool + kPoolBytes});
  void* params[] = {block.data()};
  CHECK(launched(f, params) == given);
}

TEST_CASE("more than fits is told") {
  note_pool();
  FakeKernels kernels;
  const CUfunction f = kernels.function(0x3000, {{0, 8 * (Named::kMost + 1)}});
  std::vector<CUdeviceptr> block(Named::kMost + 1, kA);
  void* params[] = {block.data()};
  Named named;
  flexlom::heat::names(Entry::cuLaunchKernel, named, f, 1u, 1u, 1u, 1u, 1u, 1u, 0u, CUstream{},
                       static_cast<void**>(params), static_cast<void**>(nullptr));
  CHECK(named.count == Named::kMost);
  CHECK(named.overflow);
  CHECK(!named.unknown);
}

TEST_CASE("parameters without alignment are read at both alignments") {
  note_pool();
  FakeKernels kernels;
  // A packed structure behind an int: aligned in the buffer at 8, from its own start at 4.
  const CUfunction f = kernels.function(0x4000, {{0, 4}, {4, 20}});
  uint32_t number = 0;
  char bytes[20] = {};
  std::memcpy(bytes + 4, &kA, 8);
  void* params[] = {&number, bytes};
  CHECK(launched(f, params) == Words{kA});
  std::memset(bytes, 0, sizeof bytes);
  std::memcpy(bytes + 8, &kB, 8);
  CHECK(launched(f, params) == Words{kB});
}

TEST_CASE("the packed form") {
  note_pool();
  FakeKernels kernels;
  const CUfunction f = kernels.function(0x5000, {{0, 4}, {8, 8}, {16, 8}, {24, 4}});
  struct {
    uint32_t n = 1;
    CUdeviceptr a = kA;
    CUdeviceptr b = kB;
    uint32_t m = 2;
  } buffer;
  size_t size = 28;
  void* extra[] = {CU_LAUNCH_PARAM_BUFFER_SIZE, &size, CU_LAUNCH_PARAM_BUFFER_POINTER, &buffer,
                   CU_LAUNCH_PARAM_END};
  CHECK(launched(f, nullptr, extra) == Words{kA, kB});
  size = 20;  // less than the function takes: the driver refuses, and reads nothing
  CHECK(launched(f, nullptr, extra).empty());
  size = 28;
  void* unknown_name[] = {CU_LAUNCH_PARAM_BUFFER_POINTER, &buffer, reinterpret_cast<void*>(9),
                          nullptr, CU_LAUNCH_PARAM_END};
  CHECK(launched(f, nullptr, unknown_name).empty());
  void* params[] = {&buffer.n, &buffer.a, &buffer.b, &buffer.m};
  CHECK(launched(f, params, extra).empty());  // both forms: refused
  CHECK(launched(f, nullptr, nullptr).empty());
}

TEST_CASE("exactly the bytes of each parameter are read, and none of a launch that must fail") {
  note_pool();
  FakeKernels kernels;
  Edge edge;
  for (const size_t bytes : {1, 4, 7, 8, 12, 16, 100, 128}) {
    void* const last = edge.last(bytes);
    std::memset(last, 0, bytes);
    if (bytes >= 8) std::memcpy(last, &kA, 8);
    void* params[] = {last};
    for (const size_t offset : {size_t{0}, size_t{4}, size_t{1}}) {
      const auto handle = uintptr_t{0x100000} + bytes * 256 + offset * 16;
      const CUfunction f = kernels.function(handle, {{offset, bytes}});
      CHECK(launched(f, params) == (bytes >= 8 ? Words{kA} : Words{}));
    }
    size_t size = bytes;
    void* extra[] = {CU_LAUNCH_PARAM_BUFFER_POINTER, last, CU_LAUNCH_PARAM_BUFFER_SIZE, &size,
                     CU_LAUNCH_PARAM_END};
    const CUfunction packed = kernels.function(uintptr_t{0x200000} + bytes * 16, {{0, bytes}});
    CHECK(launched(packed, nullptr, extra) == (bytes >= 8 ? Words{kA} : Words{}));
  }
  const CUfunction f = kernels.function(0x6000, {{0, 8}});
  void* bad[] = {edge.last(0)};
  const auto grid = [&](unsigned x) {
    return words(Entry::cuLaunchKernel, f, x, 1u, 1u, 1u, 1u, 1u, 0u, CUstream{},
                 static_cast<void**>(bad), static_cast<void**>(nullptr));
  };
  CHECK(grid(0).empty());
  void* null[] = {nullptr};
  CHECK(launched(f, null).empty());
  const CUfunction none = kernels.function(0x6010, {});
  CHECK(launched(none, static_cast<void**>(edge.last(0))).empty());
}

TEST_CASE("launch attributes and shapes") {
  note_pool();
  FakeKernels kernels;
  const CUfunction f = kernels.function(0x7000, {{0, 8}});
  CUdeviceptr pointer = kA;
  void* params[] = {&pointer};
  CUlaunchAttribute attributes[2] = {};
  attributes[0].id = CU_LAUNCH_ATTRIBUTE_PRIORITY;
  attributes[1].id = CU_LAUNCH_ATTRIBUTE_ACCESS_POLICY_WINDOW;
  attributes[1].value.accessPolicyWindow.base_ptr = reinterpret_cast<void*>(kB);
  CUlaunchConfig config = {100, 2, 3, 32, 4, 1, 0, nullptr, attributes, 2};
  Named named;
  flexlom::heat::names(Entry::cuLaunchKernelEx, named, &std::as_const(config), f,
                       static_cast<void**>(params), static_cast<void**>(nullptr));
  CHECK(words_of(named) == Words{kA, kB});
  CHECK(named.work == 100 * 2 * 3 * 32 * 4);
  CHECK(named.function == f);
  Named huge;
  flexlom::heat::names(Entry::cuLaunchKernel, huge, f, 0x7fffffffu, 65535u, 65535u, 1024u, 1u, 1u,
                       0u, CUstream{}, static_cast<void**>(params), static_cast<void**>(nullptr));
  CHECK(huge.work == ~uint64_t{0});
  Named null;
  flexlom::heat::names(Entry::cuLaunchKernelEx, null, static_cast<const CUlaunchConfig*>(nullptr),
                       f, static_cast<void**>(params), static_cast<void**>(nullptr));
  CHECK(null.count == 0);
}

TEST_CASE("the real parameters of the test kernels, by both kinds of handle") {
  note_pool();
  Session session;
  CUdeviceptr to = kA;
  CUdeviceptr from = kB;
  uint64_t count = 10;
  void* params[] = {&to, &from, &count};
  for (const CUfunction f : {session.function("flex_copy"), session.kernel("flex_copy")}) {
    for (int again = 0; again < 2; ++again) CHECK(launched(f, params) == Words{kA, kB});
  }
  for (const CUfunction f : {session.function("flex_empty"), session.kernel("flex_empty")}) {
    Named named;
    flexlom::heat::names(Entry::cuLaunchKernel, named, f, 1u, 1u, 1u, 1u, 1u, 1u, 0u, CUstream{},
                         static_cast<void**>(nullptr), static_cast<void**>(nullptr));
    CHECK(named.count == 0);
    CHECK(!named.unknown);
  }
}

TEST_CASE("host sides of copies are device memory when their address is") {
  note_pool();
  CUDA_MEMCPY3D copy = {};
  copy.srcMemoryType = CU_MEMORYTYPE_HOST;
  copy.srcHost = reinterpret_cast<void*>(kA);
  copy.srcDevice = kPool;  // not looked at
  copy.dstMemoryType = CU_MEMORYTYPE_ARRAY;
  copy.dstDevice = kPool;
  CHECK(words(Entry::cuMemcpy3D_v2, static_cast<const CUDA_MEMCPY3D*>(&copy)) == Words{kA});
  int host = 0;
  CHECK(words(Entry::cuMemcpyHtoD_v2, kB, static_cast<const void*>(&host), size_t{4}) == Words{kB});
  Named named;
  flexlom::heat::names(Entry::cuMemcpyHtoD_v2, named, kB, static_cast<const void*>(&host),
                       size_t{4});
  CHECK(std::string(static_cast<const char*>(named.function)) == "cuMemcpyHtoD_v2");
  CHECK(named.work == 0);
}

}  // namespace testing
