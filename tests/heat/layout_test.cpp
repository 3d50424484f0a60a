// Layouts are asked for once, and forgotten with what they were about.
#include <atomic>
#include <thread>

#include "kernels/testing.h"
#include "tests/heat/testing.h"

namespace testing {
namespace {

using flexlom::heat::Layout;
using flexlom::heat::layout_counts;
using flexlom::heat::layout_of;

constexpr CUdeviceptr kA = kPool + 64 * kMiB;

Words launched(CUfunction f, void** params) {
  return words(Entry::cuLaunchKernel, f, 1u, 1u, 1u, 1u, 1u, 1u, 0u, CUstream{}, params,
               static_cast<void**>(nullptr));
}

}  // namespace

TEST_CASE("the driver is asked once") {
  FakeKernels kernels;
  const CUfunction f = kernels.function(0x1000, {{0, 8}, {8, 8}, {16, 4}});
  const CUfunction k = kernels.kernel(0x1008, {{0, 8}, {8, 8}, {16, 4}});
  const Layout* first = layout_of(f);
  REQUIRE(first != nullptr);
  CHECK(first->known);
  CHECK(first->params == 3);
  CHECK(first->packed_bytes == 20);
  CHECK(first->runs.size() == 2);
  CHECK(layout_of(k) == first);  // equal layouts are one
  const unsigned asked = kernels.questions();
  for (int i = 0; i < 100; ++i) {
    CHECK(layout_of(f) == first);
    CHECK(layout_of(k) == first);
  }
  CHECK(kernels.questions() == asked);
}

TEST_CASE("many functions") {
  FakeKernels kernels;
  for (uintptr_t i = 1; i <= 10000; ++i) kernels.kernel(i * 8, {{0, 8 * (i % 50 + 1)}});
  for (int round = 0; round < 2; ++round) {
    for (uintptr_t i = 1; i <= 10000; ++i) {
      const Layout* layout = layout_of(reinterpret_cast<void*>(i * 8));
      REQUIRE(layout != nullptr);
      REQUIRE(layout->packed_bytes == 8 * (i % 50 + 1));
    }
  }
  CHECK(kernels.questions() == 10000 * 3);
}

TEST_CASE("a handle that is used again after an unload has its new layout") {
  note_pool();
  FakeKernels kernels;
  Session session;
  const CUfunction f = kernels.function(0x1000, {{0, 8}, {8, 8}});
  CUdeviceptr a = kA;
  void* params[] = {&a, &a};
  CHECK(launched(f, params) == Words{kA, kA});
  SECTION("of a module") {
    CUmodule module = nullptr;
    REQUIRE_OK(cuModuleLoadData(&module, flexlom_testing_fatbin));
    CHECK_OK(flexlom::own::cuModuleUnload(module));
  }
  SECTION("of a library") {
    CUlibrary library = nullptr;
    REQUIRE_OK(cuLibraryLoadData(&library, flexlom_testing_fatbin, nullptr, nullptr, 0, nullptr,
                                 nullptr, 0));
    CHECK_OK(flexlom::own::cuLibraryUnload(library));
  }
  SECTION("of a context") { flexlom::heat::forget_handles(); }
  // One parameter now: the second may not be touched.
  kernels.kernel(0x1000, {{0, 8}});
  params[1] = reinterpret_cast<void*>(1);
  CHECK(launched(f, params) == Words{kA});
}

TEST_CASE("an unload that the driver refuses keeps its code, and costs a question") {
  FakeKernels kernels;
  const CUfunction f = kernels.function(0x1000, {{0, 8}});
  const Layout* before = layout_of(f);
  const unsigned asked = kernels.questions();
  CHECK(flexlom::own::cuModuleUnload(nullptr) != CUDA_SUCCESS);
  CHECK(layout_of(f) == before);
  CHECK(kernels.questions() > asked);
}

TEST_CASE("nothing is known of what is no function, and it is asked about again") {
  note_pool();
  FakeKernels kernels;
  const auto f = reinterpret_cast<CUfunction>(uintptr_t{0x9000});
  const auto unknown = layout_counts().unknown;
  void* params[] = {reinterpret_cast<void*>(1)};
  Named named;
  flexlom::heat::names(Entry::cuLaunchKernel, named, f, 1u, 1u, 1u, 1u, 1u, 1u, 0u, CUstream{},
                       static_cast<void**>(params), static_cast<void**>(nullptr));
  CHECK(named.count == 0);
  CHECK(named.unknown);
  CHECK(layout_counts().unknown == unknown + 1);
  kernels.function(0x9000, {{0, 8}});
  CUdeviceptr a = kA;
  params[0] = &a;
  CHECK(launched(f, params) == Words{kA});
}

TEST_CASE("a driver without the questions") {
  note_pool();
  Replaced func(Entry::cuFuncGetParamInfo, nullptr);
  Replaced kernel(Entry::cuKernelGetParamInfo, nullptr);
  flexlom::heat::forget_handles();
  void* params[] = {reinterpret_cast<void*>(1)};
  CHECK(launched(reinterpret_cast<CUfunction>(uintptr_t{0x9100}), params).empty());
  flexlom::heat::forget_handles();
}

// Stands for an allocator hook of the program that uses the driver while we ask and allocate.
namespace {
CUresult info_in_hook(CUkernel, size_t i, size_t* offset, size_t* bytes) {
  void* params[] = {reinterpret_cast<void*>(1)};
  Named named;
  flexlom::heat::names(Entry::cuLaunchKernel, named, reinterpret_cast<CUfunction>(&params), 1u, 1u,
                       1u, 1u, 1u, 1u, 0u, CUstream{}, static_cast<void**>(params),
                       static_cast<void**>(nullptr));
  CHECK(named.unknown);
  flexlom::heat::forget_handles();
  *offset = 0;
  *bytes = 8;
  return i == 0 ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}
}  // namespace

TEST_CASE("launches and unloads from within an allocation of ours") {
  note_pool();
  FakeKernels kernels;
  const CUfunction other = kernels.function(0x1000, {{0, 8}});
  const Layout* before = layout_of(other);
  const auto flushes = layout_counts().flushes;
  Replaced kernel(Entry::cuKernelGetParamInfo, reinterpret_cast<void*>(&info_in_hook));
  CUdeviceptr a = kA;
  void* params[] = {&a};
  CHECK(launched(reinterpret_cast<CUfunction>(uintptr_t{0x2000}), params) == Words{kA});
  CHECK(layout_counts().flushes == flushes + 1);  // put off, not forgotten
  CHECK(layout_of(other) == before);
}

TEST_CASE("launches while handles are forgotten by another thread") {
  note_pool();
  FakeKernels kernels;
  constexpr uintptr_t kHandles = 300;
  for (uintptr_t i = 1; i <= kHandles; ++i) kernels.kernel(i * 16, {{0, 8}, {8, 8 * (i % 4 + 1)}});
  std::atomic<bool> stop{false};
  std::atomic<unsigned> wrong{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 3; ++t) {
    threads.emplace_back([&] {
      CUdeviceptr block[4] = {kA, kA + 1, kA + 2, kA + 3};
      CUdeviceptr a = kA + 9;
      void* params[] = {&a, block};
      for (int round = 0; round < 40; ++round) {
        for (uintptr_t i = 1; i <= kHandles; ++i) {
          const Words found = launched(reinterpret_cast<CUfunction>(i * 16), params);
          if (found.size() != 1 + i % 4 + 1) ++wrong;
        }
      }
    });
  }
  std::thread forgetter([&] {
    while (!stop) {
      flexlom::heat::forget_handles();
      std::this_thread::yield();
    }
  });
  for (std::thread& t : threads) t.join();
  stop = true;
  forgetter.join();
  CHECK(wrong == 0);
}

}  // namespace testing
