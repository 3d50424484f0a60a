#include "tests/simcuda/testing.hpp"

#include "kernels/testing_host.h"

using namespace testing;

namespace {
template <class T>
T read(CUdeviceptr from) {
  T value{};
  REQUIRE_OK(cuMemcpyDtoH(&value, from, sizeof value));
  return value;
}
}  // namespace

TEST_CASE("the built-in kernels do what the real ones do") {
  Session session;
  const uint64_t words = 10000;
  Memory a(words * 4), b(words * 4), total(16);
  CHECK_OK(cuMemsetD8(total.address, 0, 16));
  CHECK_OK(launch(session.function("flex_fill"), nullptr, a.address, words, uint32_t{42}));
  CHECK(read<uint32_t>(a.address + 4 * 1234) == flexlom_testing_hash(42, 1234));
  CHECK_OK(launch(session.function("flex_copy"), nullptr, b.address, a.address, words));
  CHECK_OK(launch(session.function("flex_check"), nullptr, b.address, words, uint32_t{42},
                  total.address));
  CHECK(read<uint64_t>(total.address) == 0);
  CHECK_OK(launch(session.function("flex_add"), nullptr, b.address, uint64_t{7}, uint32_t{1}));
  CHECK_OK(launch(session.function("flex_check"), nullptr, b.address, words, uint32_t{42},
                  total.address));
  CHECK(read<uint64_t>(total.address) == 7);
  CHECK_OK(cuMemsetD32(a.address, 3, words));
  CHECK_OK(launch(session.function("flex_sum"), nullptr, a.address, words, total.address));
  CHECK(read<uint64_t>(total.address) == 7 + 3 * words);
  CHECK_OK(launch(session.function("flex_empty"), nullptr));

  const CUdeviceptr chain[] = {a.address + 8, a.address + 16, a.address};
  CHECK_OK(cuMemcpyHtoD(a.address, chain, sizeof chain));
  CHECK_OK(launch(session.function("flex_chase"), nullptr, a.address, uint64_t{4}, total.address));
  CHECK(read<uint64_t>(total.address) == a.address + 8);
}

TEST_CASE("launch arguments are taken at the call and checked") {
  Session session;
  Stream stream;
  Memory a(4096);
  CUfunction fill = session.function("flex_fill");
  uint64_t words = 1024;
  uint32_t seed = 1;
  void* list[] = {&a.address, &words, &seed};
  {
    Hold hold(session, stream.handle);
    CHECK_OK(cuLaunchKernel(fill, 1, 1, 1, 1, 1, 1, 0, stream.handle, list, nullptr));
    seed = 2;
    words = 0;
  }
  CHECK_OK(cuStreamSynchronize(stream.handle));
  CHECK(read<uint32_t>(a.address + 40) == flexlom_testing_hash(1, 10));

  struct {
    CUdeviceptr p;
    uint64_t words;
    uint32_t seed;
  } packed{a.address, 1024, 9};
  size_t bytes = 20;
  void* extra[] = {CU_LAUNCH_PARAM_BUFFER_POINTER, &packed, CU_LAUNCH_PARAM_BUFFER_SIZE, &bytes,
                   CU_LAUNCH_PARAM_END};
  CHECK_OK(cuLaunchKernel(fill, 1, 1, 1, 1, 1, 1, 0, nullptr, nullptr, extra));
  CHECK(read<uint32_t>(a.address + 4) == flexlom_testing_hash(9, 1));
  bytes = 19;
  CHECK(cuLaunchKernel(fill, 1, 1, 1, 1, 1, 1, 0, nullptr, nullptr, extra) ==
        CUDA_ERROR_INVALID_VALUE);

  CHECK(cuLaunchKernel(fill, 0, 1, 1, 1, 1, 1, 0, nullptr, list, nullptr) ==
        CUDA_ERROR_INVALID_VALUE);
  CHECK(cuLaunchKernel(fill, 1, 1, 1, 1025, 1, 1, 0, nullptr, list, nullptr) ==
        CUDA_ERROR_INVALID_VALUE);
  CHECK(cuLaunchKernel(fill, 1, 1, 1, 1, 1, 1, 0, nullptr, nullptr, nullptr) ==
        CUDA_ERROR_INVALID_VALUE);
  CHECK(cuLaunchKernel(nullptr, 1, 1, 1, 1, 1, 1, 0, nullptr, list, nullptr) ==
        CUDA_ERROR_INVALID_HANDLE);
  CUlaunchConfig config{};
  config.gridDimX = config.gridDimY = config.gridDimZ = 1;
  config.blockDimX = config.blockDimY = config.blockDimZ = 1;
  words = 4;
  CHECK_OK(cuLaunchKernelEx(&config, fill, list, nullptr));
  CHECK_OK(cuLaunchCooperativeKernel(fill, 1, 1, 1, 1, 1, 1, 0, nullptr, list));
  CHECK_OK(cuCtxSynchronize());
}

TEST_CASE("functions of modules and kernels of libraries") {
  Session session;
  CUfunction none = nullptr;
  CHECK(cuModuleGetFunction(&none, session.module, "no_such") == CUDA_ERROR_NOT_FOUND);
  CUfunction function = session.function("flex_check");
  size_t offset = 0, bytes = 0;
  CHECK_OK(cuFuncGetParamInfo(function, 2, &offset, &bytes));
  CHECK(offset == 16);
  CHECK(bytes == 4);
  CHECK_OK(cuFuncGetParamInfo(function, 3, &offset, nullptr));
  CHECK(offset == 24);
  CHECK(cuFuncGetParamInfo(function, 4, &offset, &bytes) == CUDA_ERROR_INVALID_VALUE);
  const char* name = nullptr;
  CHECK_OK(cuFuncGetName(&name, function));
  CHECK(std::string(name) == "flex_check");

  CUlibrary library = nullptr;
  CUkernel kernel = nullptr;
  REQUIRE_OK(cuLibraryLoadData(&library, "image", nullptr, nullptr, 0, nullptr, nullptr, 0));
  REQUIRE_OK(cuLibraryGetKernel(&kernel, library, "flex_fill"));
  CHECK_OK(cuKernelGetParamInfo(kernel, 0, &offset, &bytes));
  CHECK(bytes == 8);
  CHECK(cuFuncGetParamInfo(reinterpret_cast<CUfunction>(kernel), 0, &offset, &bytes) ==
        CUDA_ERROR_INVALID_HANDLE);
  CHECK(cuKernelGetParamInfo(reinterpret_cast<CUkernel>(function), 0, &offset, &bytes) ==
        CUDA_ERROR_INVALID_HANDLE);
  Memory a(64);
  CHECK_OK(
      launch(reinterpret_cast<CUfunction>(kernel), nullptr, a.address, uint64_t{16}, uint32_t{3}));
  CHECK(read<uint32_t>(a.address + 4) == flexlom_testing_hash(3, 1));
  CUfunction concrete = nullptr;
  CHECK_OK(cuKernelGetFunction(&concrete, kernel));
  CHECK_OK(cuFuncGetParamInfo(concrete, 0, &offset, &bytes));
  CHECK_OK(cuLibraryUnload(library));
  CHECK(launch(concrete, nullptr, a.address, uint64_t{1}, uint32_t{3}) ==
        CUDA_ERROR_INVALID_HANDLE);
  int value = 0;
  CHECK_OK(cuFuncGetAttribute(&value, CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK, function));
  CHECK(value == 1024);
  int grid = 0, block = 0;
  CHECK_OK(cuOccupancyMaxPotentialBlockSize(&grid, &block, function, nullptr, 0, 256));
  CHECK(block == 256);
}
