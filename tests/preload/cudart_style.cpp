// The runtime library's way in (shared or static, CUDA 13): one dlsym for "cuGetProcAddress_v2",
// then cuGetProcAddress through it at 11030 and 12000, and that pointer for everything else, each
// name twice: for the legacy and for the per-thread default stream.
#include <cuda.h>

#include <vector>

#include "tests/preload/check.hpp"

using namespace preload;

#undef cuGetProcAddress
using V1 = CUresult (*)(const char*, void**, int, cuuint64_t);
using V2 = CUresult (*)(const char*, void**, int, cuuint64_t, CUdriverProcAddressQueryResult*);

namespace {

V2 get = nullptr;

template <class F>
F resolve(const char* name, int version, cuuint64_t flags = 0) {
  void* found = nullptr;
  CUdriverProcAddressQueryResult status{};
  CHECK_OK(get(name, &found, version, flags, &status));
  CHECK(status == CU_GET_PROC_ADDRESS_SUCCESS);
  CHECK(found != nullptr);
  return reinterpret_cast<F>(found);
}

}  // namespace

int main() {
  void* driver = open_driver();
  const auto first = look_up<V2>(driver, "cuGetProcAddress_v2");
  void *v1 = nullptr, *v2 = nullptr;
  CHECK_OK(first("cuGetProcAddress", &v1, 11030, 0, nullptr));
  CHECK_OK(first("cuGetProcAddress", &v2, 12000, 0, nullptr));
  CHECK(v1 != nullptr && v2 != nullptr && v1 != v2);
  get = reinterpret_cast<V2>(v2);
  void* init_by_v1 = nullptr;
  CHECK_OK(reinterpret_cast<V1>(v1)("cuInit", &init_by_v1, 2000, 0));
  CHECK(init_by_v1 == resolve<void*>("cuInit", 2000));

  CHECK_OK(resolve<decltype(&cuInit)>("cuInit", 2000)(0));
  CUcontext context = nullptr;
  CHECK_OK(
      resolve<decltype(&cuDevicePrimaryCtxRetain)>("cuDevicePrimaryCtxRetain", 7000)(&context, 0));
  CHECK_OK(resolve<decltype(&cuCtxSetCurrent)>("cuCtxSetCurrent", 4000)(context));
  const auto alloc = resolve<decltype(&cuMemAlloc)>("cuMemAlloc", 3020);
  const auto release = resolve<decltype(&cuMemFree)>("cuMemFree", 3020);
  const auto memset_legacy = resolve<decltype(&cuMemsetD8Async)>("cuMemsetD8Async", 3020);
  const auto memset_thread = resolve<decltype(&cuMemsetD8Async)>("cuMemsetD8Async", 7000, 2);
  const auto sync_thread = resolve<decltype(&cuStreamSynchronize)>("cuStreamSynchronize", 7000, 2);
  const auto copy = resolve<decltype(&cuMemcpyDtoH)>("cuMemcpyDtoH", 3020);
  CHECK(memset_legacy != memset_thread);
  CHECK(in_flexlom(reinterpret_cast<void*>(alloc)) == under_flexlom());
  CHECK(in_flexlom(reinterpret_cast<void*>(memset_thread)) == under_flexlom());

  CUdeviceptr p = 0;
  constexpr size_t bytes = 1 << 20;
  CHECK_OK(alloc(&p, bytes));
  CHECK_OK(memset_legacy(p, 1, bytes / 2, nullptr));
  CHECK_OK(memset_thread(p + bytes / 2, 2, bytes / 2, nullptr));
  CHECK_OK(sync_thread(nullptr));
  std::vector<unsigned char> out(bytes);
  CHECK_OK(copy(out.data(), p, bytes));
  CHECK(out.front() == 1 && out[bytes / 2 - 1] == 1 && out[bytes / 2] == 2 && out.back() == 2);
  CHECK_OK(release(p));
  CHECK(release(p) == CUDA_ERROR_INVALID_VALUE);
  return verdict();
}
